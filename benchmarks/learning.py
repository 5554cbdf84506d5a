"""Does it learn? A style and a subject that the embedded base model has never seen, three seeds.

    .venv/bin/python -m benchmarks.learning

Prints a table, and writes the same as JSON beside sheets of samples for the eye. Everything is
measured before and after, on the same pictures, noise, timesteps and seeds; "after" is the base
model with the written file loaded by diffusers. About two minutes a run on two cores.
"""

import argparse
import json
import logging
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from diffusers import StableDiffusionPipeline
from PIL import Image

from cli.measure import FixedDraws, asked_for, fill, fix_draws, measure_loss, prompts_with
from cli.preview import Row, write_preview
from cli.report import describe_machine
from cli.sampling import build_pipeline, sample
from cli.showcase import NUM_COLUMNS, OTHER_SUBJECTS, SUBJECTS
from preprocessing.example import Example
from preprocessing.prepare import prepare_examples
from service.job import MadeLora, Request, make_lora
from training.base_model import BaseModel, load_base_model
from training.compute import pick_compute
from training.formats import load, unload
from training.settings import Task, TrainingInputs

logger = logging.getLogger(__name__)

REPOSITORY = Path(__file__).resolve().parent.parent
EXAMPLES = REPOSITORY / "examples"
WORDS = "<s1><s2>"


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is learned, what is drawn, and on which pictures the denoising loss is measured.

    Attributes:
        prompts: 16, with `{}` for the words; the n-th is drawn with seed n.
    """

    name: str
    task: Task
    archive: str
    evaluate: str
    unrelated: tuple[str, ...]
    prompts: tuple[str, ...]


CASES = (
    Case(
        name="style",
        task="style",
        archive="mono-style.zip",
        evaluate="mono-style-heldout.zip",
        unrelated=("cactus.zip", "penguin.zip"),  # also never seen by the base model
        prompts=tuple(f"a {it} in the style of {{}}" for it in (*SUBJECTS, *OTHER_SUBJECTS)),
    ),
    Case(
        name="subject",
        task="object",
        archive="penguin.zip",
        evaluate="penguin.zip",
        unrelated=("cactus.zip",),
        prompts=("a photo of {}",) * 16,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Look:
    """One model's answers: mean denoising loss of each draw, and samples."""

    loss: tuple[float, ...]
    unrelated_loss: tuple[float, ...]
    samples: tuple[Image.Image, ...]


@dataclass(frozen=True, kw_only=True)
class Result:
    """One run; every pair is before and after."""

    case: str
    seed: int
    seconds: float
    loss: tuple[float, float]
    loss_by_draw: tuple[tuple[float, ...], tuple[float, ...]]
    unrelated_loss: tuple[float, float]
    saturation: tuple[float, float]
    nearest_mse: tuple[float, float]


def run(base: BaseModel, case: Case, inputs: TrainingInputs, sheet: Path) -> Result:
    """Train, look, and draw the sheet."""
    pipeline = build_pipeline(base)
    evaluated = examples_of((case.evaluate,), inputs)
    unrelated = examples_of(case.unrelated, inputs)
    before = look(base, pipeline, case, evaluated, unrelated, words="")
    with tempfile.TemporaryDirectory() as folder:
        made = make(base, case, inputs, Path(folder))
        load(pipeline, made.path)
        after = look(base, pipeline, case, evaluated, unrelated, words=WORDS)
        unload(pipeline)
    write_sheet(sheet, case, made, before, after)
    return compare_looks(case, inputs.seed, made, before, after)


def compare_looks(case: Case, seed: int, made: MadeLora, before: Look, after: Look) -> Result:
    references = [example.image for example in made.prepared.examples]
    return Result(
        case=case.name,
        seed=seed,
        seconds=round(made.seconds["training"], 1),
        loss=(statistics.mean(before.loss), statistics.mean(after.loss)),
        loss_by_draw=(before.loss, after.loss),
        unrelated_loss=(
            statistics.mean(before.unrelated_loss),
            statistics.mean(after.unrelated_loss),
        ),
        saturation=(mean_saturation(before.samples), mean_saturation(after.samples)),
        nearest_mse=(
            nearest_mse(before.samples, references),
            nearest_mse(after.samples, references),
        ),
    )


def make(base: BaseModel, case: Case, inputs: TrainingInputs, folder: Path) -> MadeLora:
    request = Request(
        instance_data=EXAMPLES / case.archive,
        instance_data_urls=None,
        custom_prompts=None,
        inputs=inputs,
        name=case.name,
    )
    return make_lora(base, request, folder, lambda now: logger.debug(now.line()))


