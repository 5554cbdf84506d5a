"""Several processes, each with a GPU of its own, train one LoRA: who they are, what they exchange.

Each draws the same random numbers for the whole batch and computes its own part of it; gradients
are averaged before every update, so that what learns stays the same in all.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn, TypeVar

import torch
from torch import Tensor, nn

from training.settings import SettingsError

Made = TypeVar("Made")


class ProcessesError(RuntimeError):
    """The processes of one training lost each other; the message says what to look for."""


@dataclass(frozen=True, kw_only=True)
class Processes:
    """Those that train together; whatever one of them exchanges, all must.

    Attributes:
        index: which of them this is, from 0: the first reads the pictures and writes the file.
    """

    num: int
    index: int

    def own_rows(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Of tensors with a row for each picture of the whole batch, the rows of this process."""
        if self.num == 1:
            return batch
        return tuple(tensor.chunk(self.num)[self.index] for tensor in batch)

    def average(self, tensor: Tensor) -> Tensor:
        """The mean over all processes."""
        if self.num == 1:
            return tensor
        from accelerate.utils import reduce

        with _lost_when_it_fails():
            mean: Tensor = reduce(tensor, "mean")
        return mean

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        if self.num == 1:
            return
        for parameter in parameters:
            assert parameter.grad is not None
            parameter.grad = self.average(parameter.grad)

    def copy_first(self, parameters: Iterable[nn.Parameter]) -> None:
        """Overwrite each with the first process's: GPUs of other kinds draw other numbers."""
        if self.num == 1:
            return
        from accelerate.utils import broadcast

        with _lost_when_it_fails():
            for parameter in parameters:
                broadcast(parameter.detach())

    def of_first(self, make: Callable[[], Made]) -> Made:
        """What `make` gives in the first process, which alone calls it; the others wait for it."""
        if self.num == 1:
            return make()
        from accelerate.utils import broadcast_object_list

        made: list[Made | None] = [make() if self.index == 0 else None]
        with _lost_when_it_fails():
            broadcast_object_list(made)
        return made[0]  # type: ignore[return-value]


ALONE = Processes(num=1, index=0)


@contextmanager
def joined_processes(
    device: torch.device, patience: timedelta
) -> Iterator[tuple[torch.device, Processes]]:
    """Inside, this process can reach the others that `accelerate launch` (or torchrun) started.

    Gives the device of this process, and who they are. A process that was started alone stays so.

    Args:
        patience: how long one process waits for the others before it gives up.

    Raises:
        SettingsError: when several were asked for, and there are fewer GPUs or only this process.
        ProcessesError: when the others cannot be reached.
    """
    if not is_one_of_several(os.environ):
        yield device, ALONE
        return
    from accelerate import PartialState

    if device.type == "cuda":
        require_own_gpu(int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count())
    with _lost_when_it_fails():
        state = PartialState(cpu=device.type == "cpu", timeout=patience)
    device = state.device if device.type == "cuda" else device
    yield device, Processes(num=state.num_processes, index=state.process_index)
    state.destroy_process_group()  # not after an error: it would wait for what may never come


def is_one_of_several(environment: Mapping[str, str]) -> bool:
    """Raises: SettingsError, when several were asked for but accelerate started only one."""
    if int(environment.get("WORLD_SIZE", "1")) > 1:
        return True
    # What accelerate sets when it is asked for several but has not the GPUs for them.
    if {"ACCELERATE_USE_CPU", "MASTER_ADDR"} <= environment.keys() and "RANK" not in environment:
        raise SettingsError(
            "accelerate launch started one process, though --num_processes asks for more: it found"
            " no GPU for each. Start --num_processes 1, or on CPUs give --multi_gpu, which starts"
            " all of them whatever the device."
        )
    return False


def leave(status: int) -> NoReturn:
    """End this process with this status.

    One of several that failed ends at once: in an orderly end it would be aborted, for threads of
    torch may still wait for the others.
    """
    if status and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def require_own_gpu(local_index: int, num_gpus: int) -> None:
    """Raises: SettingsError."""
    if local_index >= num_gpus:
        raise SettingsError(
            f"Each process needs a GPU of its own, and there are {num_gpus} here: start"
            f" --num_processes {num_gpus}."
        )


def speaker(environment: Mapping[str, str]) -> str:
    """What this process puts before what it has to say; nothing if it is the first, or alone."""
    rank = int(environment.get("RANK", "0"))
    return f"process {rank + 1} of {environment.get('WORLD_SIZE', '?')}: " if rank else ""


@contextmanager
def _lost_when_it_fails() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # what torch raises when a process ends or does not answer
        raise ProcessesError(
            "The other processes of this training have ended or do not answer. What was wrong is"
            " in what they said before; start all of them again."
        ) from error
