"""The picture of a sweep: cost against work.

    .venv/bin/python -m benchmarks.chart RESULT.json PICTURE.png

draws it anew from what script/bench wrote: where a GPU is, there may be no matplotlib.
"""

import importlib.util
import itertools
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.machine import say

Point = dict[str, float]  # as in the JSON
UNITS = {"pictures": "", "resolution": " px", "lora_rank": "", "batch_size": ""}
QUESTIONS = {
    "pictures": "Pictures to encode, once a run",
    "resolution": "Resolution",
    "lora_rank": "LoRA rank",
    "batch_size": "Pictures an update",
}
OURS, FLOOR = "#1f6fb4", "#999999"


def draw(report: dict[str, Any], path: Path) -> None:
    """A panel for each thing that was varied; titles say what is seen."""
    if importlib.util.find_spec("matplotlib") is None:
        say(f"{path.name} is not drawn: there is no matplotlib. Draw it later: benchmarks/chart.py")
        return
    import matplotlib as mpl  # not every machine that measures can draw

    mpl.use("agg")
    from matplotlib import pyplot as plt

    sweep = report["sweep"]
    figure, axes = plt.subplots(1, len(sweep), figsize=(3.4 * len(sweep), 4.2), squeeze=False)
    updates = [point for name, points in sweep.items() if name != "pictures" for point in points]
    for axis, (name, points) in zip(axes[0], sweep.items(), strict=True):
        if name == "pictures":
            draw_encoding(axis, points)
        else:
            highest = max((point["milliseconds"] for point in updates), default=0)
            draw_updates(axis, name, points, report["peak_flops_per_second"], highest)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_xlim(left=0)
        if name == "resolution":
            axis.legend(loc="upper left", frameon=False, fontsize=9, reverse=True)
        axis.title.set(fontsize=10, fontweight="bold")
    figure.suptitle(headline(report), fontsize=11, x=0.01, ha="left")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def headline(report: dict[str, Any]) -> str:
    on = report["machine"]
    threads = "one thread" if on["threads"] == 1 else f"{on['threads']} threads"
    device = on["device"] if on["cuda"] else f"{threads} of a CPU"
    return (
        f"What training costs as it grows: {report['model']} on {device}, {on['precision']}."
        f" Unless varied: {report['resolution']} pixels, rank {report['lora_rank']}, one picture"
        " an update."
    )


def draw_encoding(axis: Any, points: list[Point]) -> None:
    numbers = [point["value"] for point in points]
    seconds = [point["milliseconds"] / 1000 for point in points]
    axis.plot(numbers, seconds, marker="o", color=OURS)
    each = points[-1]["milliseconds"] / points[-1]["value"]
    axis.set(
        title=f"{QUESTIONS['pictures']}:\n{each:.3g} ms each",
        xlabel="pictures",
        ylabel="seconds for all",
        ylim=(0, 1.15 * max(seconds)),
    )


def draw_updates(
    axis: Any, name: str, points: list[Point], peak_flops: float, highest: float
) -> None:
    """`highest`: milliseconds, of all panels, so that they can be compared."""
    work = [point["work"] for point in points]
    times = [point["milliseconds"] for point in points]
    floor = [1000 * 1e9 * one / peak_flops for one in work]
    axis.plot(work, floor, linestyle="--", color=FLOOR, label="the arithmetic alone")
    axis.plot(work, times, marker="o", color=OURS, label="measured")
    labels = points if spread_out(work) else (points[0], points[-1])
    for point in labels:
        axis.annotate(
            f"{point['value']:g}{UNITS[name]}",
            (point["work"], point["milliseconds"]),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    more_work, more_time = work[-1] / work[0], times[-1] / times[0]
    axis.set(
        title=f"{QUESTIONS[name]} {points[0]['value']:g} to {points[-1]['value']:g}:\n"
        f"{more_work:.2g}x the work, {more_time:.2g}x the time",
        xlabel="GFLOP a tuning update",
        ylabel="ms a tuning update",
        ylim=(0, 1.2 * highest),
        xlim=(0, 1.12 * max(work)),
    )


def spread_out(work: list[float]) -> bool:
    """Is there room for a label at every point?"""
    gaps = [after - before for before, after in itertools.pairwise(work)]
    return min(gaps, default=0) > max(work) / 20


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
