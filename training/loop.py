"""The optimisation loop that both phases run."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.optimization import get_scheduler
from torch import Tensor, nn

from training.base_model import BaseModel
from training.batches import TrainingPictures, draw_batch, picture_order
from training.loss import denoising_loss
from training.settings import LrScheduler

SECONDS_BETWEEN_REPORTS = 2.0
WARM_UP_FRACTION = 0.05  # of a phase's updates, for the one schedule that asks for it


class TrainingDivergedError(ArithmeticError):
    """The loss is no number any more; the message says where and what to lower."""


def _no_projection(learning_rate: float) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One optimisation: what learns, how fast, for how long.

    Attributes:
        advice: which input to lower when the loss diverges.
        min_timestep, max_timestep: timesteps are drawn from the first up to, not including, the
            last: 0 is nearly no noise, 999 nearly nothing but noise.
        project: called after every update with the learning rate of that update.
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
    project: Callable[[float], None] = _no_projection

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


def run_phase(
    phase: Phase,
    base: BaseModel,
    pictures: TrainingPictures,
    generator: torch.Generator,
    report: Report,
) -> PhaseHistory:
    """Raises: TrainingDivergedError, when the loss becomes NaN or infinite."""
    optimizer = torch.optim.AdamW(phase.parameter_groups, fused=True)
    lr_scheduler = get_scheduler(
        phase.lr_scheduler,
        optimizer,
        num_warmup_steps=_warm_up_updates(phase),
        num_training_steps=max(1, phase.num_updates),
    )
    scaler = base.compute.grad_scaler()
    order = picture_order(len(pictures), phase.num_updates * phase.batch_size, generator)
    chosen = order.view(phase.num_updates, phase.batch_size)
    losses = torch.zeros(phase.num_updates, device=base.compute.device)
    learning_rates = []
    clock = _Clock(phase)

    for update in range(phase.num_updates):
        learning_rate = lr_scheduler.get_last_lr()[0]
        with base.compute.autocast():
            loss = draw_loss(phase, base, pictures, chosen[update], generator)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        if phase.max_grad_norm < math.inf:
            nn.utils.clip_grad_norm_(phase.parameters(), phase.max_grad_norm)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        lr_scheduler.step()
        phase.project(learning_rate)

        losses[update] = loss.detach()
        learning_rates.append(learning_rate)
        if clock.is_due(update + 1):
            report(clock.progress(losses[: update + 1], learning_rate))

    return PhaseHistory(
        name=phase.name,
        batch_size=phase.batch_size,
        losses=tuple(losses.tolist()),
        learning_rates=tuple(learning_rates),
        seconds=clock.elapsed(),
    )


def draw_loss(
    phase: Phase,
    base: BaseModel,
    pictures: TrainingPictures,
    chosen: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Noise the chosen pictures as the phase asks, and measure what the model makes of it."""
    batch = draw_batch(pictures, chosen, generator)
    device = batch.latents.device
    noise = torch.randn(batch.latents.shape, generator=generator, device=device)
    timesteps = draw_timesteps(phase, len(chosen), generator)
    return denoising_loss(base, batch.latents, noise, timesteps, batch.input_ids, batch.loss_weight)


def draw_timesteps(phase: Phase, num: int, generator: torch.Generator) -> Tensor:
    """(num,) timesteps, each of the phase's range as likely as the others."""
    return torch.randint(
        phase.min_timestep,
        phase.max_timestep,
        (num,),
        generator=generator,
        device=generator.device,
    )


def _warm_up_updates(phase: Phase) -> int:
    if phase.lr_scheduler != "constant_with_warmup":
        return 0
    return math.ceil(WARM_UP_FRACTION * phase.num_updates)


class _Clock:
    """Says when a report is due; the losses leave the device only then."""

    def __init__(self, phase: Phase) -> None:
        self.phase = phase
        self.started = self.reported_at = time.monotonic()
        self.num_reported = 0

    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def is_due(self, num_done: int) -> bool:
        waited = time.monotonic() - self.reported_at
        return waited >= SECONDS_BETWEEN_REPORTS or num_done == self.phase.num_updates

    def progress(self, losses: Tensor, learning_rate: float) -> Progress:
        """`losses`: of all updates so far."""
        phase, num_done = self.phase, len(losses)
        check_finite(phase, losses[self.num_reported :], self.num_reported)
        mean_loss = losses[self.num_reported :].mean().item()
        self.reported_at, self.num_reported = time.monotonic(), num_done
        updates_per_second = num_done / max(self.elapsed(), 1e-6)
        return Progress(
            phase=phase.name,
            step=num_done * phase.batch_size,
            num_steps=phase.num_updates * phase.batch_size,
            loss=mean_loss,
            learning_rate=learning_rate,
            steps_per_second=updates_per_second * phase.batch_size,
            seconds_left=(phase.num_updates - num_done) / updates_per_second,
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
