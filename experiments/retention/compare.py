"""Half of all-MiniLM-L6-v2 in the same time of one core: the lab's recipe against sentence-transformers' layer reduction.

sentence-transformers' (examples/sentence_transformer/training/distillation/model_distillation_layer_reduction.py): layers are
kept, and an MSE on sentence embeddings is trained on sentences, learning rate 1e-4, batch 64, warm-up 0.1; here with its
library's own trainer and loss. The teacher's embeddings are made as they are needed, inside the time. Both read the same
Wikipedia and have one thread, each keeps the three layers that its recipe says (ours 2, 3 and 5, theirs 2, 4 and 6); ours runs first, the other gets the
same seconds of the processor, which another program on the machine takes from neither. Of ours the whole process counts. Then both students are measured alike: Spearman on STS-B's dev set without fine-tuning, and agreement with
the teacher's vectors on sentences that neither read.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from minilm_lab import config
from minilm_lab.commands.composing import compose_command
from minilm_lab.data.sentences import sentences
from minilm_lab.registry import embedded_model

KEPT = [1, 3, 5]
"""From 0: layers 2, 4 and 6."""
BATCH, LR, WARMUP = 64, 1e-4, 0.1
CALIBRATION = 20
"""Steps that tell how many fit into the time; not counted."""


def ours(args: argparse.Namespace, words: list[str]) -> tuple[Path, float]:
    """The student's folder and the seconds of the processor that its whole process took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [str(Path(sys.executable).parent / "minilm-lab"), "distill", *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if "from its record" in done.stdout:
        sys.exit(f"{args.out} has this run already, whose seconds are not known; give another --out")
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Path(done.stdout.rpartition("student: ")[2].strip()), seconds


def theirs(args: argparse.Namespace, seconds: float, out: Path) -> dict[str, Any]:
    """Train by the library's recipe for `seconds` and save to `out`."""
    import torch
    from datasets import Features, IterableDataset, List, Value
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
        losses,
    )

    torch.set_num_threads(args.threads)
    folder = str(embedded_model("all_minilm_l6", Path(args.cache)))
    teacher = SentenceTransformer(folder, device="cpu")

    def student() -> SentenceTransformer:
        model = SentenceTransformer(folder, device="cpu")
        body = model[0].auto_model if hasattr(model[0], "auto_model") else model[0].model
        body.encoder.layer = torch.nn.ModuleList([body.encoder.layer[n] for n in KEPT])
        body.config.num_hidden_layers = len(KEPT)
        return model

    features = Features({"sentence": Value("string"), "label": List(Value("float32"))})

    def rows() -> Iterator[dict[str, Any]]:
        texts = _texts(args)
        while chunk := list(islice(texts, 20 * BATCH)):
            for text, vector in zip(chunk, teacher.encode(chunk, batch_size=BATCH), strict=True):
                yield {"sentence": text, "label": vector}

    def train(model: SentenceTransformer, steps: int) -> float:
        settings = SentenceTransformerTrainingArguments(
            output_dir=str(out / "trainer"),
            max_steps=steps,
            per_device_train_batch_size=BATCH,
            learning_rate=LR,
            warmup_steps=round(WARMUP * steps),
            bf16=args.precision == "bf16",
            use_cpu=True,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
        )
        started = time.process_time()
        SentenceTransformerTrainer(
            model=model,
            args=settings,
            train_dataset=IterableDataset.from_generator(rows, features),
            loss=losses.MSELoss(model),
        ).train()
        return time.process_time() - started

    each = train(student(), CALIBRATION) / CALIBRATION
    model = student()
    steps = max(int(seconds / each), 1)
    spent = train(model, steps)
    model.save(str(out / "student"))
    return {"steps": steps, "seconds": spent}


def _texts(args: argparse.Namespace) -> Iterator[str]:
    corpus = config.section(compose_command("distill", ["corpus=wikipedia"]), "corpus")
    for document in corpus.documents(args.hub, Path(args.cache)):
        yield from sentences(document)


def scores(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """STS-B and agreement with the teacher."""
    measured: dict[str, float] = {}
    for words in (["evaluator=stsb"], ["evaluator=agreement", "evaluator.against=all_minilm_l6"]):
        evaluator = config.section(compose_command("evaluate", words), "evaluator")
        evaluator.prepare(args.hub, Path(args.cache))
        measured |= evaluator(evaluator.open(str(folder), None)).scores
    return measured


def main() -> None:
    """Run both and print a line each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hub", required=True, help="folder with wikimedia/wikipedia and nyu-mll/glue")
    parser.add_argument("--cache", default=".cache")
    parser.add_argument("--out", default="runs/retention_compare")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="bf16", choices=("32", "bf16"))
    parser.add_argument("words", nargs="*", help="overrides of our distillation")
    args = parser.parse_args()
    words = [
        "experiment=retention",
        f"paths.hub={args.hub}",
        f"paths.cache={args.cache}",
        f"paths.runs={args.out}/ours",
        f"impl.threads={args.threads}",
        f"impl.precision={args.precision}",
        "logger=none",
        "trainer.held_out_every=1000000",
        *args.words,
    ]
    student, seconds = ours(args, words)
    print(json.dumps({"ours": scores(args, student), "seconds": round(seconds)}), flush=True)
    other = theirs(args, seconds, Path(args.out) / "theirs")
    found = scores(args, Path(args.out) / "theirs" / "student")
    print(json.dumps({"sentence-transformers": found, **other}), flush=True)


if __name__ == "__main__":
    main()
