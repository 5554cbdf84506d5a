"""What is each phase good for? Inversion only, tuning only, and both, at growing budgets.

    .venv/bin/python -m benchmarks.phases

Trains the style and the subject of benchmarks/learning.py in each way, one seed, and draws sheets
of samples for docs/how-it-works.md; of the style, of which there are pictures to judge by, also the
curves at a quarter, a half and the whole of the recommended steps. Ten minutes on two cores.
"""

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt

from benchmarks.learning import (
    CASES,
    REPOSITORY,
    WORDS,
    Case,
    Look,
    Result,
    compare_looks,
    examples_of,
    look,
    make,
)
from cli.preview import Row, write_preview
from cli.report import describe_machine
from cli.sampling import build_pipeline
from cli.showcase import NUM_COLUMNS
from training.base_model import BaseModel, load_base_model
from training.compute import pick_compute
from training.formats import load, unload
from training.settings import TrainingInputs

BUDGETS = {"style": (0.25, 0.5, 1.0), "subject": (1.0,)}  # of the recommended steps
COLOURS = {"inversion only": "#1f77b4", "tuning only": "#ff7f0e", "both": "#2ca02c"}
MEASURES = {
    "loss": "denoising loss, 32 held-out pictures",
    "unrelated_loss": "the same, unrelated pictures",
    "saturation": "mean saturation of 16 samples",
}


@dataclass(frozen=True, kw_only=True)
class Point:
    """One run: which phases, and how much of the recommended steps each got."""

    phases: str
    budget: float
    steps: int
    result: Result


def inputs_for(base: BaseModel, case: Case, phases: str, budget: float) -> TrainingInputs:
    recommended = dict(base.card.recommended)
    for phase, name in (
        ("inversion only", "max_train_steps_ti"),
        ("tuning only", "max_train_steps_tuning"),
    ):
        wanted = phases in (phase, "both")
        recommended[name] = round(budget * int(recommended[name])) if wanted else 0
    return TrainingInputs(**recommended | {"task": case.task})  # type: ignore[arg-type]


def measure_case(base: BaseModel, case: Case) -> tuple[list[Point], dict[str, Look]]:
    """All runs of a case, and the looks at the whole budget (and at the base model)."""
    pipeline = build_pipeline(base)
    first = inputs_for(base, case, "both", 1.0)
    evaluated = examples_of((case.evaluate,), first)
    unrelated = examples_of(case.unrelated, first)
    before = look(base, pipeline, case, evaluated, unrelated, words="")
    points, looks = [], {"base model, without the words": before}
    for phases in COLOURS:
        for budget in BUDGETS[case.name]:
            inputs = inputs_for(base, case, phases, budget)
            with tempfile.TemporaryDirectory() as folder:
                made = make(base, case, inputs, Path(folder))
                load(pipeline, made.path)
                after = look(base, pipeline, case, evaluated, unrelated, words=WORDS)
                unload(pipeline)
            result = compare_looks(case, inputs.seed, made, before, after)
            steps = inputs.max_train_steps_ti + inputs.max_train_steps_tuning
            points.append(Point(phases=phases, budget=budget, steps=steps, result=result))
            sys.stdout.write(f"{case.name} {phases} {budget}: {asdict(result)}\n")
            sys.stdout.flush()
        looks[phases] = after
    return points, looks


def plot(points: list[Point], path: Path) -> None:
    """Each measure against pictures seen; dashed: the base model."""
    figure, axes = plt.subplots(1, len(MEASURES), figsize=(10, 3.5))
    for axis, (measure, title) in zip(axes, MEASURES.items(), strict=True):
        axis.axhline(getattr(points[0].result, measure)[0], color="grey", linestyle="--")
        for phases, colour in COLOURS.items():
            curve = [point for point in points if point.phases == phases]
            axis.plot(
                [point.steps for point in curve],
                [getattr(point.result, measure)[1] for point in curve],
                marker="o",
                color=colour,
                label=phases,
            )
        axis.set(title=title, xlabel="pictures seen")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def write_sheet(looks: dict[str, Look], path: Path) -> None:
    rows: Sequence[Row] = [
        Row(caption=caption, images=seen.samples[:NUM_COLUMNS]) for caption, seen in looks.items()
    ]
    write_preview(rows, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "output" / "phases")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    mpl.use("agg")
    arguments.out.mkdir(parents=True, exist_ok=True)
    base = load_base_model(REPOSITORY / "weights" / "tiny", pick_compute())
    points: dict[str, list[Point]] = {}
    for case in CASES:
        points[case.name], looks = measure_case(base, case)
        write_sheet(looks, arguments.out / f"phases-{case.name}.png")
    plot(points["style"], arguments.out / "phases.png")
    report = {
        "command": "python -m benchmarks.phases",
        "base_model": base.card.name,
        "machine": describe_machine(base),
        "inputs": base.card.recommended,
        "points": {name: [asdict(point) for point in some] for name, some in points.items()},
    }
    (arguments.out / "phases.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