def look(
    base: BaseModel,
    pipeline: StableDiffusionPipeline,
    case: Case,
    evaluated: Sequence[Example],
    unrelated: Sequence[Example],
    words: str,
) -> Look:
    """`words`: none for the base model, which does not know the trained ones."""

    def losses(examples: Sequence[Example]) -> tuple[float, ...]:
        draws: FixedDraws = fix_draws(base, examples)
        return measure_loss(base, draws, prompts_with(examples, words))

    prompts = [asked_for(prompt, words) for prompt in case.prompts]
    resolution = evaluated[0].image.width
    samples = sample(pipeline, base, prompts, range(len(prompts)), resolution)
    return Look(loss=losses(evaluated), unrelated_loss=losses(unrelated), samples=tuple(samples))


def examples_of(archives: Sequence[str], inputs: TrainingInputs) -> tuple[Example, ...]:
    return tuple(
        example
        for archive in archives
        for example in prepare_examples(
            archive=EXAMPLES / archive,
            urls=(),
            task=inputs.task,
            resolution=inputs.resolution,
            custom_prompts=(),
        ).examples
    )


def mean_saturation(images: Sequence[Image.Image]) -> float:
    """Largest minus smallest of a pixel's three colours, in [0, 1]: 0 is black, grey or white."""
    pixels = np.stack([np.asarray(image) for image in images]) / 255
    return float((pixels.max(-1) - pixels.min(-1)).mean())


def nearest_mse(images: Sequence[Image.Image], references: Sequence[Image.Image]) -> float:
    """Mean over the images of the mean squared error to the reference most like each."""
    ours = np.stack([np.asarray(image) for image in images])[:, None] / 255
    theirs = np.stack([np.asarray(image) for image in references])[None] / 255
    return float(((ours - theirs) ** 2).mean((2, 3, 4)).min(1).mean())


def write_sheet(path: Path, case: Case, made: MadeLora, before: Look, after: Look) -> None:
    trained_on = [example.image for example in made.prepared.examples]
    title = fill(case.prompts[0], WORDS)
    rows = [Row(caption="training pictures", images=trained_on[:NUM_COLUMNS])]
    for start in range(0, len(case.prompts), NUM_COLUMNS):
        part = slice(start, start + NUM_COLUMNS)
        rows.append(Row(caption="base model, without the words", images=before.samples[part]))
        rows.append(Row(caption=f'trained: "{title}" ...', images=after.samples[part]))
    write_preview(rows, path)


def change(pair: tuple[float, float]) -> float:
    return 100 * (pair[1] / pair[0] - 1)


def table(results: Sequence[Result]) -> str:
    """One line a run and, for each case, mean and spread of the changes, in percent."""
    measures = ("loss", "unrelated_loss", "saturation", "nearest_mse")
    lines = ["case     seed  seconds  " + "  ".join(f"{measure:>24}" for measure in measures)]
    for result in results:
        cells = [
            f"{pair[0]:.4f} -> {pair[1]:.4f} {change(pair):+6.1f}%"
            for pair in (getattr(result, measure) for measure in measures)
        ]
        lines.append(
            f"{result.case:<8} {result.seed:>4}  {result.seconds:>7.1f}  {'  '.join(cells)}"
        )
    for case in dict.fromkeys(result.case for result in results):
        of_case = [result for result in results if result.case == case]
        cells = []
        for measure in measures:
            changes = [change(getattr(result, measure)) for result in of_case]
            spread = statistics.stdev(changes) if len(changes) > 1 else 0.0
            cells.append(f"{statistics.mean(changes):+.1f} +- {spread:.1f}%".rjust(24))
        lines.append(f"{case:<8} mean           {'  '.join(cells)}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, default=REPOSITORY / "weights" / "tiny")
    parser.add_argument("--case", choices=[case.name for case in CASES], help="default: all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "output" / "learning")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    arguments.out.mkdir(parents=True, exist_ok=True)
    base = load_base_model(arguments.base, pick_compute())
    results: list[Result] = []
    for case in CASES:
        for seed in range(arguments.seeds if arguments.case in (None, case.name) else 0):
            inputs = TrainingInputs(**base.card.recommended | {"task": case.task, "seed": seed})  # type: ignore[arg-type]
            sheet = arguments.out / f"{case.name}-{seed}.png"
            results.append(run(base, case, inputs, sheet))
            sys.stdout.write(f"{table(results[-1:]).splitlines()[1]}\n")
            sys.stdout.flush()
    sys.stdout.write(f"\n{table(results)}\n")
    report = {
        "command": f"python -m benchmarks.learning {' '.join(sys.argv[1:])}".strip(),
        "base_model": base.card.name,
        "machine": describe_machine(base),
        "inputs": base.card.recommended,
        "results": [asdict(result) for result in results],
    }
    name = f"learning-{arguments.case or 'all'}.json"
    (arguments.out / name).write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
