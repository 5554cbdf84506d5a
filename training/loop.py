"""The optimisation loop that both phases run."""

import time

import torch
from torch import Tensor

from training.base_model import BaseModel
from training.batches import TrainingPictures
from training.phase import Phase, PhaseHistory, Progress, Report
from training.updates import open_updates

SECONDS_BETWEEN_REPORTS = 2.0
# The device is given as many updates at once as it takes in this time, and then asked how they
# went: seldom enough to cost nothing, often enough to notice a cancellation or a broken loss.
SECONDS_OF_A_STRETCH = 0.3


class TrainingDivergedError(ArithmeticError):
    """The loss is no number any more; the message says where and what to lower."""


def run_phase(
    phase: Phase,
    base: BaseModel,
    pictures: TrainingPictures,
    generator: torch.Generator,
    report: Report,
) -> PhaseHistory:
    """Raises: TrainingDivergedError, when the loss becomes NaN or infinite."""
    clock = _Clock(phase)
    with open_updates(phase, base, pictures, generator) as updates:
        rates = updates.rates[:, 0].tolist()
        while clock.num_done < phase.num_updates:
            for _ in range(clock.next_stretch()):
                updates.take()
                clock.num_done += 1
            losses = updates.losses[clock.num_checked : clock.num_done]
            check_finite(phase, losses, clock.num_checked)  # waits for the device
            clock.end_stretch()
            if clock.is_report_due():
                since = updates.losses[clock.num_reported : clock.num_done]
                report(clock.progress(since.mean().item(), rates[clock.num_done - 1]))
        updates.tell_skipped()
        return PhaseHistory(
            name=phase.name,
            batch_size=phase.batch_size,
            losses=tuple(updates.losses.tolist()),
            learning_rates=tuple(rates),
            seconds=clock.elapsed(),
        )


class _Clock:
    """Says how many updates to give the device at once, and when a report is due."""

    def __init__(self, phase: Phase) -> None:
        self.phase = phase
        self.num_done = self.num_checked = self.num_reported = 0
        self.started = self.reported_at = self.checked_at = time.monotonic()
        self.seconds_per_update = SECONDS_OF_A_STRETCH

    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def next_stretch(self) -> int:
        """At first one update, to see how long it takes."""
        fitting = max(1, int(SECONDS_OF_A_STRETCH / self.seconds_per_update))
        return min(fitting, self.phase.num_updates - self.num_done)

    def end_stretch(self) -> None:
        now = time.monotonic()
        self.seconds_per_update = (now - self.checked_at) / (self.num_done - self.num_checked)
        self.checked_at, self.num_checked = now, self.num_done

    def is_report_due(self) -> bool:
        waited = time.monotonic() - self.reported_at
        return waited >= SECONDS_BETWEEN_REPORTS or self.num_done == self.phase.num_updates

    def progress(self, mean_loss: float, learning_rate: float) -> Progress:
        phase = self.phase
        self.reported_at, self.num_reported = time.monotonic(), self.num_done
        updates_per_second = self.num_done / max(self.elapsed(), 1e-6)
        return Progress(
            phase=phase.name,
            step=self.num_done * phase.batch_size,
            num_steps=phase.num_updates * phase.batch_size,
            loss=mean_loss,
            learning_rate=learning_rate,
            steps_per_second=updates_per_second * phase.batch_size,
            seconds_left=(phase.num_updates - self.num_done) / updates_per_second,
        )


def check_finite(phase: Phase, losses: Tensor, num_before: int) -> None:
    """Raises: TrainingDivergedError, naming the first step of `losses` that is not a number."""
    broken = (~losses.isfinite()).nonzero()
    if len(broken):
        step = (num_before + int(broken[0])) * phase.batch_size + 1
        raise TrainingDivergedError(
            f"The loss stopped being a number at step {step} of {phase.name}. Lower {phase.advice}"
            " (to a tenth, say) and try again."
        )
