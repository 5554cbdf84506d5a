"""How long a run will take, measured on the pictures and the model themselves before it starts."""

import math
import statistics
import time
from dataclasses import dataclass, replace

import torch

from training.base_model import BaseModel
from training.batches import TrainingPictures
from training.phase import Phase
from training.settings import SettingsError
from training.updates import NUM_BEFORE_CAPTURE, open_updates

NUM_TIMED = 2
# Of the time that is left, what a forecast and a suggestion may use: no two runs take equally long.
ACCEPTED_SHARE, SUGGESTED_SHARE = 0.9, 0.8


class TooLongError(SettingsError):
    """The run cannot end in time; the message says how many steps can."""


@dataclass(frozen=True, kw_only=True)
class PhaseForecast:
    """`num_steps` pictures seen, `seconds` in all."""

    name: str
    num_steps: int
    seconds: float


def forecast_phase(phase: Phase, base: BaseModel, pictures: TrainingPictures) -> PhaseForecast:
    """Take a few updates, time the last, and take them back; no chance of the run is spent."""
    before = [parameter.detach().clone() for parameter in phase.parameters()]
    num_warm_up = NUM_BEFORE_CAPTURE + 1 if base.compute.uses_graphs else 1
    rehearsal = replace(phase, num_updates=num_warm_up + NUM_TIMED if phase.num_updates else 0)
    seconds = []
    with open_updates(rehearsal, base, pictures, base.compute.generator(0)) as updates:
        for update in range(rehearsal.num_updates):
            start = time.perf_counter()
            updates.take()
            updates.losses[update].item()  # waits for the device
            seconds.append(time.perf_counter() - start)
    with torch.no_grad():
        for parameter, value in zip(phase.parameters(), before, strict=True):
            parameter.copy_(value)
    per_update = statistics.median(seconds[num_warm_up:]) if seconds else 0.0
    return PhaseForecast(
        name=phase.name,
        num_steps=phase.num_updates * phase.batch_size,
        seconds=phase.num_updates * per_update,
    )


def require_time(phases: tuple[PhaseForecast, ...], seconds_left: float) -> None:
    """Raises: TooLongError, when the phases together take longer than what is left."""
    needed = sum(phase.seconds for phase in phases)
    if needed <= ACCEPTED_SHARE * seconds_left:
        return
    share = SUGGESTED_SHARE * max(0.0, seconds_left) / needed
    if share * max(phase.num_steps for phase in phases) < 1:
        raise TooLongError(
            f"There is no time left to train: preparing the pictures took all but"
            f" {in_words(seconds_left)} of what is allowed. Send fewer or smaller pictures."
        )
    steps = [f"{math.floor(share * phase.num_steps)} for {phase.name}" for phase in phases]
    raise TooLongError(
        f"This run would take about {in_words(needed)} on this machine; {in_words(seconds_left)}"
        f" are left for it. These steps would fit: {' and '.join(steps)} (max_train_steps_ti and"
        " max_train_steps_tuning). A lower resolution makes each step faster."
    )


def in_words(seconds: float) -> str:
    """ "1 second", "40 seconds", "12 minutes"."""
    if seconds < 90:
        whole = max(0, math.ceil(seconds))
        return f"{whole} second{'' if whole == 1 else 's'}"
    return f"{math.ceil(seconds / 60)} minutes"
