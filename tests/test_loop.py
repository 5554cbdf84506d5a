"""What the loop tells of a run: how far it is, and where it went wrong."""

from dataclasses import replace

import pytest
import torch

from training import loop
from training.base_model import BaseModel
from training.batches import TrainingPictures
from training.loop import TrainingDivergedError, check_finite, run_phase
from training.phase import Phase, Progress


def test_each_report_tells_of_the_updates_since_the_one_before(
    base: BaseModel, lesson: tuple[Phase, TrainingPictures], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_REPORTS", 0.0)
    monkeypatch.setattr(loop, "SECONDS_OF_A_STRETCH", 1e-9)
    phase, pictures = lesson
    phase = replace(phase, num_updates=4, lr_scheduler="linear")
    reports: list[Progress] = []

    history = run_phase(phase, base, pictures, base.compute.generator(0), reports.append)

    size = phase.batch_size
    assert [report.step for report in reports] == [size, 2 * size, 3 * size, 4 * size]
    assert [report.loss for report in reports] == pytest.approx(history.losses)
    assert [report.learning_rate for report in reports] == list(history.learning_rates)
    assert len(set(history.learning_rates)) == 4
    for report in reports:
        left = report.num_steps - report.step
        assert report.seconds_left == pytest.approx(left / report.steps_per_second)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_the_first_step_whose_loss_is_no_number_is_named(batch_size: int) -> None:
    """Of updates 11 to 14 the third and fourth are broken: the 13th."""
    phase = Phase(
        name="tuning",
        num_updates=20,
        batch_size=batch_size,
        parameter_groups=[],
        lr_scheduler="constant",
        min_timestep=0,
        max_timestep=800,
        advice="learning_rate_unet",
    )
    losses = torch.tensor([0.1, 0.2, float("inf"), float("nan")])

    step = 12 * batch_size + 1
    with pytest.raises(TrainingDivergedError, match=f"at step {step} of tuning. Lower learning"):
        check_finite(phase, losses, 10)
    check_finite(phase, losses[:2], 10)


def test_who_is_to_lower_a_rate_is_told_that_of_the_phase(
    lesson: tuple[Phase, TrainingPictures],
) -> None:
    phase, _ = lesson
    rates = {"inversion": "learning_rate_ti", "tuning": "learning_rate_unet or learning_rate_text"}
    with pytest.raises(TrainingDivergedError) as caught:
        check_finite(phase, torch.tensor([float("nan")]), 0)

    assert f"at step 1 of {phase.name}. Lower {rates[phase.name]} (to" in str(caught.value)
