"""How fast a hundred answers of one prompt are decoded: the lab against a loop as in the paper's code, in one run.

    python experiments/navigation/published_loop.py FOLDER [--answers 8]

The loop: one text at a time, the whole text tokenised anew and read without a cache for every token, logits of every position.
It is timed on the first `--answers` of the lab's hundred, the lab on all; compared are seconds an answer. Prints Markdown.
"""

from __future__ import annotations

import argparse
import time

import torch

from minilm_lab.models.language_model import LanguageModel
from minilm_lab.studies.knowledge import methods
from minilm_lab.studies.knowledge.gold_lists import read_lists
from minilm_lab.studies.knowledge.prompts import Asker, asked


@torch.no_grad()
def by_loop(model: LanguageModel, text: str, first: int, length: int) -> str:
    """Text up to the closing quote."""
    answer = model.tokenizer.decode([first])
    for _ in range(length):
        if '"' in answer:
            break
        ids = model.tokenizer(text + answer, return_tensors="pt").input_ids
        logits = model.model(input_ids=ids, use_cache=False).logits
        answer += model.tokenizer.decode([int(logits[0, -1].argmax())])
    return answer.partition('"')[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--answers", type=int, default=8)
    options = parser.parse_args()
    model = LanguageModel.load(options.folder)
    asker = Asker(model, 12)
    (gold,) = read_lists("embedded", ["countries_europe"])
    print(
        f"{torch.get_num_threads()} threads, float32\n\n| prompt | tokens | loop, s an answer | lab, s an answer | ratio | same |"
    )
    print("|---|---:|---:|---:|---:|---:|")
    for style in ("bare", "examples"):
        prompt = asked(model, gold, style)
        start = time.perf_counter()
        (replies,) = methods.by_rank(asker, [prompt], [gold], 100).replies
        ours = (time.perf_counter() - start) / 100
        some = replies[:: 100 // options.answers][: options.answers]
        text = model.tokenizer.decode(prompt)
        start = time.perf_counter()
        texts = [by_loop(model, text, reply.first, 12) for reply in some]
        theirs = (time.perf_counter() - start) / len(some)
        same = sum(a == b.text for a, b in zip(texts, some, strict=True))
        print(
            f"| {style} | {len(prompt)} | {theirs:.3f} | {ours:.3f} | {theirs / ours:.1f} | {same} of {len(some)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
