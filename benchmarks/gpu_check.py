"""Everything that only a GPU can tell, in one command: see script/gpu-check.

Each stage is a process of its own with a limit, so that one that fails or hangs costs no other;
what was found is written whatever happens.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import doctor, machine
from benchmarks.machine import REPOSITORY, say
from training.compute import pick_compute

NEEDS = """\
gpu-check runs the tests that need a GPU, script/bench on the small model and on Stable Diffusion
1.5's shapes (random weights: nothing is downloaded), and says whether this machine is good for
training. It needs a CUDA device with 10 GiB, 5 GB of disk for temporary files, and no network. It
takes 3 to 6 minutes, 9 at most, and writes benchmarks/results/<device>-<date>.json."""
NO_GPU = """\
No CUDA device was found, so there is nothing to check here; that is no failure. On a machine with
one, run this again. `script/gpu-check --on-cpu` tries out the check itself, on a narrow model."""
TURNS = ("--steps", "10", "--rounds", "3")
SHORT_TURNS = ("--steps", "1", "--rounds", "1", "--job-seconds", "1")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """`arguments`: of Python; `seconds`: it is ended after so long."""

    name: str
    arguments: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """`problem`: None when all went well."""

    seconds: float
    problem: str | None


def stages(folder: Path, *, on_cpu: bool) -> tuple[Stage, ...]:
    """Limits add up to less than nine minutes. On a CPU: as little as goes through every line."""
    photos = ("--zip", str(REPOSITORY / "examples" / "penguin.zip"))
    bench = ("-m", "benchmarks.bench", "--out", str(folder))
    tiny: tuple[str, ...] = (*bench, *photos)
    large: tuple[str, ...] = (*bench, "--model", "sd15-random", *TURNS)
    if on_cpu:
        tiny = (*bench, *photos, *SHORT_TURNS, "--no-memory")
        large = (*bench, *photos, *SHORT_TURNS, "--model", "sd15-narrow-random")
    # What a newer library warns of is not what is asked here, so warnings are no errors.
    pytest = ("-m", "pytest", "-q", "-o", "filterwarnings=default", "-p", "no:cacheprovider")
    return (
        Stage(name="tests", arguments=(*pytest, "-m", "gpu", "tests/test_gpu.py"), seconds=150),
        Stage(name="tiny", arguments=tiny, seconds=120),
        Stage(name="large", arguments=large, seconds=240),
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="script/gpu-check", description=NEEDS)
    parser.add_argument("--on-cpu", action="store_true", help="try out the check, without a GPU")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results")
    options = parser.parse_args(arguments)
    say(NEEDS)
    if not torch.cuda.is_available() and not options.on_cpu:
        say(NO_GPU)
        return 0
    outcomes: dict[str, Outcome] = {}
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for stage in stages(Path(temporary), on_cpu=options.on_cpu):
            outcomes[stage.name] = run_stage(stage, Path(temporary))
            found |= {path.stem: read(path) for path in Path(temporary).glob("*.json")}
    return conclude(outcomes, found, options.out)


def run_stage(stage: Stage, folder: Path) -> Outcome:
    """Its output goes where ours goes, its temporary files into `folder`, even if it is ended."""
    say(f"\n== {stage.name}: {stage.seconds:.0f} s at most")
    start = time.perf_counter()
    try:
        finished = subprocess.run(
            [sys.executable, *stage.arguments],
            cwd=REPOSITORY,
            env=os.environ | {"TMPDIR": str(folder)},
            timeout=stage.seconds,
            check=False,
        )
        problem = f"ended with {finished.returncode}" if finished.returncode else None
    except subprocess.TimeoutExpired:
        problem = f"not done in {stage.seconds:.0f} s"
    return Outcome(seconds=round(time.perf_counter() - start, 1), problem=problem)


def read(path: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return report


def conclude(outcomes: dict[str, Outcome], found: dict[str, dict[str, Any]], out: Path) -> int:
    """Tell and write it all; the exit status."""
    here = machine.describe(pick_compute())
    of_model = {report["model"]: report for report in found.values()}
    large = next((report for name, report in of_model.items() if name.startswith("sd15")), None)
    diagnosis = doctor.diagnose(here, large)
    report = {
        "command": "script/gpu-check",
        "machine": here,
        "stages": {name: vars(outcome) for name, outcome in outcomes.items()},
        "doctor": diagnosis,
        "benchmarks": of_model,
    }
    path = out / f"{machine.slug(here['device'])}-{machine.today()}.json"
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    say("\n== doctor")
    sys.stdout.write("\n".join(doctor.lines(diagnosis)) + "\n")
    for name, outcome in outcomes.items():
        sys.stdout.write(f"{name:<10} {outcome.problem or 'passed'}, {outcome.seconds:.0f} s\n")
    sys.stdout.write(f"wrote {path.name}\n")
    return 1 if any(outcome.problem for outcome in outcomes.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
