"""How fast the lab's engine writes, against transformers' `generate`, both in one run and in turns.

    python experiments/decoders/generation_speed.py [FOLDER] [--rounds 3] [--rows 100]

FOLDER: a causal model with its tokenizer, SmolLM2-135M for instance; without it a random model of that shape.
Greedy, float32, 12 tokens or fewer; `generate` gets all rows in one batch, padded on the left. Three cases:
 - every answer to one prompt begins with another token (a shared prefix) and ends with the closing quote;
 - the same, but no answer ends before 12 tokens, so that only sharing counts;
 - as many prompts of 40 to 77 tokens that share nothing, and no answer ends early.
Prints Markdown.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel, StoppingCriteria

from minilm_lab.models.decoding import Decoding, ranked
from minilm_lab.models.language_model import LanguageModel

LENGTH = 12
PROMPT = (
    'Please name some sports.\n\nAnswer:\n1. "Basketball"\n2. "Tennis"\n3. "Golf"\n\n'
    'Please name some colors.\n\nAnswer:\n1. "Red"\n2. "Blue"\n3. "Green"\n\n'
    'Please name some countries in Europe.\n\nAnswer:\n1. "'
)


def random_model() -> LanguageModel:
    """SmolLM2-135M's shape, random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
        eos_token_id=2,
        pad_token_id=2,
    )
    words = SimpleNamespace(eos_token_id=2)
    return LanguageModel(AutoModelForCausalLM.from_config(config).eval(), words)  # type: ignore[arg-type]


class LastIn(StoppingCriteria):
    """Ends a row whose last token is one of `ids`."""

    def __init__(self, ids: set[int]) -> None:
        self.ids = torch.tensor(sorted(ids), dtype=torch.long)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **settings: object) -> torch.Tensor:  # type: ignore[override]
        return torch.isin(input_ids[:, -1], self.ids)


def by_generate(
    model: PreTrainedModel, prompts: list[list[int]], end: int, quotes: set[int]
) -> list[list[int]]:
    """One batch, padded on the left; what comes before the end token, up to the first of `quotes`."""
    width = max(map(len, prompts))
    ids = torch.tensor([[end] * (width - len(row)) + row for row in prompts])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts])
    out = model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=LENGTH,
        do_sample=False,
        pad_token_id=end,
        stopping_criteria=[LastIn(quotes)],
    )
    rows = out[:, width:].tolist()
    cut = [row[: row.index(end)] if end in row else row for row in rows]
    ends = [next((n for n, token in enumerate(row) if token in quotes), LENGTH) for row in cut]
    return [row[: stop + 1] for row, stop in zip(cut, ends, strict=True)]


def by_engine(engine: LanguageModel, prompts: list[list[int]], quotes: set[int]) -> list[list[int]]:
    """The same by the lab's engine."""
    answers = engine.generate(prompts, Decoding(length=LENGTH), until=lambda tokens: tokens[-1] in quotes)
    return [answer.tokens for answer in answers]


def timed(work: Callable[[], list[list[int]]]) -> tuple[float, list[list[int]]]:
    start = time.perf_counter()
    with torch.no_grad():
        result = work()
    return time.perf_counter() - start, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=100)
    options = parser.parse_args()
    if options.folder:
        engine = LanguageModel.load(options.folder)
        prompt = engine.ids(PROMPT)
    else:
        engine, prompt = random_model(), [7 + n for n in range(77)]
    model, end = engine.model, min(engine.ends)
    first = ranked(engine.next_logits([prompt])[0], options.rows).tolist()
    draw = random.Random(0)
    vocabulary = int(model.config.vocab_size)
    apart = [
        [draw.randrange(3, vocabulary) for _ in range(draw.randint(40, 77))] for _ in range(options.rows)
    ]
    quotes: set[int] = set()
    if options.folder:
        quotes = {n for n in range(vocabulary) if '"' in engine.tokenizer.decode([n])}
    one = [[*prompt, token] for token in first]
    cases = {
        f"{options.rows} first tokens of one prompt of {len(prompt)} tokens, to the closing quote": (
            one,
            quotes,
        ),
        "the same, 12 tokens each": (one, set()),
        f"{options.rows} prompts of 40 to 77 tokens that share nothing, 12 tokens each": (apart, set()),
    }
    if not quotes:
        cases.pop(next(iter(cases)))
    name = options.folder or "random weights of SmolLM2-135M's shape"
    print(f"{name}; {torch.get_num_threads()} threads, float32, median of {options.rounds} rounds\n")
    print("| | generate, s | engine, s | ratio | same answers |\n|---|---:|---:|---:|---:|")
    for case, (prompts, stops) in cases.items():
        theirs, ours, same = [], [], 0
        for _ in range(options.rounds):
            seconds, expected = timed(lambda p=prompts, q=stops: by_generate(model, p, end, q))  # type: ignore[misc]
            theirs.append(seconds)
            seconds, written = timed(lambda p=prompts, q=stops: by_engine(engine, p, q))  # type: ignore[misc]
            ours.append(seconds)
            same = sum(a == b for a, b in zip(expected, written, strict=True))
        ratio = statistics.median(t / o for t, o in zip(theirs, ours, strict=True))
        print(
            f"| {case} | {statistics.median(theirs):.1f} | {statistics.median(ours):.1f} | {ratio:.1f} | "
            f"{same} of {len(prompts)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
