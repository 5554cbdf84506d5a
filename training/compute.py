"""The one place that decides device, precision and threads, and says why."""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from torch.amp.grad_scaler import GradScaler

from training.parallel import ALONE, Processes
from training.settings import SettingsError

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
# Below this many weights an operation is over before a second thread has woken up: with two
# threads the tiny base trains no faster, and many times slower when other work wants the cores.
SMALL_MODEL_PARAMETERS = 50_000_000
# Stable Diffusion 1.5's weights take 2.2 GiB. For each picture of an update 0.8 GiB wait for the
# backward pass at 512 pixels, 4 times as much at 1024; a CUDA graph takes as much again. The VAE,
# before that, takes 2.6 GiB (training/batches.py).
SMALL_GPU_BYTES = 10 * 2**30


@dataclass(frozen=True)
class Compute:
    """Where tensors live and how frozen weights are stored; what learns is always float32.

    Attributes:
        uses_graphs: whether an update is launched as one CUDA graph, see training/updates.py.
        uses_recordings: whether its forward pass is written down once, see training/recording.py;
            no checkpoint would be left in it.
        uses_checkpoints: whether the backward pass computes again what it needs of the forward
            pass (Chen et al. 2016), which takes less memory and more time.
        processes: those that train the same LoRA together; mostly this one alone.
    """

    device: torch.device
    dtype: torch.dtype
    reason: str
    uses_graphs: bool = False
    uses_recordings: bool = False
    uses_checkpoints: bool = False
    processes: Processes = ALONE

    def autocast(self) -> AbstractContextManager[None]:
        enabled = self.dtype != torch.float32
        return torch.autocast(self.device.type, self.dtype, enabled=enabled)

    def grad_scaler(self) -> GradScaler:
        """Does nothing but for float16, whose small gradients would vanish without it."""
        return GradScaler(self.device.type, enabled=self.dtype == torch.float16)

    def among(self, device: torch.device, processes: Processes) -> "Compute":
        """The same on this process's device; the only one of its training stays as it is."""
        if processes.num == 1:
            return self
        reason = f"{self.reason}; {processes.num} processes share each batch, without CUDA graphs"
        return replace(self, device=device, reason=reason, uses_graphs=False, processes=processes)

    def generator(self, seed: int) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(seed)


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """What a choice depends on.

    Attributes:
        num_bytes: of memory, in all.
    """

    name: str
    has_bfloat16: bool
    num_bytes: int


def pick_compute(
    precision: str | None = None, gradient_checkpointing: bool | None = None
) -> Compute:
    """What is None is as PRECISION and GRADIENT_CHECKPOINTING say, or else as suits the device.

    Raises:
        SettingsError: when a variable says something else, or the GPU has not the precision.
    """
    said = read_choice(os.environ, "GRADIENT_CHECKPOINTING", ("0", "1"))
    if gradient_checkpointing is None and said:
        gradient_checkpointing = said == "1"
    precision = precision or read_choice(os.environ, "PRECISION", tuple(DTYPES))
    return choose_compute(find_gpu(), precision, gradient_checkpointing)


def read_choice(environment: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str | None:
    """None: not set, or empty. Raises: SettingsError."""
    value = environment.get(name) or None
    if value and value not in choices:
        raise SettingsError(f"{name} must be one of {', '.join(choices)}; got {value[:20]!r}.")
    return value


def find_gpu() -> Gpu | None:
    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties()
    return Gpu(
        name=properties.name,
        has_bfloat16=torch.cuda.is_bf16_supported(including_emulation=False),
        num_bytes=properties.total_memory,
    )


def choose_compute(gpu: Gpu | None, precision: str | None, checkpoints: bool | None) -> Compute:
    """`precision`: of DTYPES. Raises: SettingsError, when the GPU has it not."""
    dtype, why = choose_precision(gpu, precision)
    reasons = [why]
    if checkpoints:
        reasons.append("gradient checkpointing was asked for")
    elif checkpoints is None and gpu and gpu.num_bytes < SMALL_GPU_BYTES:
        checkpoints = True
        reasons.append(f"with {gpu.num_bytes / 2**30:.1f} GiB it needs gradient checkpointing")
    return Compute(
        torch.device("cuda" if gpu else "cpu"),
        dtype,
        "; ".join(reasons),
        # A graph keeps memory of its own beside that of the updates before it, and of float16's
        # updates a scaler decides whether they count.
        uses_graphs=gpu is not None and dtype != torch.float16 and not checkpoints,
        uses_recordings=gpu is None and not checkpoints,
        uses_checkpoints=bool(checkpoints),
    )


def choose_precision(gpu: Gpu | None, precision: str | None) -> tuple[torch.dtype, str]:
    """And why it is this one. Raises: SettingsError."""
    if precision == "bf16" and gpu and not gpu.has_bfloat16:
        raise SettingsError(f"{gpu.name} has no bfloat16. Ask for fp16 or fp32.")
    if precision:
        return DTYPES[precision], f"{precision} was asked for"
    if gpu is None:
        return torch.float32, "no CUDA device found"
    if gpu.has_bfloat16:
        return torch.bfloat16, f"{gpu.name} computes in bfloat16"
    return torch.float16, f"{gpu.name} has no bfloat16"


def suit_cpu(compute: Compute, num_parameters: int) -> Compute:
    """One thread and recordings for a small model; one thread per usable core for a large one.

    A recording would take a large one a seventh more memory, and no less time.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    is_small = num_parameters < SMALL_MODEL_PARAMETERS
    torch.set_num_threads(1 if is_small else usable or 1)
    return replace(compute, uses_recordings=compute.uses_recordings and is_small)
