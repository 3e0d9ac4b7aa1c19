"""Model folders that were damaged or put together of parts that do not belong together: refused by name, or harmless."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from data.helpers import byte_bpe, wordpiece
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.distill import plan
from minilm_lab.commands.finetune import plan as plan_finetune
from minilm_lab.data.masking import masking_for
from minilm_lab.errors import LabError
from minilm_lab.runs.graph import Run
from minilm_lab.training.pair import load_pair
from minilm_lab.training.stream import open_stream

from .fuzzing import Count, cases


def opened(ready: Run) -> None:
    """As much of a distillation as reads the teacher's folder: tokenizer, models with their self-check, blocks."""
    job, cache = ready.job, ready.job.how.cache
    tokenizer = job.teacher.tokenizer(cache)
    load_pair(job.teacher, job.student, job.loss.reads, tokenizer, None, job.seed, cache)
    open_stream(job.corpus, tokenizer, job.scale, job.seed, job.how)


@pytest.fixture
def attempt(tiny: list[str], tiny_teacher: Path, tmp_path: Path) -> Callable[[Callable[[Path], None]], str]:
    """Changes a copy of the teacher and tries to start: the identity of the run, or LabError."""
    cfg = compose_command("distill", tiny)
    folder = tmp_path / "teacher"
    cfg.teacher.path = str(folder)

    def start(change: Callable[[Path], None]) -> str:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tiny_teacher, folder)
        change(folder)
        ready = plan(cfg)
        opened(ready)
        return ready.folder.identity

    return start


VALUES = st.sampled_from(
    [0, 1, -1, 3, 10**9, 0.5, "", "abc", None, True, [], [1], {}, {"a": 1}, "gelu", "bert", "gpt2", 2**40]
)
KEYS = ["model_type", "architectures", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size", "max_position_embeddings", "type_vocab_size", "hidden_act", "layer_norm_eps", "pad_token_id", "hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range", "dtype", "torch_dtype", "is_decoder", "add_cross_attention", "use_cache", "auto_map", "quantization_config", "tie_word_embeddings", "transformers_version", "id2label", "return_dict", "chunk_size_feed_forward", "attn_implementation", "_attn_implementation"]  # fmt: skip


def test_any_configuration(attempt: Any, tiny_teacher: Path, count: Count) -> None:
    """config.json with one or two of its values replaced."""
    before = json.loads((tiny_teacher / "config.json").read_text())
    too_large = {"intermediate_size", "hidden_size", "num_hidden_layers", "vocab_size", "max_position_embeddings", "type_vocab_size", "num_attention_heads"}  # fmt: skip

    @given(st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1, max_size=2))
    @cases(60)
    def try_it(values: dict[str, Any]) -> None:
        # The library would ask the system for terabytes: that is its own refusal.
        if any(k in too_large and isinstance(v, int) and v > 10**6 for k, v in values.items()):
            return
        count.case()
        try:
            attempt(
                lambda folder: (folder / "config.json").write_text(json.dumps({**before, **values})) and None
            )
        except LabError as error:
            count.refuse()
            assert len(str(error)) > 20

    try_it()


def test_any_damage(attempt: Any, tiny_teacher: Path, count: Count) -> None:
    """Bytes of any file cut, flipped or put in. What still loads is another run than that of the whole folder."""
    usual = attempt(lambda folder: None)
    files = sorted(p.name for p in tiny_teacher.iterdir())
    change = st.tuples(st.sampled_from(files), st.integers(0, 10**6), st.sampled_from(["cut", "flip", "insert", "empty"]))  # fmt: skip

    @given(change)
    @example(("tokenizer.json", 10, "cut"))
    @example(("model.safetensors", 9, "flip"))
    @cases(60)
    def try_it(what: tuple[str, int, str]) -> None:
        count.case()
        name, where, how = what
        data = (tiny_teacher / name).read_bytes()
        at = where % len(data)
        new = {
            "cut": data[:at],
            "flip": data[:at] + bytes([data[at] ^ 0x15]) + data[at + 1 :],
            "insert": data[:at] + b'"\0' + data[at:],
            "empty": b"",
        }[how]
        try:
            identity = attempt(lambda folder: (folder / name).write_bytes(new) and None)
        except LabError as error:
            count.refuse()
            assert any(word in str(error) for word in ("teacher", "tokenizer", "objective", "scale")), error
        else:
            assert identity != usual, "damaged, and taken for the whole one"

    try_it()


