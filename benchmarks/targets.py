"""What training on Stable Diffusion 1.5's shapes may cost on an H100, and whether it does.

Twelve pictures of 512 pixels, the form's defaults, a warm process. Elsewhere the same is judged,
and says how far from an H100 the machine is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.measure import PHASES, Report
from benchmarks.variants import OURS, PLAIN

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Target:
    """`is_most`: the limit is the most it may be, else the least."""

    name: str
    limit: float
    unit: str
    find: Callable[[Report], float]
    is_most: bool = True

    def is_met_by(self, found: float) -> bool:
        return found <= self.limit if self.is_most else found >= self.limit


def ms_per_update(phase: str) -> Callable[[Report], float]:
    return lambda report: report["phases"][phase]["variants"][OURS]["ms_per_update"]


def times_plain_loop(phase: str) -> Callable[[Report], float]:
    return lambda report: report["phases"][phase]["times_ours"][PLAIN]["median"]


def peak_gib(report: Report) -> float:
    """Of both phases and the whole job."""
    phases = [phase["variants"][OURS]["peak_bytes"] for phase in report["phases"].values()]
    return max(*phases, report["whole_job"]["peak_bytes"]) / GIB


TARGETS = (
    Target(name="set-up from local files", limit=10, unit="s", find=lambda r: r["set_up_seconds"]),
    Target(name="inversion, update of 2", limit=18, unit="ms", find=ms_per_update("inversion")),
    Target(name="tuning, update of 1", limit=12, unit="ms", find=ms_per_update("tuning")),
    *(
        Target(
            name=f"{phase}, plain loop / ours",
            limit=5,
            unit="times",
            find=times_plain_loop(phase),
            is_most=False,
        )
        for phase in PHASES
    ),
    Target(
        name="job of default steps",
        limit=25,
        unit="s",
        find=lambda r: r["whole_job"]["default_seconds"],
    ),
    Target(name="peak memory", limit=10, unit="GiB", find=peak_gib),
)


def judge(large: Report) -> list[dict[str, Any]]:
    """As the JSON has it; `found` and `is_met` are None where the benchmark ended before.

    Args:
        large: what script/bench has found so far.
    """
    return [_verdict(target, large) for target in TARGETS]


def _verdict(target: Target, large: Report) -> dict[str, Any]:
    try:
        found = target.find(large)
    except (KeyError, TypeError, ValueError):  # what lies on the way is not there yet, or None
        found = None
    return {
        "name": target.name,
        "at_most" if target.is_most else "at_least": target.limit,
        "unit": target.unit,
        "found": None if found is None else round(found, 2),
        "is_met": None if found is None else target.is_met_by(found),
    }


def lines(verdicts: list[dict[str, Any]]) -> list[str]:
    words = {None: "not measured", True: "met", False: "NOT met"}
    told = []
    for one in verdicts:
        found = "-" if one["found"] is None else f"{one['found']:.2f}"
        limit = f"at most {one['at_most']}" if "at_most" in one else f"at least {one['at_least']}"
        told.append(
            f"{one['name']:<30} {found:>8} {one['unit']:<6} {limit:<12} {words[one['is_met']]}"
        )
    return told
