"""Who writes: an endpoint that speaks OpenAI's protocol, a folder on this machine, or a journal of earlier replies."""

from __future__ import annotations

import ipaddress
import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from minilm_lab.errors import LabError

if TYPE_CHECKING:
    from minilm_lab.models.language_model import LanguageModel

Messages = Sequence[Mapping[str, str]]
#: Answers of a server after which another try may help.
PASSING = (408, 409, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Request:
    """One question to a teacher; the same request is never sent twice."""

    messages: tuple[tuple[str, str], ...]
    """(role, content) of each."""
    max_tokens: int
    temperature: float
    seed: int

    def body(self, model: str) -> bytes:
        """As the body of a POST, UTF-8."""
        values = {
            "model": model,
            "messages": [{"role": role, "content": content} for role, content in self.messages],
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
        }
        return json.dumps(values, ensure_ascii=False).encode()

    def most_tokens(self) -> int:
        """No tokenizer makes more: a token is a byte at least; 16 a message for what templates put around."""
        return sum(len(content.encode()) + 16 for _, content in self.messages) + self.max_tokens


@dataclass(frozen=True)
class Reply:
    """What came back."""

    text: str
    tokens_in: int
    tokens_out: int
    finished: bool
    """false: cut at max_tokens."""

    def plain(self) -> dict[str, Any]:
        """For a journal."""
        return asdict(self)


class Teacher(ABC):
    """Answers requests, some at a time."""

    name: str
    """For records: `made_by` is teacher:<name>."""
    host: str | None = None
    """Where texts go; None: they stay in this process."""
    plain: bool = False
    """Whether it was tuned on these tasks: asked as an author is, and what it says is the answer, no JSON."""
    at_once: int = 1

    @abstractmethod
    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        """The replies in order; LabError where one cannot be had."""

    @property
    def is_here(self) -> bool:
        """Whether texts stay on this machine: no host, or one of the loopback."""
        return self.host is None or is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether a name or an address means this machine; names that only might are taken as others."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class OpenAI(Teacher):
    """Any server with /v1/chat/completions: vLLM, llama.cpp, Ollama, or one that takes money."""

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key_variable: str = "OPENAI_API_KEY",
        timeout: float = 60.0,
        tries: int = 5,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """url: such as http://127.0.0.1:8000/v1; the key is read from the environment alone, and may be missing."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise LabError(
                f"teacher.url={url}: give http(s)://host[:port]/v1, without a user, a password or a query; keys come from "
                f"the environment ({key_variable})"
            )
        self.url, self.model, self.name = url.rstrip("/"), model, model
        self.host = parts.hostname
        self.key_variable, self.timeout, self.tries, self.sleep = key_variable, timeout, tries, sleep
        if parts.scheme == "http" and not self.is_here and os.environ.get(key_variable):
            raise LabError(f"teacher.url={url}: a key would go over http in the clear; use https")

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        """See `Teacher.answer`; what may pass is tried again, and waits as long as the server asks for."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Reply:
        httpx = import_httpx()
        key = os.environ.get(self.key_variable, "")
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        said = ""
        for attempt in range(self.tries):
            wait = min(60.0, 2.0**attempt)
            try:
                # No redirects: what is sent goes to this host and to no other.
                answer = httpx.post(
                    f"{self.url}/chat/completions",
                    content=request.body(self.model),
                    headers=headers,
                    timeout=self.timeout,
                    follow_redirects=False,
                )
                if answer.status_code == 200:
                    return _reply(answer.json())
                said = f"status {answer.status_code}"
                if answer.status_code not in PASSING:
                    break
                wait = _asked_wait(answer.headers.get("retry-after"), wait)
            except httpx.TransportError as error:  # time-outs, refused connections, streams that were cut
                said = type(error).__name__
            except (ValueError, KeyError, IndexError, TypeError) as error:
                said = f"a reply that is no chat completion ({type(error).__name__})"
            if attempt + 1 < self.tries:
                self.sleep(wait)
        raise LabError(
            f"teacher.url={self.url}: {said}, tried {attempt + 1} times. What was answered is in the journal: start the "
            "same command again, and nothing is asked twice"
        )


def _reply(values: Any) -> Reply:
    choice, usage = values["choices"][0], values.get("usage") or {}
    text = choice["message"]["content"]
    if not isinstance(text, str):
        raise ValueError("no text")
    return Reply(
        text,
        int(usage.get("prompt_tokens", 0)),
        int(usage.get("completion_tokens", 0)),
        choice.get("finish_reason") != "length",
    )


def _asked_wait(said: str | None, otherwise: float) -> float:
    try:
        return min(600.0, max(0.0, float(said))) if said is not None else otherwise
    except ValueError:
        return otherwise


class Local(Teacher):
    """A causal model on this machine, through the lab's own engine: the same requests give the same replies."""

    def __init__(self, model: LanguageModel, name: str, *, plain: bool, at_once: int = 16) -> None:
        self.model, self.name, self.plain, self.at_once = model, name, plain, at_once

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        """See `Teacher.answer`; sampling depends on the request's seed alone, not on its batch."""
        from minilm_lab.models.decoding import Decoding

        replies: list[Reply] = []
        prompts = [self.model.chat([{"role": r, "content": c} for r, c in q.messages]) for q in requests]
        first = requests[0]
        method = "greedy" if first.temperature == 0 else "sample"
        decoding = Decoding(method=method, length=first.max_tokens, temperature=first.temperature or 1.0)
        answers = self.model.generate(prompts, decoding, rows=[request.seed for request in requests])
        for prompt, answer in zip(prompts, answers, strict=True):
            text = self.model.text(answer.tokens)
            replies.append(Reply(text, len(prompt), len(answer.tokens), answer.ended))
        return replies


def import_httpx() -> Any:
    """httpx, or the LabError that says how to get it."""
    try:
        import httpx
    except ImportError as error:
        raise LabError("teacher=openai needs httpx: pip install 'minilm-lab[authoring]'") from error
    return httpx
