"""How fast does it train, against the arithmetic it needs and against other loops?

    script/bench [--model weights/tiny | sd15-random] [--sweep]

Prints a table and writes the same as JSON. All variants run in turns: ours, a plain loop, and the
prior service's own trainer where script/interop has installed it. On a CPU their CPU time is
compared (other work on the machine changes the wall's), on a GPU the device's clock. Five minutes
on two cores with the small model that comes with the repository.
"""

import argparse
import json
import logging
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

from benchmarks import machine
from benchmarks.chart import draw
from benchmarks.machine import REPOSITORY, say
from benchmarks.measure import Plan, Report, measure, peak_alone
from benchmarks.models import OpenedModel, open_model
from benchmarks.pictures import write_face_set, write_set
from benchmarks.sweep import sweep
from benchmarks.table import sweep_table, table
from benchmarks.variants import VARIANTS
from training.base_model import BaseModel
from training.compute import Compute, pick_compute
from training.settings import Task, TrainingInputs


def main(arguments: Sequence[str]) -> None:
    options = parse(arguments)
    logging.disable(logging.WARNING)  # the table says what there is to say
    compute = pick_compute()
    with pictures_of(options) as archive, open_model(options.model, compute) as model:
        plan = make_plan(options, model.base, archive)
        if options.memory_of:
            sys.stdout.write(f"{peak_alone(model.base, plan, *options.memory_of.split(':'))}\n")
            return
        head = {
            "command": command_of(arguments),
            "machine": machine.describe(compute),
        }
        keep = keeper(options, model, compute)
        if not options.only_sweep:
            head |= measure(model, plan, lambda found: keep(head | found))
            sys.stdout.write("\n".join(table(head)) + "\n")
        if options.sweep or options.only_sweep:
            measure_sweep(options, model, plan, head, keep)


def command_of(arguments: Sequence[str]) -> str:
    """As it was typed, but for the folders that the results went to, which nobody else has."""
    kept, rest = [], list(arguments)
    while rest:
        word = rest.pop(0)
        if word in ("--out", "--out-images"):
            rest.pop(0)
        else:
            kept.append(word)
    return f"script/bench {shlex.join(kept)}".strip()


def measure_sweep(
    options: argparse.Namespace,
    model: OpenedModel,
    plan: Plan,
    report: Report,
    keep: Callable[[Report], None],
) -> None:
    """Adds to the report; the picture is drawn where this machine can draw."""
    report |= {"model": model.name, "sweep": {}}
    report |= {"resolution": plan.inputs.resolution, "lora_rank": plan.inputs.lora_rank}
    report.setdefault("peak_flops_per_second", machine.measure_peak_flops(model.base.compute))
    for name, points in sweep(model.base, plan.inputs, plan.num_updates, options.points):
        report["sweep"][name] = [vars(point) for point in points]
        keep(report)
    sys.stdout.write("\n".join(sweep_table(report["sweep"])) + "\n")
    draw(report, options.out_images / f"bench-{machine.slug(model.name)}.png")


def keeper(
    options: argparse.Namespace, model: OpenedModel, compute: Compute
) -> Callable[[Report], None]:
    """Writes the report so far, so that a run that is ended leaves what it found."""
    device = machine.slug(machine.device_name(compute.device))
    kind = "sweep" if options.only_sweep else "bench"
    path = options.out / f"{kind}-{machine.slug(model.name)}-{device}-{machine.today()}.json"
    options.out.mkdir(parents=True, exist_ok=True)

    def keep(report: Report) -> None:
        unfinished = path.with_suffix(".part")
        unfinished.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        unfinished.replace(path)
        say(f"wrote {path.name}")

    return keep


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="script/bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", default=str(REPOSITORY / "weights" / "tiny"), help="a folder, or sd15-random")
    add("--zip", type=Path, help="pictures to train on; default: photos of 12 megapixels made here")
    add("--pictures", type=int, default=12, help="how many photos to make")
    add("--task", choices=get_args(Task), default="object", help="for face, photos have one")
    add("--resolution", type=int, help="pixels a side; default: the model's own")
    add("--variant", action="append", choices=VARIANTS, default=[], help="beside ours; again, more")
    add("--steps", type=int, default=5, help="updates in a row of each variant")
    add("--rounds", type=int, default=15, help="turns of each variant")
    add("--job-seconds", type=float, default=60, help="for the whole job's training; 0: no job")
    add("--memory", choices=("all", "ours", "none"), default="all", help="on a CPU, a process each")
    add("--sweep", action="store_true", help="also what grows with what; plots into docs/images")
    add("--only-sweep", action="store_true", help="nothing but that")
    add("--points", type=int, default=99, help="of everything that is swept, at most")
    add("--out", type=Path, default=REPOSITORY / "benchmarks" / "results")
    add("--out-images", type=Path, default=REPOSITORY / "docs" / "images")
    add("--memory-of", help=argparse.SUPPRESS)  # VARIANT:PHASE, in a process of its own
    return parser.parse_args(arguments)


@contextmanager
def pictures_of(options: argparse.Namespace) -> Iterator[Path]:
    """The zip that was named, or one of photos made here."""
    if options.zip:
        yield options.zip
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photos.zip"
        if not options.only_sweep:  # which makes its own, of the size that it wants
            say(f"making {options.pictures} photos of 12 megapixels, a second each ...")
            if options.task == "face":
                write_face_set(path, options.pictures)
            else:
                write_set(path, ("JPEG",), options.pictures)
        yield path


def make_plan(options: argparse.Namespace, base: BaseModel, archive: Path) -> Plan:
    """The form's defaults at the model's own resolution."""
    resolution = options.resolution or base.card.resolution.native
    return Plan(
        model=options.model,
        archive=archive,
        inputs=TrainingInputs(task=options.task, resolution=resolution),
        num_updates=options.steps,
        num_rounds=options.rounds,
        job_seconds=options.job_seconds,
        memory=options.memory,
        variants=tuple(options.variant),
    )


if __name__ == "__main__":
    main(sys.argv[1:])
