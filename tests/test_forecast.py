"""Which runs are refused because they would take too long, and what is suggested in their place."""

import re

import pytest
import torch

from training.base_model import BaseModel
from training.batches import TrainingPictures
from training.forecast import PhaseForecast, TooLongError, forecast_phase, in_words, require_time
from training.phase import Phase


def forecasts(inversion: float, tuning: float) -> tuple[PhaseForecast, ...]:
    """Of 700 steps each; in seconds."""
    return (
        PhaseForecast(name="inversion", num_steps=700, seconds=inversion),
        PhaseForecast(name="tuning", num_steps=700, seconds=tuning),
    )


@pytest.mark.parametrize(("seconds_left", "is_refused"), [(1000, True), (1115, False)])
def test_both_phases_must_fit_with_a_tenth_to_spare(seconds_left: float, is_refused: bool) -> None:
    expected = forecasts(400, 600)
    if not is_refused:
        require_time(expected, seconds_left)
        return
    with pytest.raises(
        TooLongError, match=r"about 17 minutes on this machine; 17 minutes are left"
    ):
        require_time(expected, seconds_left)


@pytest.mark.parametrize("seconds_left", [30, 500, 1100])
def test_the_steps_that_are_suggested_fit(seconds_left: float) -> None:
    with pytest.raises(TooLongError) as caught:
        require_time(forecasts(400, 600), seconds_left)

    found = re.search(r"would fit: (\d+) for inversion and (\d+) for tuning", str(caught.value))
    assert found
    inversion, tuning = (int(steps) / 700 for steps in found.groups())
    require_time(forecasts(400 * inversion, 600 * tuning), seconds_left)
    assert 400 * inversion + 600 * tuning > 0.7 * seconds_left


@pytest.mark.parametrize("seconds_left", [1, 0, -5])
def test_where_not_one_step_fits_none_is_suggested(seconds_left: float) -> None:
    with pytest.raises(TooLongError, match=r"no time left.* all but (0|1) seconds? of"):
        require_time(forecasts(4000, 6000), seconds_left)


def test_a_time_is_told_in_the_unit_that_suits_it_and_never_too_short() -> None:
    seconds = (-1, 0.2, 40, 89.5, 91, 121, 7200)
    assert [in_words(some) for some in seconds] == [
        *("0 seconds", "1 second", "40 seconds", "90 seconds"),
        *("2 minutes", "3 minutes", "120 minutes"),
    ]


def test_a_rehearsal_leaves_what_learns_as_it_was_and_counts_all_steps(
    base: BaseModel, lesson: tuple[Phase, TrainingPictures]
) -> None:
    phase, pictures = lesson
    before = [parameter.detach().clone() for parameter in phase.parameters()]

    forecast = forecast_phase(phase, base, pictures)

    assert all(map(torch.equal, phase.parameters(), before))
    assert (forecast.name, forecast.num_steps) == (phase.name, 6)
    assert forecast.seconds > 0
