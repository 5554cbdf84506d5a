"""How long a run will take, measured on the pictures and the model themselves before it starts."""

import math
import statistics
import time
from dataclasses import dataclass

from training.base_model import BaseModel
from training.batches import TrainingPictures
from training.loop import Phase, draw_loss
from training.settings import SettingsError

NUM_WARM_UP, NUM_TIMED = 1, 2
# Of the time that is left, what a forecast and a suggestion may use: no two runs take equally long,
# and the optimiser's own work (up to 15 percent, at rank 128) is not rehearsed.
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
    """Time a few updates without taking them: nothing learns, no chance of the run is spent."""
    seconds = []
    generator = base.compute.generator(0)
    num_rehearsed = NUM_WARM_UP + NUM_TIMED if phase.num_updates else 0
    for update in range(num_rehearsed):
        start = time.perf_counter()
        chosen = pictures.all_indices()[update % len(pictures) :][: phase.batch_size]
        chosen = chosen.repeat(phase.batch_size)[: phase.batch_size]
        with base.compute.autocast():
            loss = draw_loss(phase, base, pictures, chosen, generator)
        loss.backward()
        loss.item()  # waits for the device
        for parameter in phase.parameters():
            parameter.grad = None
        seconds.append(time.perf_counter() - start)
    per_update = statistics.median(seconds[NUM_WARM_UP:]) if seconds else 0.0
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
    """ "40 seconds", "12 minutes"."""
    if seconds < 90:
        return f"{max(0, math.ceil(seconds))} seconds"
    return f"{math.ceil(seconds / 60)} minutes"
