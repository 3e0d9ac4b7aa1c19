"""A server that speaks as much of OpenAI's protocol as the tests need, with every fault that one may have."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server:
    """What it was sent, and what it does next."""

    def __init__(self, write: Callable[[dict[str, Any]], str]) -> None:
        self.write = write
        self.bodies: list[bytes] = []
        self.keys: list[str | None] = []
        #: Faults of the next requests, first first: a status, "broken", "cut", "slow", "redirect" or "strange".
        self.faults: list[Any] = []
        self.finish = "stop"
        self.url = ""


@contextmanager
def serving(write: Callable[[dict[str, Any]], str]) -> Iterator[Server]:
    """Serve on the loopback until the block ends."""
    state = Server(write)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.bodies.append(body)
            state.keys.append(self.headers.get("Authorization"))
            fault = state.faults.pop(0) if state.faults else None
            values = json.loads(body)
            choice = {"message": {"content": state.write(values)}, "finish_reason": state.finish}
            usage = {"prompt_tokens": len(body) // 4, "completion_tokens": 7}
            answer = json.dumps({"choices": [choice], "usage": usage}).encode()
            if isinstance(fault, int):
                self.send_response(fault)
                self.send_header("Retry-After", "3")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if fault == "redirect":
                self.send_response(307)
                self.send_header("Location", "http://example.invalid/v1/chat/completions")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if fault == "slow":
                time.sleep(1.0)
            if fault == "broken":
                answer = answer[: len(answer) // 2]
            if fault == "strange":
                answer = b'{"choices": []}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer) + (99 if fault == "cut" else 0)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
