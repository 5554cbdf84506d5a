"""How fast does it train, against the arithmetic it needs and against a plain loop?

    script/bench [--model weights/tiny | sd15-random] [--sweep]

Prints a table and writes the same as JSON. All variants run in one process, in turns; on a CPU
their CPU time is compared (other work on the machine changes the wall's), on a GPU the device's
clock. Three minutes on two cores with the small model that comes with the repository.
"""

import argparse
import json
import logging
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import machine
from benchmarks.machine import REPOSITORY, say
from benchmarks.measure import Plan, measure, peak_alone
from benchmarks.models import open_model
from benchmarks.pictures import write_set
from benchmarks.sweep import sweep
from benchmarks.table import table
from training.base_model import BaseModel
from training.compute import pick_compute
from training.settings import TrainingInputs


def main(arguments: Sequence[str]) -> None:
    options = parse(arguments)
    logging.disable(logging.WARNING)  # the table says what there is to say
    compute = pick_compute()
    with pictures_of(options) as archive, open_model(options.model, compute) as model:
        plan = make_plan(options, model.base, archive)
        if options.memory_of:
            sys.stdout.write(f"{peak_alone(model.base, plan, *options.memory_of.split(':'))}\n")
            return
        report = {
            "command": f"script/bench {shlex.join(arguments)}".strip(),
            "machine": machine.describe(compute),
            **measure(model, plan),
        }
        if options.sweep:
            picture = options.out_images / f"bench-{machine.slug(model.name)}.png"
            report["sweep"] = sweep(model.base, plan.inputs, plan.num_updates, picture)
    sys.stdout.write("\n".join(table(report)) + "\n")
    device = machine.slug(machine.device_name(compute.device))
    path = options.out / f"bench-{machine.slug(model.name)}-{device}-{machine.today()}.json"
    options.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    say(f"wrote {path.name}")


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
    add("--resolution", type=int, help="pixels a side; default: the model's own")
    add("--steps", type=int, default=10, help="updates in a row of each variant")
    add("--rounds", type=int, default=7, help="turns of each variant")
    add("--job-seconds", type=float, default=60, help="for the training of the whole job, at most")
    add("--no-memory", action="store_true", help="leave out peak memory, a process each on a CPU")
    add("--sweep", action="store_true", help="also what grows with what; plots into docs/images")
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
        say(f"making {options.pictures} photos of 12 megapixels, a second each ...")
        write_set(path, ("JPEG",), options.pictures)
        yield path


def make_plan(options: argparse.Namespace, base: BaseModel, archive: Path) -> Plan:
    """The form's defaults at the model's own resolution."""
    resolution = options.resolution or base.card.resolution.native
    return Plan(
        model=options.model,
        archive=archive,
        inputs=TrainingInputs(task="object", resolution=resolution),
        num_updates=options.steps,
        num_rounds=options.rounds,
        job_seconds=options.job_seconds,
        with_memory=not options.no_memory,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