def edited(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    """A change of tokenizer.json."""

    def apply(folder: Path) -> None:
        file = folder / "tokenizer.json"
        settings = json.loads(file.read_text())
        change(settings)
        file.write_text(json.dumps(settings))

    return apply


def other_tokenizer(make: Callable[[], Any]) -> Callable[[Path], None]:
    """The tokenizer of another family in place of the teacher's."""

    def apply(folder: Path) -> None:
        for file in folder.glob("*token*"):
            file.unlink()
        make().save_pretrained(folder)

    return apply


def more_ids(folder: Path) -> None:
    """More tokens than the model embeds."""
    tokenizer = wordpiece()
    tokenizer.add_tokens([f"new{n}" for n in range(300)])
    tokenizer.save_pretrained(folder)


def _gap(settings: dict[str, Any]) -> None:
    vocab = settings["model"]["vocab"]
    vocab[next(word for word, number in vocab.items() if number == len(vocab) - 1)] = 10**6


def _twice(settings: dict[str, Any]) -> None:
    settings["added_tokens"] += [
        {**token, "content": token["content"] + "X"} for token in settings["added_tokens"]
    ]


def _same(settings: dict[str, Any]) -> None:
    for token in settings["added_tokens"]:
        token["id"] = 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (other_tokenizer(byte_bpe), "do not belong together"),
        (more_ids, "do not belong together"),
        (edited(_gap), "do not belong together"),
        (edited(lambda s: s["model"].update(vocab={})), "teacher|tokenizer"),
        (edited(lambda s: s.update(model=None)), "teacher"),
    ],
    ids=["of RoBERTa's kind", "more ids", "an id far beyond", "no words", "no model"],
)
def test_a_tokenizer_that_is_not_the_teachers(attempt: Any, change: Any, says: str, count: Count) -> None:
    count.case()
    with pytest.raises(LabError, match=says):
        attempt(change)
    count.refuse()


@pytest.mark.parametrize("change", [_twice, _same], ids=["two names an id", "one id for all"])
def test_special_tokens_twice(attempt: Any, change: Any, count: Count) -> None:
    """The library's reader decides; what it makes of them must fit the model's embeddings."""
    count.case()
    try:
        attempt(edited(change))
    except LabError as error:
        count.refuse()
        assert "teacher" in str(error) or "tokenizer" in str(error)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda w: {k: v for k, v in w.items() if "layer.1." not in k}, "lack"),
        (lambda w: {f"other.{k}": v for k, v in w.items()}, "lack"),
        (lambda w: {k: v.repeat(*(2,) * v.ndim) for k, v in w.items()}, "size|shape|mismatch"),
        (lambda w: {k: torch.full_like(v, float("nan")) for k, v in w.items()}, "finite"),
        (lambda w: {}, "teacher"),
    ],
    ids=["a layer is missing", "other names", "other shapes", "NaN", "nothing"],
)
def test_weights_of_another_model(attempt: Any, change: Any, says: str, count: Count) -> None:
    count.case()

    def apply(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        save_file(
            {k: v.contiguous() for k, v in change(weights).items()},
            folder / "model.safetensors",
            {"format": "pt"},
        )

    with pytest.raises(LabError, match=says):
        attempt(apply)
    count.refuse()


@pytest.mark.parametrize("other", ["pad", "unk", "cls", "sep"])
def test_a_mask_token_that_is_another_token_too(other: str, count: Count) -> None:
    """Masked language modelling would hide tokens behind padding or unknown words, silently."""
    count.case()
    tokenizer = wordpiece()
    assert masking_for(tokenizer, 0, 0.15, len(tokenizer)).mask_id == tokenizer.mask_token_id
    tokenizer.mask_token = getattr(tokenizer, f"{other}_token")
    with pytest.raises(LabError, match=f"is its {other} token too"):
        masking_for(tokenizer, 0, 0.15, len(tokenizer))
    count.refuse()


def test_a_source_with_a_tokenizer_of_more_ids(
    tiny: list[str], tiny_tune: list[str], tiny_teacher: Path, tmp_path: Path, count: Count
) -> None:
    """Fine-tuning reads any checkpoint: an id beyond the embeddings would stop it at the first text that has it."""
    count.case()
    folder = tmp_path / "source"
    shutil.copytree(tiny_teacher, folder)
    more_ids(folder)
    ready = plan_finetune(compose_command("finetune", [*tiny, *tiny_tune, f"source={folder}"]))
    with pytest.raises(LabError, match="do not belong together"):
        ready.make()
    count.refuse()
