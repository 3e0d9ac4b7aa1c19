"""Expansion against a local server: faults, money, what is taken and what left the machine."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from lab import Lab
from rouge_score.rouge_scorer import RougeScorer
from tasks.instructions.material import model_of, tokenizer_of

from minilm_lab.errors import LabError
from minilm_lab.models.language_model import LanguageModel
from minilm_lab.studies.authoring import records
from minilm_lab.studies.authoring.expansion import filters
from minilm_lab.studies.authoring.expansion.budget import Budget, Spent
from minilm_lab.studies.authoring.expansion.expansion import Expander, bytes_sent
from minilm_lab.studies.authoring.expansion.journal import Journal, key_of
from minilm_lab.studies.authoring.expansion.replay import Replay
from minilm_lab.studies.authoring.expansion.settings import Expansion, TeacherSettings
from minilm_lab.studies.authoring.expansion.teachers import Local, OpenAI, Reply, Request, is_loopback
from minilm_lab.studies.authoring.gathering import gather, open_records
from minilm_lab.studies.authoring.records import Record

from .server import Server, serving

COLOURS = [
    "amber",
    "blue",
    "coral",
    "dusky",
    "ebony",
    "fawn",
    "green",
    "hazel",
    "indigo",
    "jade",
    "khaki",
    "lilac",
    "mauve",
    "navy",
    "ochre",
]


def ask(text: str = "Hi", **settings: Any) -> Request:
    return Request((("user", text),), **{"max_tokens": 20, "temperature": 0.0, "seed": 1, **settings})


def teacher_at(server: Server, **settings: Any) -> tuple[OpenAI, list[float]]:
    waits: list[float] = []
    return OpenAI(server.url, "m", **{"timeout": 5.0, "sleep": waits.append, **settings}), waits


def advertise(values: dict[str, Any]) -> str:
    """An advertisement from the title in the last input; of no two alike."""
    title = values["messages"][-1]["content"].rsplit("Title: ", 1)[1].splitlines()[0]
    words = random.Random(title).sample(COLOURS, 6)
    return json.dumps({"output": f"Now here: {title.lower()}, {' '.join(words)}."})


def expander(shops: Path, teacher: Any, **settings: Any) -> Expander:
    chosen = Expansion(**{"tasks": ["ads"], "per_task": 6, "examples": 0, **settings})
    data = gather(None, None, shops, 0.3, True)
    return Expander(
        chosen, teacher, data.train, data.dev, open_records(None, None, shops, 0.3, chosen.relabel)
    )


@pytest.mark.parametrize("fault", [429, 503, "broken", "cut", "strange"])
def test_what_passes_is_tried_again(fault: Any) -> None:
    with serving(lambda values: "yes") as server:
        server.faults = [fault, fault]
        teacher, waits = teacher_at(server)
        (reply,) = teacher.answer([ask()])
        assert reply == Reply("yes", len(server.bodies[0]) // 4, 7, True)
        assert len(server.bodies) == 3 and len(set(server.bodies)) == 1
        assert waits == ([3.0, 3.0] if isinstance(fault, int) else [1.0, 2.0])


def test_what_does_not_pass_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda values: "yes") as server:
        teacher, _ = teacher_at(server, tries=2, timeout=0.2)
        for faults, said, tries in (
            ([401], "status 401, tried 1", 1),
            (["redirect"], "status 307, tried 1", 1),
            ([429, 429], "status 429, tried 2", 2),
            (["slow", "slow"], "ReadTimeout, tried 2", 2),
        ):
            server.faults, server.bodies = list(faults), []
            with pytest.raises(LabError, match=said):
                teacher.answer([ask()])
            assert len(server.bodies) == tries
        monkeypatch.setenv("SHOP_KEY", "secret-secret")
        keyed, _ = teacher_at(server, key_variable="SHOP_KEY")
        server.faults = []
        keyed.answer([ask()])
        assert server.keys[-1] == "Bearer secret-secret" and server.keys[0] is None
    with pytest.raises(LabError, match="in the clear"):
        OpenAI("http://example.invalid/v1", "m", key_variable="SHOP_KEY")
    for url in ("ftp://x/v1", "https://me:pass@x/v1", "https://x/v1?key=3"):
        with pytest.raises(LabError, match="without a user"):
            OpenAI(url, "m")


def test_which_hosts_are_this_machine() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.9.9.9", "::1")))
    assert not any(
        map(is_loopback, ("127.0.0.1.example.invalid", "localhost.example.invalid", "10.0.0.1", "0.0.0.0"))
    )


def test_an_expansion_and_the_same_again_without_a_request(shops: Path, tmp_path: Path) -> None:
    with serving(advertise) as server:
        teacher, _ = teacher_at(server)
        first = expander(shops, teacher).run(tmp_path)
        assert len(first.accepted) == 6 and first.stopped == "", first.reasons
        asked = len(server.bodies)
        assert asked == first.asked == first.requests
        for record in first.accepted:
            assert record.made_by == "teacher:m" and record.value("title").lower() in record.output
        assert list(records.read(tmp_path / "records.jsonl")) == first.accepted
        assert bytes_sent(tmp_path / "sent.jsonl") == {"127.0.0.1": sum(map(len, server.bodies))}
        again = expander(shops, teacher).run(tmp_path)
        assert again.accepted == first.accepted and again.asked == 0 and len(server.bodies) == asked
        judged = {record.thing() for record in gather(None, None, shops, 0.3, True).dev}
        assert not judged & {record.thing() for record in first.accepted}
    replayed = expander(shops, Replay(tmp_path / "journal.jsonl", "m"))
    (tmp_path / "elsewhere").mkdir()
    assert replayed.run(tmp_path / "elsewhere").accepted == first.accepted
    assert not (tmp_path / "elsewhere" / "sent.jsonl").exists()
    with pytest.raises(LabError, match="no reply to one"):
        expander(shops, Replay(tmp_path / "journal.jsonl", "m"), temperature=0.1).run(tmp_path / "elsewhere")


def test_killed_and_started_again_nothing_is_paid_twice(shops: Path, tmp_path: Path) -> None:
    with serving(advertise) as server:
        whole = expander(shops, teacher_at(server)[0]).run(tmp_path)
        (tmp_path / "b").mkdir()
        server.bodies.clear()
        server.faults = [None, None, 401]  # the third request ends the first start
        with pytest.raises(LabError, match="nothing is asked twice"):
            expander(shops, teacher_at(server)[0]).run(tmp_path / "b")
        journal = tmp_path / "b" / "journal.jsonl"
        with journal.open("a") as stream:
            stream.write('{"key": "cut off in the mid')  # as a crash leaves it
        again = expander(shops, teacher_at(server)[0]).run(tmp_path / "b")
        assert again.accepted == whole.accepted
        answered = [body for n, body in enumerate(server.bodies) if n != 2]
        assert len(answered) == len(set(answered)) == whole.asked
        assert journal.read_bytes() == (tmp_path / "journal.jsonl").read_bytes()


def test_the_budget_stops_before_the_request_that_would_exceed_it(shops: Path, tmp_path: Path) -> None:
    with serving(advertise) as server:
        probe = expander(shops, teacher_at(server)[0])
        _, request = next(probe.requests("ads"))
        limit = request.most_tokens() - 1
        none = expander(shops, teacher_at(server)[0], budget=Budget(tokens=limit)).run(tmp_path)
        assert not server.bodies and none.stopped.startswith("budget: 0 of") and not none.accepted
        (tmp_path / "b").mkdir()
        some = expander(shops, teacher_at(server)[0], budget=Budget(tokens=1500)).run(tmp_path / "b")
        used = sum(
            r.tokens_in + r.tokens_out for r in Journal(tmp_path / "b" / "journal.jsonl").replies.values()
        )
        assert len(server.bodies) > 0 and used <= 1500 and some.stopped.startswith("budget")
        sent = len(server.bodies)
        # What an earlier start paid counts for the next one.
        more = expander(shops, teacher_at(server)[0], budget=Budget(tokens=1500)).run(tmp_path / "b")
        assert len(server.bodies) == sent and more.accepted == some.accepted
    money = Budget(money=0.001, price_in=1.0, price_out=10.0)
    money.before(ask("x" * 700, max_tokens=20))  # 716 + 200 millionths
    with pytest.raises(Spent):
        money.before(ask("x" * 785, max_tokens=20))
    money.spend(Reply("", 500, 30, True))
    assert money.paid == pytest.approx(0.0008)
    with pytest.raises(LabError, match="without prices"):
        Budget(money=1.0)
    # No tokenizer makes more tokens than the bound.
    text = "Écouteurs – naïve 音楽 🎧 \n\n<|im_end|>"
    assert len(tokenizer_of()(text).input_ids) <= ask(text, max_tokens=0).most_tokens()


def test_the_estimate_sends_nothing(shops: Path) -> None:
    with serving(advertise) as server:
        made = expander(shops, teacher_at(server)[0], budget=Budget(price_in=2.0), requests_per_task=5)
        told = made.estimate()
        assert not server.bodies and told["requests"] == 5 and told["host"] == "127.0.0.1"
        requests = [request for _, request in made.requests("ads")]
        assert told["bytes"] == sum(len(r.body("m")) for r in requests)
        assert told["tokens_at_most"] == sum(r.most_tokens() for r in requests)


class Elsewhere(OpenAI):
    """A teacher on another machine that answers all the same, and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__("https://teacher.example.invalid/v1", "m")
        self.asked: list[Request] = []

    def answer(self, requests):
        self.asked += requests
        return [Reply('{"output": "yes"}', 1, 1, True) for _ in requests]


