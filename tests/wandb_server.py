"""A W&B server as far as uploads go: it keeps what `wandb` sends, and answers what a run needs to be resumed."""

from __future__ import annotations

import gzip
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENTITY = "somebody"


@dataclass
class Uploaded:
    """What the server has of one run."""

    config: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    """Project, group, job type, name, tags."""
    files: dict[str, list[str]] = field(default_factory=dict)
    """Lines of history, summary and events, each where its offset puts it."""
    artifacts: list[str] = field(default_factory=list)

    def lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.files.get(f"wandb-{name}.jsonl", [])]

    @property
    def history(self) -> list[dict[str, Any]]:
        return self.lines("history")

    @property
    def summary(self) -> dict[str, Any]:
        found = self.files.get("wandb-summary.json", ["{}"])
        summary = json.loads(found[-1])
        assert isinstance(summary, dict)
        return summary


class Server:
    """Listens on this machine; `runs` has what was uploaded, by id, and `queries` what was asked."""

    def __init__(self) -> None:
        self.runs: dict[str, Uploaded] = {}
        self.queries: list[tuple[str, dict[str, Any]]] = []
        self.lock = threading.Lock()
        server = self

        class Handler(_Handler):
            lab = server

        self._http = _Http(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def close(self) -> None:
        self._http.shutdown()

    def answer(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        """The data of a GraphQL answer."""
        self.queries.append((name, given))
        if name == "UpsertBucket":
            run = self.runs.setdefault(given["name"], Uploaded())
            run.about |= {key: value for key, value in given.items() if value is not None}
            run.config |= json.loads(given.get("config") or "{}")
            bucket = {"id": given["name"], "name": given["name"], "displayName": given.get("displayName")}
            project = {"id": "p", "name": given.get("project"), "entity": {"id": "e", "name": ENTITY}}
            return {"upsertBucket": {"bucket": {**bucket, "project": project}, "inserted": True}}
        if name == "RunResumeStatus":
            return {"model": {"id": "p", "name": given["project"], "bucket": self._resumed(given["name"])}}
        if name == "CreateArtifact":
            made = given["input"]
            self.runs[made["runName"]].artifacts.append(made["artifactCollectionName"])
            sequence = {"latestArtifact": {"id": "a", "versionIndex": 0}}
            artifact = {
                "id": made["artifactCollectionName"],
                "state": "COMMITTED",
                "artifactSequence": sequence,
            }
            return {"createArtifact": {"artifact": artifact}}
        if name == "CreateRunFiles":
            files = [{"name": file, "uploadUrl": f"{self.url}/put"} for file in given["files"]]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}
        if name in ("Viewer", "GetDefaultEntity"):
            return {
                "viewer": {
                    "id": "v",
                    "entity": ENTITY,
                    "username": ENTITY,
                    "flags": "{}",
                    "teams": {"edges": []},
                }
            }
        return {}

    def stream(self, run: str, files: dict[str, Any]) -> None:
        """Lines of a run's files, from an offset on."""
        for name, part in files.items():
            lines = self.runs[run].files.setdefault(name, [])
            offset = int(part.get("offset") or 0)
            lines[offset : offset + len(part["content"])] = part["content"]

    def _resumed(self, name: str) -> dict[str, Any] | None:
        if name not in self.runs:
            return None
        run = self.runs[name]
        history, events = (run.files.get(f"wandb-{kind}.jsonl", []) for kind in ("history", "events"))
        return {
            "id": name,
            "name": name,
            "displayName": run.about.get("displayName"),
            "config": json.dumps(run.config),
            "summaryMetrics": json.dumps(run.summary),
            "historyLineCount": len(history),
            "eventsLineCount": len(events),
            "logLineCount": 0,
            "historyTail": json.dumps(history[-1:]),
            "eventsTail": json.dumps(events[-1:]),
            "tags": run.about.get("tags") or [],
            # A run without telemetry counts as never begun.
            "wandbConfig": json.dumps({"t": {"1": [1]}}),
        }


class _Http(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """A client may hang up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    lab: Server

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self._send({})

    def do_PUT(self) -> None:
        self._body()
        self._send({})

    def do_POST(self) -> None:
        body = self._body()
        if self.path.endswith("/graphql"):
            asked = json.loads(body)
            name = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
            with self.lab.lock:
                self._send({"data": self.lab.answer(name[1] if name else "", asked.get("variables") or {})})
        elif stream := re.search(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
            with self.lab.lock:
                self.lab.stream(stream[1], json.loads(body).get("files") or {})
            self._send({})
        else:
            self._send({})

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _send(self, answer: dict[str, Any]) -> None:
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
