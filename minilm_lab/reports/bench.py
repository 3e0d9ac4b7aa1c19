"""The benchmark's report: Markdown tables and a picture, from its JSON alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PARTS = ("loader", "teacher", "student", "loss", "backward", "optimizer")


def to_markdown(report: Mapping[str, Any]) -> str:
    """report: the JSON of `minilm-lab bench`."""
    rates = report["rates"]
    lines = [
        "# Speed of a distillation step",
        "",
        f"{report['models']}. {report['hardware']}. torch {report['versions']['torch']}, commit {report['commit']}.",
        f"Command: `{report['command']}`.",
        f"Matrix products on the spot: float32 {_giga(rates['float32'])}, bf16 {_giga(rates['bf16'])}.",
        "Medians over rounds in which the variants take turns. `published` is what other code does: both models to "
        "the end with eager attention and attention outputs, relations as matrices; float32 unless it says bf16.",
        "Utilisation: operations that a stopped step needs / (seconds × the matrix rate of its precision).",
        "Memory: peak of a step beyond weights and optimizer state.",
        "",
        "| batch × length, relation heads | variant | ms | tokens/s | × published | utilisation | loss share | memory |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for m in report["steps"]:
        ratio = "–" if m["times_published"] is None else f"{m['times_published']:.2f}"
        shape = f"{m['shape']['batch']} × {m['shape']['length']}, {m['shape']['heads']}"
        lines.append(
            f"| {shape} | {m['variant']} | {1e3 * m['seconds']:.0f} | {m['tokens_per_second']:,.0f} | {ratio} | "
            f"{100 * m['utilisation']:.0f} % | {100 * m['parts']['loss'] / m['seconds']:.0f} % | {_mega(m['step_bytes'])} |"
        )
    lines += [
        "",
        "## Where the time goes (ms)",
        "",
        "| batch × length, relation heads | variant | loader | teacher | student | loss | backward | optimizer |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for m in report["steps"]:
        shape = f"{m['shape']['batch']} × {m['shape']['length']}, {m['shape']['heads']}"
        parts = " | ".join(
            f"{1e3 * m['parts'][part]:{'.1f' if part == 'loader' else '.0f'}}" for part in PARTS
        )
        lines.append(f"| {shape} | {m['variant']} | {parts} |")
    if report["growth"]:
        lines += [
            "",
            "## The loss alone: one sample, three relations, value and gradient",
            "",
            "| length | relation heads | variant | ms | memory over inputs |",
            "|---:|---:|---|---:|---:|",
        ]
        for g in report["growth"]:
            lines.append(
                f"| {g['length']} | {g['heads']} | {g['variant']} | {1e3 * g['seconds']:.1f} | {_mega(g['loss_bytes'])} |"
            )
    return "\n".join(lines) + "\n"


def _giga(rate: float) -> str:
    return f"{rate / 1e9:,.0f} GFLOP/s"


def _mega(count: float) -> str:
    return f"{count / 1e6:,.0f} MB"


def write_picture(report: Mapping[str, Any], path: Path) -> None:
    """Bars of tokens a second by shape, and how time and memory of the loss grow with the length."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    variants = list(dict.fromkeys(m["variant"] for m in report["steps"]))
    shapes = list(dict.fromkeys(_shape(m) for m in report["steps"]))
    panels = 3 if report["growth"] else 1
    figure = Figure(figsize=(5.5 * panels, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, panels, squeeze=False)
    bars = axes[0][0]
    for number, variant in enumerate(variants):
        rate = {_shape(m): m["tokens_per_second"] for m in report["steps"] if m["variant"] == variant}
        places = [i + (number - (len(variants) - 1) / 2) * 0.8 / len(variants) for i in range(len(shapes))]
        bars.bar(places, [rate.get(s, 0) for s in shapes], 0.8 / len(variants), label=variant)
    bars.set_xticks(range(len(shapes)), shapes, rotation=30, ha="right", fontsize=8)
    bars.set_ylabel("tokens / s")
    bars.set_title("Distillation step")
    bars.legend(fontsize=8)
    if report["growth"]:
        _growth(axes[0][1], report["growth"], "seconds", 1e3, "ms", "Loss: time")
        _growth(axes[0][2], report["growth"], "loss_bytes", 1e-6, "MB", "Loss: memory")
    figure.savefig(path, dpi=130)


def _shape(m: Mapping[str, Any]) -> str:
    return f"{m['shape']['batch']}×{m['shape']['length']}, {m['shape']['heads']} heads"


def _growth(
    axis: Any, growth: Sequence[Mapping[str, Any]], key: str, unit: float, name: str, title: str
) -> None:
    lines = list(dict.fromkeys((g["variant"], g["heads"]) for g in growth))
    for variant, heads in lines:
        points = [
            (g["length"], g[key] * unit) for g in growth if (g["variant"], g["heads"]) == (variant, heads)
        ]
        axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=f"{variant}, {heads} heads")
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xlabel("length")
    axis.set_ylabel(name)
    axis.set_title(title)
    axis.legend(fontsize=7)
