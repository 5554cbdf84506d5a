"""One optimizer step, for both trainings: Muon for the hidden layers, AdamW for the rest."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Parameter

from weights.build_tiny.muon import Muon
from weights.build_tiny.workers import average_gradients

MUON_RATE = 0.02
ADAM_RATE = 0.002
WARM_UP_STEPS = 30
LAST_RATE = 0.03
MAX_GRADIENT_NORM = 1.0

Optimizers = tuple[torch.optim.Optimizer, ...]


def make_optimizers(hidden: list[Parameter], others: list[Parameter]) -> Optimizers:
    """Muon for `hidden`, AdamW for `others`; `update` sets their rates."""
    adam = torch.optim.AdamW(others, lr=ADAM_RATE, betas=(0.9, 0.97), weight_decay=0)
    return Muon(hidden, lr=MUON_RATE), adam


def rate_factor(step: int, num_steps: int, flat_share: float) -> float:
    """Warm up, stay at 1 for the first `flat_share`, then fall linearly to LAST_RATE."""
    warm_up = min(1.0, (step + 1) / WARM_UP_STEPS)
    share_left = 1 - step / num_steps
    return warm_up * (LAST_RATE + (1 - LAST_RATE) * min(1.0, share_left / (1 - flat_share)))


def update(
    parameters: Sequence[Tensor], optimizers: Optimizers, loss: Tensor, factor: float
) -> None:
    """One step of all processes together, at `factor` times the full rates."""
    for optimizer, rate in zip(optimizers, (MUON_RATE, ADAM_RATE), strict=True):
        optimizer.zero_grad()
        for group in optimizer.param_groups:
            group["lr"] = rate * factor
    loss.backward()
    average_gradients(parameters)
    torch.nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)
    for optimizer in optimizers:
        optimizer.step()
