"""What a variant is asked to train on, and how it tells when an update was done."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from training.base_model import BaseModel
from training.batches import TrainingPictures
from training.settings import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """`phase`: "inversion" or "tuning"."""

    phase: str
    base: BaseModel
    pictures: TrainingPictures
    settings: TrainingSettings
    seed: int = 0

    def batch_size(self) -> int:
        is_inversion = self.phase == "inversion"
        return (self.settings.inversion if is_inversion else self.settings.tuning).batch_size


@dataclass(frozen=True, kw_only=True)
class Moment:
    """On the clocks of another process, in seconds; `peak_bytes` is its main memory so far."""

    wall: float
    cpu: float
    peak_bytes: int


class Mark(Protocol):
    """Called after each update. Where that happened in another process, it says when."""

    def __call__(self, told: Moment | None = None, /) -> None: ...


Losses = list[float]
TakeUpdates = Callable[[int, Mark], Losses]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """`weight_bytes`: of the models that it keeps on the device.

    `open` is entered once a phase; what it gives takes a number of updates, and calls `mark` after
    each.
    """

    name: str
    weight_bytes: int
    open: Callable[[Lesson], AbstractContextManager[TakeUpdates]]
