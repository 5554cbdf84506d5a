"""Does the server keep its promises over many predictions? Memory, files, threads, results.

    .venv/bin/python -m benchmarks.soak [--predictions 200]

The real server (script/serve) on weights/tiny: short runs of every format and task, mistakes, and
cancellations at random moments. After each, what the server holds is measured; after the warm-up
each slope must be flat. Every prediction must end as it should, and equal inputs must give equal
bytes from first to last. Exit code 1 if not. Five minutes on two idle cores.
"""

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import psutil
import requests

from benchmarks.soak_plan import Step, plan
from benchmarks.soak_report import LIMITS, Outcome, Sample, Soak, describe, plot, table
from tests.cog_server import CogServer, output_bytes, serve, wait_for
from tests.loopback import running_server

REPOSITORY = Path(__file__).resolve().parent.parent
MIB = 1 << 20
COGS_THREADS = "tokio-rt-worker"
# Of the working folder, what others may fill meanwhile; names with a dot in front as well.
NOT_OURS = {"__pycache__", "output"}


def soak(num_predictions: int) -> Soak:
    """Start a server, ask it for everything in the plan, stop it."""
    outcomes, samples, num_results = [], [], 0
    with running_server() as web, tempfile.TemporaryDirectory() as folder:
        steps = plan(num_predictions, web)
        with serve(Path(folder)) as server:
            server.wait_until("READY")
            for number, step in enumerate(steps):
                outcomes.append(ask(server, step, f"soak-{number}"))
                server.wait_until("READY")
                if outcomes[-1].is_run:  # else the last result is still there
                    num_results = int(outcomes[-1].end == "succeeded")
                samples.append(take_sample(server, num_results))
                show(number, outcomes[-1], samples[-1])
    return Soak(outcomes=tuple(outcomes), samples=tuple(samples))


def ask(server: CogServer, step: Step, name: str) -> Outcome:
    start, cancelled_at = time.monotonic(), None
    try:
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(server.predict_as, name, **step.inputs)
            if step.cancel_after is not None:
                time.sleep(step.cancel_after)
                wait_for(lambda: server.cancel(name).ok or asking.done(), seconds=10)
                cancelled_at = time.monotonic()
            answer = asking.result()
    except (requests.RequestException, TimeoutError) as error:
        return outcome_of(step, start, cancelled_at, end="lost", reason=type(error).__name__)
    if answer.status_code == 422:
        return outcome_of(step, start, cancelled_at, end="refused")
    end, reason = answer.json()["status"], answer.json().get("error")
    digest = hashlib.sha256(output_bytes(answer)).hexdigest() if end == "succeeded" else None
    return outcome_of(step, start, cancelled_at, end=end, sha256=digest, reason=reason)


def outcome_of(
    step: Step,
    start: float,
    cancelled_at: float | None,
    *,
    end: str,
    sha256: str | None = None,
    reason: str | None = None,
) -> Outcome:
    now = time.monotonic()
    return Outcome(
        name=step.name,
        wanted=step.end,
        end=end,
        seconds=round(now - start, 3),
        cancel_seconds=None if cancelled_at is None else round(now - cancelled_at, 3),
        sha256=sha256,
        reason=reason,
    )


def take_sample(server: CogServer, num_results: int) -> Sample:
    """`num_results`: files that may lie there: the last run's, if it succeeded."""
    worker = find_worker(server)
    decoders = worker.children(recursive=True)
    together = [worker, *decoders]
    return Sample(
        worker_mib=worker.memory_info().rss / MIB,
        decoders_mib=sum(process.memory_info().rss for process in decoders) / MIB,
        server_mib=psutil.Process(worker.ppid()).memory_info().rss / MIB,
        open_files=sum(process.num_fds() for process in together),
        threads=sum(num_threads(process) for process in together),
        temporary_files=len(server.files()) - num_results,
        working_files=sum(1 for _ in working_files(REPOSITORY)),
    )


def num_threads(process: psutil.Process) -> int:
    """Without those of the pool of Cog's own runtime, which grows to its size as it needs them."""
    names = []
    for path in Path(f"/proc/{process.pid}/task").glob("*/comm"):
        with suppress(OSError):  # it has ended meanwhile
            names.append(path.read_text().strip())
    return sum(name != COGS_THREADS for name in names)


def find_worker(server: CogServer) -> psutil.Process:
    """The process in which Cog runs the predictor. Raises: StopIteration, if there is none."""
    children = psutil.Process().children(recursive=True)
    return next(process for process in children if is_worker(process, server))


def is_worker(process: psutil.Process, server: CogServer) -> bool:
    try:
        is_the_servers = process.environ().get("TMPDIR") == str(server.temporary)
        return is_the_servers and any("_run_worker" in word for word in process.cmdline())
    except psutil.Error:  # another child, which has ended
        return False


def working_files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith(".") or path.name in NOT_OURS:
            continue
        if path.is_dir() and not path.is_symlink():
            yield from working_files(path)
        else:
            yield path


def show(number: int, outcome: Outcome, sample: Sample) -> None:
    figures = " ".join(f"{value:7.1f}" for value in asdict(sample).values())
    sys.stdout.write(f"{number:4} {outcome.end:9} {outcome.seconds:6.2f} s {figures}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--predictions", type=int, default=200)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "output" / "soak")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    soaked = soak(arguments.predictions)
    plot(soaked, arguments.out / "soak.png")
    report = describe(soaked, sys.argv[1:])
    (arguments.out / "soak.json").write_text(json.dumps(report, indent=2) + "\n")
    trends, problems = soaked.trends(), soaked.problems()
    sys.stdout.write("\n".join((table(trends), str(report["ends"]), *problems)) + "\n")
    are_flat = all(trend.verdict(LIMITS[name]) == "flat" for name, trend in trends.items())
    sys.exit(0 if are_flat and not problems else 1)


if __name__ == "__main__":
    main()
