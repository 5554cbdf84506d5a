"""What the soak found: predictions that went wrong, what grew, as a table, a picture and JSON."""

import os
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

import matplotlib as mpl
from matplotlib import pyplot as plt

from benchmarks.soak_plan import SEED
from benchmarks.trend import PER, Trend, fit

SHOWN = {"succeeded": "#2ca02c", "failed": "#d62728", "canceled": "#ff7f0e", "refused": "#7f7f7f"}

# Blocks of twenty hold every format and task. For three of them, memory that is kept for reuse
# still grows to its size; of the shortest soaks, which are for counts and results, a third.
WARM_UP = 60

# What a slope may be, per 100 predictions, which at the usual settings are more than a day's work
# of one GPU. A result of the soak is 0.4 MB: a worker that kept one of each run, or anything larger
# (its pictures, latents, gradients), would grow by 40 MB; how memory falls into pieces, by less.
LIMITS = {
    "worker_mib": 10.0,
    "decoders_mib": 10.0,
    "server_mib": 10.0,
    # Things that are counted do not grow a little: one more in two hundred predictions is a leak
    # of something rare, or the start of one.
    "open_files": 0.5,
    "threads": 0.5,
    "temporary_files": 0.5,
    "working_files": 0.5,
}
# Of what is counted, how much more a soak of one block may hold at its end. A slope through so few
# points takes one step for growth, and one step there may be: what a library sets up late.
COUNTS = ("open_files", "threads", "temporary_files", "working_files")
MAX_STEP = 1
BEFORE_THE_RUN = "Input validation error: "  # Cog's words for a zip that it could not decode
TITLES = {
    "worker_mib": "worker, resident MiB",
    "decoders_mib": "its decoders, resident MiB",
    "server_mib": "HTTP server, resident MiB",
    "open_files": "open files",
    "threads": "threads, without those of Cog's pool",
    "temporary_files": "temporary files, without the result",
    "working_files": "files in the working folder",
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one prediction ended.

    Attributes:
        end: a status; refused for 422; lost if there was no answer in time.
        seconds: from asking to the answer.
        cancel_seconds: from the cancellation to the answer.
        sha256: of the file that came back.
        reason: the error, of those that failed.
    """

    name: str
    wanted: str
    end: str
    seconds: float
    cancel_seconds: float | None
    sha256: str | None
    reason: str | None

    @property
    def is_run(self) -> bool:
        """Whether our code saw it: Cog refuses values and decodes the zip before that."""
        return self.end != "refused" and not (self.reason or "").startswith(BEFORE_THE_RUN)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What the server held after one prediction; the worker's children are its decoders."""

    worker_mib: float
    decoders_mib: float
    server_mib: float
    open_files: int
    threads: int
    temporary_files: int
    working_files: int


@dataclass(frozen=True, kw_only=True)
class Soak:
    """Outcomes and samples, one each for every prediction, in order."""

    outcomes: tuple[Outcome, ...]
    samples: tuple[Sample, ...]

    @property
    def warm_up(self) -> int:
        """How many samples are left out of the fits."""
        return min(WARM_UP, len(self.samples) // 3)

    def trends(self) -> dict[str, Trend]:
        numbers = range(self.warm_up, len(self.samples))
        samples = self.samples[self.warm_up :]
        return {name: fit(numbers, [getattr(one, name) for one in samples]) for name in LIMITS}

    def piled_up(self) -> list[str]:
        """The counts of which there are steadily more at the end: for soaks of one block.

        Compared are the medians of the first and the last third after the warm-up; in one block,
        one more every second prediction is five more.
        """
        samples = self.samples[self.warm_up :]
        third = len(samples) // 3

        def rise(name: str) -> float:
            values = [getattr(sample, name) for sample in samples]
            return median(values[-third:]) - median(values[:third])

        return [name for name in COUNTS if rise(name) > MAX_STEP]

    def problems(self) -> list[str]:
        """Predictions that ended otherwise than they should, and results that differ."""
        problems, first = [], dict[str, str | None]()
        for number, outcome in enumerate(self.outcomes):
            if outcome.end != outcome.wanted:
                problems.append(
                    f"prediction {number} ({outcome.name}) ended as {outcome.end}, not as"
                    f" {outcome.wanted}: {outcome.reason}"
                )
            elif first.setdefault(outcome.name, outcome.sha256) != outcome.sha256:
                problems.append(f"prediction {number} ({outcome.name}) gave other bytes")
        return problems


def table(trends: dict[str, Trend]) -> str:
    lines = [f"{f'per {PER} predictions':36}  level    slope    error    limit"]
    for name, trend in trends.items():
        figures = f"{trend.level:7.1f} {trend.slope:+8.3f} {trend.error:8.3f} {LIMITS[name]:8.1f}"
        lines.append(f"{TITLES[name]:36}{figures}  {trend.verdict(LIMITS[name])}")
    return "\n".join(lines)


def plot(soaked: Soak, path: Path) -> None:
    """Each quantity after each prediction, coloured by its end; the line is the fit."""
    mpl.use("agg")
    figure, grid = plt.subplots(2, 4, figsize=(14, 6))
    for axis, (name, trend) in zip(grid.flat, soaked.trends().items(), strict=False):
        values = [getattr(sample, name) for sample in soaked.samples]
        for end, colour in SHOWN.items():
            numbers = [at for at, one in enumerate(soaked.outcomes) if one.end == end]
            chosen = [values[number] for number in numbers]
            axis.scatter(numbers, chosen, s=7, color=colour, label=end)
        ends = (soaked.warm_up, len(values) - 1)
        middle = sum(ends) / 2
        heights = [trend.level + trend.slope * (end - middle) / PER for end in ends]
        axis.plot(ends, heights, color="black", linewidth=1)
        axis.set(title=f"{TITLES[name]}\n{trend.slope:+.2f} ± {trend.error:.2f} per {PER}")
        axis.set(xlabel="predictions", ylim=(0, max(1.0, 1.2 * max(values))))
    grid.flat[-1].axis("off")
    handles, labels = grid.flat[0].get_legend_handles_labels()
    grid.flat[-1].legend(handles, labels, loc="center")
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)


def describe(soaked: Soak, command: Sequence[str]) -> dict[str, object]:
    waits = sorted(one.cancel_seconds for one in soaked.outcomes if one.cancel_seconds is not None)
    return {
        "command": " ".join(("python -m benchmarks.soak", *command)),
        "machine": {
            "cores": os.cpu_count(),
            "load_average": os.getloadavg(),  # what else went on
            "python": platform.python_version(),
            "packages": {name: version(name) for name in ("cog", "torch", "diffusers", "pillow")},
        },
        "seed": SEED,
        "warm_up": soaked.warm_up,
        "ends": Counter(outcome.end for outcome in soaked.outcomes),
        "names": Counter(outcome.name for outcome in soaked.outcomes),
        "problems": soaked.problems(),
        "cancel_seconds": {"median": waits[len(waits) // 2], "longest": waits[-1]},
        "trends": {
            name: asdict(trend) | {"limit": LIMITS[name], "verdict": trend.verdict(LIMITS[name])}
            for name, trend in soaked.trends().items()
        },
        "samples": {
            name: [round(getattr(sample, name), 1) for sample in soaked.samples] for name in LIMITS
        },
    }
