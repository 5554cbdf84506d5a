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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch

from benchmarks import doctor, machine, targets
from benchmarks.machine import REPOSITORY, say
from benchmarks.measure import Report
from benchmarks.variants import COMPILED, CUDNN, PLAIN, RECORDED
from training.compute import pick_compute

# The memory is reckoned, not measured: the variants that take turns keep weights of their own,
# 12 GiB in all, and the plain loop's float32 weights need 4 to 5 GiB more while it learns.
NEEDS = """\
gpu-check runs the tests that need a GPU, script/bench on the small model and on Stable Diffusion
1.5's shapes (random weights: nothing is downloaded), and says whether this machine is good for
training. It needs a CUDA device with 24 GiB, 8 GB of disk for temporary files, and no network. It
takes 9 minutes at most, and writes benchmarks/results/<device>-<date>.json. With --sweep it shows
instead how the cost grows with resolution, rank and pictures, and what torch.compile brings, also
in 9 minutes at most."""
NO_GPU = """\
No CUDA device was found, so there is nothing to check here; that is no failure. On a machine with
one, run this again. `script/gpu-check --on-cpu` tries out the check itself, on a narrow model."""
PHOTOS = ("--zip", str(REPOSITORY / "examples" / "penguin.zip"))
LARGE = ("--model", "sd15-random", "--rounds", "3")
# As little as goes through every line.
SHORT = (*PHOTOS, "--steps", "1", "--rounds", "1", "--job-seconds", "1", "--points", "2")
NARROW = ("--model", "sd15-narrow-random")
# Of Python packages only what the product itself does not need.
PACKAGES = {"pytest": "pytest", "skimage": "scikit-image"}


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
    """Limits add up to less than nine minutes; each bench has a folder of its name."""
    # What a newer library warns of is not what is asked here, so warnings are no errors.
    pytest = ("-m", "pytest", "-q", "-o", "filterwarnings=default", "-p", "no:cacheprovider")
    # The second ends with a failed capture, after which none is tried.
    files = ("tests/test_precision.py", "tests/test_gpu.py")
    tests = Stage(name="tests", arguments=(*pytest, "-m", "gpu", *files), seconds=95)
    if on_cpu:
        short = (*SHORT, "--variant", PLAIN, "--memory", "ours")
        return (tests, bench_stage(folder, "large", 220, *NARROW, *short))
    return (
        tests,
        bench_stage(folder, "tiny", 45, *PHOTOS, "--steps", "10", "--rounds", "5"),
        bench_stage(folder, "large", 230, *LARGE, "--task", "face"),
        variant_stage(folder, RECORDED, 90),
        variant_stage(folder, CUDNN, 75),
    )


def stages_of_sweep(folder: Path, images: Path, *, on_cpu: bool) -> tuple[Stage, ...]:
    size = SHORT if on_cpu else (*LARGE, "--steps", "8")
    arguments = (*size, "--only-sweep", "--out-images", str(images))
    swept = bench_stage(folder, "sweep", 260, *arguments)
    return (swept,) if on_cpu else (swept, variant_stage(folder, COMPILED, 270))


def variant_stage(folder: Path, name: str, seconds: float) -> Stage:
    """A process of its own: where a capture failed, there are no graphs any more, nor ours."""
    arguments = (*LARGE, *PHOTOS, "--job-seconds", "0", "--variant", name)
    return bench_stage(folder, machine.slug(name), seconds, *arguments)


def bench_stage(folder: Path, name: str, seconds: float, *arguments: str) -> Stage:
    command = ("-m", "benchmarks.bench", "--out", str(folder / name), *arguments)
    return Stage(name=name, arguments=command, seconds=seconds)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="script/gpu-check", description=NEEDS)
    parser.add_argument("--on-cpu", action="store_true", help="try out the check, without a GPU")
    parser.add_argument("--sweep", action="store_true", help="what grows with what, and only that")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results")
    parser.add_argument("--out-images", type=Path, default=REPOSITORY / "docs" / "images")
    options = parser.parse_args(arguments)
    say(NEEDS)
    if not torch.cuda.is_available() and not options.on_cpu:
        say(NO_GPU)
        return 0
    missing = [name for module, name in PACKAGES.items() if find_spec(module) is None]
    if missing:
        say(f"Missing: {', '.join(missing)}. Install what requirements-dev.txt says and try again.")
        return 1
    outcomes, found = run_all(partial(plan, options))
    return conclude(outcomes, found, options)


def plan(options: argparse.Namespace, folder: Path) -> tuple[Stage, ...]:
    if options.sweep:
        return stages_of_sweep(folder, options.out_images.resolve(), on_cpu=options.on_cpu)
    return stages(folder, on_cpu=options.on_cpu)


def run_all(
    plan: Callable[[Path], tuple[Stage, ...]],
) -> tuple[dict[str, Outcome], dict[str, Report]]:
    """How each stage of `plan` ended, and what the benches among them found.

    Args:
        plan: gets the folder that they may write to.
    """
    outcomes: dict[str, Outcome] = {}
    found: dict[str, Report] = {}
    # A stage that was ended may have started others (a compiler's), which go on writing.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        for stage in plan(Path(temporary)):
            outcomes[stage.name] = run_stage(stage, Path(temporary))
            for path in (Path(temporary) / stage.name).glob("*.json"):
                found[stage.name] = read(path)
    return outcomes, found


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


def read(path: Path) -> Report:
    report: Report = json.loads(path.read_text(encoding="utf-8"))
    return report


def conclude(
    outcomes: dict[str, Outcome], found: dict[str, Report], options: argparse.Namespace
) -> int:
    """Tell and write it all; the exit status."""
    here = machine.describe(pick_compute())
    report: Report = {
        "command": "script/gpu-check --sweep" if options.sweep else "script/gpu-check",
        "machine": here,
        "stages": {name: vars(outcome) for name, outcome in outcomes.items()},
        "benchmarks": found,
    }
    lines: list[str] = []
    if not options.sweep:
        large = found.get("large", {})
        report |= {"doctor": doctor.diagnose(here, large), "targets": targets.judge(large)}
        lines += ["== doctor", *doctor.lines(report["doctor"])]
        lines += ["== targets (of an H100)", *targets.lines(report["targets"]), "== stages"]
    told = {name: outcome.problem or "passed" for name, outcome in outcomes.items()}
    lines += [f"{name:<22} {told[name]}, {outcomes[name].seconds:.0f} s" for name in outcomes]
    kind = "-sweep" if options.sweep else ""
    path = options.out / f"{machine.slug(here['device'])}{kind}-{machine.today()}.json"
    options.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write("\n".join([*lines, f"wrote {path.name}"]) + "\n")
    return 1 if any(outcome.problem for outcome in outcomes.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
