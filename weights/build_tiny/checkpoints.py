"""Stop and go on: all that a training needs, in one file."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn


def save_checkpoint(
    path: Path, step: int, modules: nn.Module, optimizers: Sequence[torch.optim.Optimizer]
) -> None:
    """The state after `step` steps; never half a file."""
    state = {
        "step": step,
        "modules": modules.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
    }
    unfinished = path.with_suffix(".tmp")
    torch.save(state, unfinished)
    unfinished.replace(path)


def load_checkpoint(
    path: Path, modules: nn.Module, optimizers: Sequence[torch.optim.Optimizer]
) -> int:
    """Load what save_checkpoint saved, if anything; returns the number of steps done."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True, map_location="cpu")
    modules.load_state_dict(state["modules"])
    for optimizer, optimizer_state in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(optimizer_state)
    step: int = state["step"]
    return step
