"""Wall clock of one fine-tuning on SST-2: the lab's against the Hugging Face Trainer's, in turns, in one process.

Both start from the same folder (3 layers, hidden size 384, random weights) and the same examples, and do the same
work: tokenise (the lab too, each time: its cache of tokens is empty in every turn), load, train with AdamW at batch
32 and linear warm-up and decay, score the dev set at the end. Every round has its own seed. The Trainer pads each
batch to its longest text (DataCollatorWithPadding), as its own examples recommend.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertModel,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from minilm_lab import config
from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.finetune import plan
from minilm_lab.data.splits import Splits
from minilm_lab.registry import embedded_model
from minilm_lab.runs.environment import describe

BATCH, LENGTH, LR, WARMUP = 32, 128, 1e-4, 0.1


def student(folder: Path, cache: Path) -> Path:
    """A folder with a 3-layer, 384-wide student of random weights and the tokenizer of all-MiniLM-L6-v2."""
    tokenizer = AutoTokenizer.from_pretrained(embedded_model("all_minilm_l6", cache))
    shape = BertConfig(
        vocab_size=len(tokenizer),
        num_hidden_layers=3,
        hidden_size=384,
        num_attention_heads=12,
        intermediate_size=1536,
    )
    torch.manual_seed(0)
    BertModel(shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def words(args: argparse.Namespace, model: Path, scratch: Path, seed: int) -> list[str]:
    """The lab's fine-tuning as overrides; runs and caches lie in `scratch`."""
    return [
        "task=sst2",
        f"task.train_examples={args.examples}",
        f"task.length={LENGTH}",
        f"source={model}",
        f"tune.lr={LR}",
        f"tune.warmup={WARMUP}",
        f"tune.batch_size={BATCH}",
        "scale.epochs=1",
        f"tune.seed={seed}",
        f"impl.precision={args.precision}",
        f"impl.threads={args.threads}",
        "logger=none",
        f"paths.runs={scratch / 'runs'}",
        f"paths.cache={scratch / 'cache'}",
        f"paths.hub={args.hub or 'null'}",
    ]


def lab(given: list[str]) -> tuple[float, float]:
    """Seconds, and the task's score on dev (accuracy for SST-2). Reading the data is not counted."""
    ready = plan(compose_command("finetune", given))
    began = time.perf_counter()
    record = ready.make()
    return time.perf_counter() - began, float(record["score"]["value"])


class Rows(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Tokenised examples as the Trainer takes them."""

    def __init__(self, split: Dataset, tokenizer: Any) -> None:
        self.encoded = tokenizer(split["text"][:], truncation=True, max_length=LENGTH)
        self.labels = split["label"][:]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {key: cells[row] for key, cells in self.encoded.items()} | {"labels": self.labels[row]}


def trainer(splits: Splits, model: Path, out: Path, precision: str, seed: int) -> tuple[float, float]:
    """Seconds, and accuracy on dev, of the Hugging Face Trainer."""
    began = time.perf_counter()
    transformers.set_seed(seed)  # the head is made before the Trainer sets it
    tokenizer = AutoTokenizer.from_pretrained(model)
    train, dev = Rows(splits.train, tokenizer), Rows(splits.dev, tokenizer)
    steps = -(-len(train) // BATCH)
    arguments = TrainingArguments(
        output_dir=str(out),
        per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=4 * BATCH,
        learning_rate=LR,
        weight_decay=0.01,
        warmup_steps=round(WARMUP * steps),
        num_train_epochs=1,
        lr_scheduler_type="linear",
        bf16=precision == "bf16",
        eval_strategy="epoch",
        save_strategy="no",
        logging_steps=10,
        report_to="none",
        disable_tqdm=True,
        seed=seed,
    )
    work = Trainer(
        model=AutoModelForSequenceClassification.from_pretrained(model, num_labels=2),
        args=arguments,
        train_dataset=train,
        eval_dataset=dev,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=lambda p: {
            "accuracy": 100.0 * float(np.mean(p.predictions.argmax(1) == p.label_ids))
        },
    )
    work.train()
    accuracy = work.state.log_history
    found = next(line["eval_accuracy"] for line in reversed(accuracy) if "eval_accuracy" in line)
    return time.perf_counter() - began, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--hub", help="a local copy of hub data sets (paths.hub)")
    parser.add_argument("--examples", type=int, default=8000, help="training examples (default 8000)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (default 3)")
    parser.add_argument("--precision", choices=("32", "bf16"), default="32", help="of both (default 32)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cache", default=".cache")
    parser.add_argument(
        "--note", default="", help="a sentence for the result, such as that the machine was shared"
    )
    parser.add_argument("--out", type=Path, help="write the result to this JSON file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    seconds: dict[str, list[float]] = {"lab": [], "trainer": []}
    accuracy: dict[str, list[float]] = {"lab": [], "trainer": []}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = student(folder / "student", Path(args.cache))
        composed = compose_command("finetune", words(args, model, folder, 0))
        splits = config.build(composed.task, "task").load(args.hub, Path(args.cache))
        sides: dict[str, Callable[[int], tuple[float, float]]] = {
            "lab": lambda n: lab(words(args, model, folder / f"lab-{n}", n)),
            "trainer": lambda n: trainer(splits, model, folder / f"trainer-{n}", args.precision, n),
        }
        for turn in range(args.rounds):
            # Who begins alternates, so that neither always meets a warm or a hot machine.
            for name in sorted(sides, reverse=bool(turn % 2)):
                took, right = sides[name](turn)
                seconds[name].append(round(took, 2))
                accuracy[name].append(round(right, 2))
                print(f"{name}: {took:.1f} s, accuracy {right:.1f}", flush=True)
    # Of one round: what else the machine did then slowed both.
    ratios = [theirs / ours for theirs, ours in zip(seconds["trainer"], seconds["lab"], strict=True)]
    ratio = statistics.median(ratios)
    result = {
        "ratio": round(ratio, 3),
        "ratio_of_each_round": [round(r, 3) for r in ratios],
        "note": args.note,
        "seconds": seconds,
        "accuracy": accuracy,
        "examples": args.examples,
        "precision": args.precision,
        "threads": args.threads,
        **describe(),
    }
    print(
        f"the Trainer takes {ratio:.2f} x the lab's time (median of {args.rounds} rounds, "
        f"{min(ratios):.2f} to {max(ratios):.2f})"
    )
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
