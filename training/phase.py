"""What a phase of training is, and what it tells of itself."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from training.settings import LrScheduler


def _no_projection(learning_rate: Tensor) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One optimisation: what learns, how fast, for how long.

    Attributes:
        advice: which input to lower when the loss diverges.
        min_timestep, max_timestep: timesteps are drawn from the first up to, not including, the
            last: 0 is nearly no noise, 999 nearly nothing but noise.
        project: called after every update with the learning rate of that update, a scalar on the
            device; it may only do what a CUDA graph can hold.
        is_recorded: whether it is worth being recorded, where `Compute.uses_recordings`.
    """

    name: str
    num_updates: int
    batch_size: int
    parameter_groups: list[dict[str, Any]]
    lr_scheduler: LrScheduler
    min_timestep: int
    max_timestep: int
    advice: str
    max_grad_norm: float = math.inf
    project: Callable[[Tensor], None] = _no_projection
    is_recorded: bool = False

    def parameters(self) -> list[nn.Parameter]:
        return [p for group in self.parameter_groups for p in group["params"]]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a phase is. A step is one picture seen, as the caller counts them.

    Attributes:
        loss: mean since the report before.
    """

    phase: str
    step: int
    num_steps: int
    loss: float
    learning_rate: float
    steps_per_second: float
    seconds_left: float

    def line(self) -> str:
        minutes, seconds = divmod(round(self.seconds_left), 60)
        return (
            f"{self.phase:<9} {self.step:>5}/{self.num_steps}  loss {self.loss:.4f}"
            f"  lr {self.learning_rate:.1e}  {self.steps_per_second:.1f} steps/s"
            f"  eta {minutes}m{seconds:02d}s"
        )


@dataclass(frozen=True, kw_only=True)
class PhaseHistory:
    """What happened at each update of a phase: the loss, and the first group's learning rate."""

    name: str
    batch_size: int
    losses: tuple[float, ...]
    learning_rates: tuple[float, ...]
    seconds: float


Report = Callable[[Progress], None]
