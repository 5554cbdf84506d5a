"""The one place that decides device, precision and threads, and says why."""

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

# Below this many weights an operation is over before a second thread has woken up: with two
# threads the tiny base trains no faster, and many times slower when other work wants the cores.
SMALL_MODEL_PARAMETERS = 50_000_000


@dataclass(frozen=True)
class Compute:
    """Where tensors live and how frozen weights are stored; what learns is always float32.

    Attributes:
        uses_graphs: whether an update is launched as one CUDA graph, see training/updates.py.
    """

    device: torch.device
    dtype: torch.dtype
    reason: str
    uses_graphs: bool = False

    def autocast(self) -> AbstractContextManager[None]:
        enabled = self.dtype != torch.float32
        return torch.autocast(self.device.type, self.dtype, enabled=enabled)

    def grad_scaler(self) -> torch.amp.GradScaler:
        """Does nothing but for float16, whose small gradients would vanish without it."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)

    def generator(self, seed: int) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(seed)


def pick_compute() -> Compute:
    if not torch.cuda.is_available():
        return Compute(torch.device("cpu"), torch.float32, "no CUDA device found")
    name = torch.cuda.get_device_name()
    if torch.cuda.is_bf16_supported(including_emulation=False):
        reason = f"{name} computes in bfloat16"
        return Compute(torch.device("cuda"), torch.bfloat16, reason, uses_graphs=True)
    # Here a scaler decides after each update whether it counts.
    return Compute(torch.device("cuda"), torch.float16, f"{name} has no bfloat16")


def set_cpu_threads(num_parameters: int) -> None:
    """One thread for a small model, one per usable core for a large one."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch.set_num_threads(1 if num_parameters < SMALL_MODEL_PARAMETERS else usable or 1)
