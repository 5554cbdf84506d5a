"""The soak of benchmarks/soak.py, shortened, and what it would say of a server that leaks."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.soak import soak
from benchmarks.soak_plan import BLOCK, plan
from benchmarks.soak_report import COUNTS, LIMITS, Outcome, Sample, Soak
from benchmarks.trend import fit
from tests.loopback import running_server

NUMBERS = range(100)


def sample(**changes: float) -> Sample:
    return Sample(**dict.fromkeys(LIMITS, 10.0) | changes)  # type: ignore[arg-type]


def outcome(**changes: object) -> Outcome:
    values = {"name": "face", "wanted": "succeeded", "end": "succeeded", "seconds": 1.0}
    nothing = {"cancel_seconds": None, "sha256": "a", "reason": None}
    return Outcome(**values | nothing | changes)  # type: ignore[arg-type]


def test_a_line_is_found_again() -> None:
    trend = fit(NUMBERS, [3 + 0.02 * number for number in NUMBERS])

    assert trend.slope == pytest.approx(2.0)  # per 100
    assert trend.error == pytest.approx(0.0, abs=1e-9)
    assert trend.level == pytest.approx(3.99)


def test_the_error_of_a_slope_is_how_much_slopes_really_scatter() -> None:
    noise = np.random.default_rng(0).normal(0, 5, (500, len(NUMBERS)))
    trends = [fit(NUMBERS, row.tolist()) for row in noise]

    scatter = float(np.std([trend.slope for trend in trends]))
    assert float(np.mean([trend.error for trend in trends])) == pytest.approx(scatter, rel=0.15)


def test_memory_that_wanders_has_a_larger_error_than_memory_that_jitters() -> None:
    steps = np.random.default_rng(0).normal(0, 1, len(NUMBERS))
    wandering = np.cumsum(steps).tolist()
    jittering = np.random.default_rng(1).permutation(wandering).tolist()

    assert fit(NUMBERS, wandering).error > 2 * fit(NUMBERS, jittering).error


@pytest.mark.parametrize(
    ("growth", "jitter", "verdict"),
    [(0.0, 1.0, "flat"), (1.0, 1.0, "growing"), (0.0, 1000.0, "unclear"), (-1.0, 1.0, "flat")],
)
def test_growth_is_told_from_jitter(growth: float, jitter: float, verdict: str) -> None:
    noise = np.random.default_rng(0).normal(0, jitter, len(NUMBERS))

    values = growth * np.arange(len(NUMBERS)) + noise
    assert fit(NUMBERS, values.tolist()).verdict(limit=20.0) == verdict


@pytest.mark.parametrize("leaking", LIMITS)
def test_a_server_that_leaks_is_found_out(leaking: str) -> None:
    """By one file, thread or megabyte every second prediction."""
    samples = tuple(sample(**{leaking: 10.0 + number // 2}) for number in range(200))
    soaked = Soak(outcomes=(outcome(),) * 200, samples=samples)

    growing = [
        name for name, trend in soaked.trends().items() if trend.verdict(LIMITS[name]) == "growing"
    ]
    assert growing == [leaking]


@pytest.mark.parametrize("leaking", COUNTS)
def test_twenty_predictions_find_a_leak_of_one_every_second_prediction(leaking: str) -> None:
    samples = tuple(sample(**{leaking: 10.0 + number // 2}) for number in range(BLOCK))

    assert Soak(outcomes=(), samples=samples).piled_up() == [leaking]


@pytest.mark.parametrize("step_at", range(1, BLOCK))
def test_one_thread_more_from_some_moment_on_is_no_leak(step_at: int) -> None:
    """Cog's server starts one when its others are busy, whenever that is."""
    samples = tuple(sample(threads=12.0 + (number >= step_at)) for number in range(BLOCK))

    assert Soak(outcomes=(), samples=samples).piled_up() == []


def test_what_went_wrong_is_named() -> None:
    good, other = outcome(), outcome(sha256="b")
    lost = outcome(name="cancelled", wanted="canceled", end="lost", reason="Timeout")
    soaked = Soak(outcomes=(good, good, lost, other), samples=(sample(),) * 4)

    assert soaked.problems() == [
        "prediction 2 (cancelled) ended as lost, not as canceled: Timeout",
        "prediction 3 (face) gave other bytes",
    ]
    assert replace(soaked, outcomes=(good, good)).problems() == []


def test_the_plan_is_the_same_each_time_and_ends_as_it_began() -> None:
    with running_server() as web:
        first, again = plan(2 * BLOCK, web), plan(2 * BLOCK, web)

    assert first == again
    assert len(first) == 2 * BLOCK
    assert {step.end for step in first} == {"succeeded", "failed", "canceled", "refused"}
    assert first[-1] == next(step for step in first if step.end == "succeeded")


@pytest.mark.slow
def test_after_twenty_predictions_none_is_lost_and_nothing_has_piled_up() -> None:
    """Memory takes more than twenty to settle: only the long soak can judge it."""
    soaked = soak(BLOCK)

    assert soaked.problems() == []
    assert soaked.piled_up() == []
    assert soaked.samples[-1].temporary_files == 0