def test_what_is_private_does_not_leave(shops: Path, tmp_path: Path) -> None:
    teacher = Elsewhere()
    settings = {"tasks": ["intent", "ads"], "relabel": True, "requests_per_task": 30, "examples": 3}
    refused = expander(shops, teacher, **settings).run(tmp_path)
    assert refused.reasons["private"] >= 30 - 5 and teacher.asked
    private = [review.casefold() for n in range(50) for review in (f"dress number {n}", f"head {n}")]
    for request in teacher.asked:
        text = " ".join(content for _, content in request.messages).casefold()
        assert not any(secret in text for secret in private)
    allowed = Elsewhere()
    (tmp_path / "b").mkdir()
    made = expander(shops, allowed, allow_remote_private=True, **settings).run(tmp_path / "b")
    assert made.reasons["private"] == 0
    assert any("dress number" in r.messages[-1][1] for r in allowed.asked)
    sizes = sum(len(r.body("m")) for r in allowed.asked)
    assert bytes_sent(tmp_path / "b" / "sent.jsonl") == {"teacher.example.invalid": sizes}


def test_one_more_try_for_broken_json_and_every_rejection_has_a_reason(shops: Path, tmp_path: Path) -> None:
    seen: dict[str, int] = {}

    def write(values: dict[str, Any]) -> str:
        content = values["messages"][-1]["content"]
        seen[content] = seen.get(content, 0) + 1
        return "no json" if seen[content] == 1 or "X1" in content else advertise(values)

    with serving(write) as server:
        made = expander(shops, teacher_at(server)[0], per_task=3).run(tmp_path)
    assert len(made.accepted) == 3 and set(seen.values()) == {2}
    lines = [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert sum(made.reasons.values()) == len(lines) == made.reasons["no_json"]
    assert set(made.reasons) <= set(filters.REASONS)


def test_replies_are_read_strictly() -> None:
    assert filters.output_of('{"output": " a\\n b"}') == "a b"
    assert filters.output_of('```json\n{"output": "a"}\n```') == "a"
    for bad in (
        "a",
        '{"output": 3}',
        '{"output": "a", "why": "b"}',
        '["a"]',
        'Sure: {"output": "a"}',
        '{"output": "a',
    ):
        assert filters.output_of(bad) is None


def record(task: str, output: str = "", labels: list[str] | None = None, **given: str) -> Record:
    whose = {"seller": given, "customer": {}, "platform": {}}
    query = given.pop("query", None)
    if query:
        whose["customer"] = {"query": query}
    keys = [*given, *(["query"] if query else [])]
    return Record(
        task, "p/x", whose, keys, "ad" if task == "ads" else "title", output, labels, "", "", "data"
    )


@pytest.mark.parametrize(
    ("made", "output", "reason"),
    [
        (record("ads", title="Acme X1"), "Buy the Acme X1.", None),
        (record("ads", title="Acme X1"), "Buy the Acme X1 at 50% off.", "invented"),
        (record("ads", title="Acme"), "As an AI I like it", "refusal"),
        (record("ads", title="Acme"), "Write to me@shop.com", "personal"),
        (record("ads", title="Acme"), "Call 555 123 4567 now", "personal"),
        (record("ads", title="Acme"), "word " * 121, "long"),
        (record("ads", title="Acme"), "…", "empty"),
        (record("classification", labels=["Lamps"], title="x"), "lamps", "label"),
        (record("classification", labels=["Lamps"], title="x"), "Lamps", None),
        (record("rewriting", title="Acme", query="red lamp"), "Acme red lamp", None),
        (record("rewriting", title="Acme", query="red lamp"), "Acme lamp", "query"),
        (record("rewriting", title="Acme", query="lamp", modelno="X-100"), "Acme lamp", "numbers"),
        (record("rewriting", title="Acme", query="lamp", modelno="X-100"), "Acme lamp X-100", None),
    ],
)
def test_what_is_taken(made: Record, output: str, reason: str | None) -> None:
    assert filters.reason_against(made, output) == reason


def test_labels_are_spelt_as_the_list_does() -> None:
    assert (
        filters.canonical(record("classification", labels=["Sofas & Co"], title="x"), " sofas & co.")
        == "Sofas & Co"
    )


def test_near_is_the_librarys_rouge_with_few_of_the_pairs_computed() -> None:
    draw = random.Random(4)
    texts = [" ".join(draw.choice(COLOURS) for _ in range(draw.randint(1, 14))) for _ in range(60)]
    texts += [" ".join(words[: len(words) - 1]) for words in (text.split() for text in texts[:20])]
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    near, found = filters.Near(), []
    for n, text in enumerate(texts):
        expected = any(scorer.score(old, text)["rougeL"].fmeasure >= 0.7 for old in texts[:n])
        found.append(near.has(text))
        assert found[-1] == expected, text
        near.add(text)
    assert any(found) and not all(found) and near.computed < near.pairs / 4


def test_a_model_of_this_machine_writes_in_its_own_words(shops: Path, tmp_path: Path) -> None:
    model = LanguageModel(model_of().eval(), tokenizer_of())
    settings = {"max_tokens": 6, "requests_per_task": 5, "tasks": ["classification"], "relabel": True}
    local = Local(model, "tiny", plain=True, at_once=2)
    made = expander(shops, local, **settings).run(tmp_path)
    assert made.requests == 5 and not (tmp_path / "sent.jsonl").exists()
    (tmp_path / "b").mkdir()
    other = Local(model, "tiny", plain=True, at_once=5)
    assert expander(shops, other, **settings).run(tmp_path / "b").rejected == made.rejected
    assert (tmp_path / "b" / "journal.jsonl").read_text() == (tmp_path / "journal.jsonl").read_text()


def test_bad_settings() -> None:
    for bad, said in (
        ({"kind": "opena"}, "Did you mean 'openai'"),
        ({"kind": "openai"}, "teacher.url must be given"),
        ({"kind": "local"}, "teacher.source must be given"),
        ({"kind": "replay", "model": "m"}, "teacher.path must be given"),
    ):
        with pytest.raises(LabError, match=said):
            TeacherSettings(**bad)
    with pytest.raises(LabError, match="Did you mean 'ads'"):
        Expansion(tasks=["adds"])


def test_from_the_command_line(shops: Path, lab: Lab, tmp_path: Path) -> None:
    data = gather(None, None, shops, 0.3, True)
    folder = tmp_path / "rows"
    folder.mkdir()
    records.write(folder / "train.jsonl", data.train)
    records.write(folder / "validation.jsonl", data.dev)
    with serving(advertise) as server:
        words = [
            "expand", "expansion.seeds=rows", "expansion.per_task=4", "expansion.teacher.kind=openai",
            f"expansion.teacher.url={server.url}", "expansion.teacher.model=m",
        ]  # fmt: skip
        dry = lab.run(*words, "dry=true", cwd=tmp_path)
        assert dry.code == 0 and "nothing was sent" in dry.out and not server.bodies, dry.err
        done = lab.run(*words, cwd=tmp_path)
        assert done.code == 0 and "accepted: ads 4" in done.out, done.err
        assert "left this machine: 0 bytes" in done.out
        asked = len(server.bodies)
        again = lab.run(*words, cwd=tmp_path)
        assert again.out == done.out and len(server.bodies) == asked
    (file,) = (tmp_path / "runs" / "expand").glob("*/records.jsonl")
    assert len(list(records.read(file))) == 4
    assert key_of(ask()) == key_of(ask()) != key_of(ask(seed=2))
