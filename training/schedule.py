"""The learning rates of a phase, all of them known before it starts."""

import math

import torch
from diffusers.optimization import get_scheduler
from torch import Tensor

from training.phase import Phase

WARM_UP_FRACTION = 0.05  # of a phase's updates, for the one schedule that asks for it


def learning_rates(phase: Phase) -> Tensor:
    """(updates, parameter groups), float64, on the CPU; diffusers' schedules."""
    nothing = torch.zeros(1)
    groups = [{"params": [nothing.clone()], "lr": g["lr"]} for g in phase.parameter_groups]
    scheduler = get_scheduler(
        phase.lr_scheduler,
        torch.optim.AdamW(groups),
        num_warmup_steps=_warm_up_updates(phase),
        num_training_steps=max(1, phase.num_updates),
    )
    shares = [
        [share(update) for share in scheduler.lr_lambdas] for update in range(phase.num_updates)
    ]
    rates = [group["lr"] for group in phase.parameter_groups]
    shape = (phase.num_updates, len(rates))
    return torch.tensor(shares, dtype=torch.float64).view(shape) * torch.tensor(rates).double()


def _warm_up_updates(phase: Phase) -> int:
    if phase.lr_scheduler != "constant_with_warmup":
        return 0
    return math.ceil(WARM_UP_FRACTION * phase.num_updates)
