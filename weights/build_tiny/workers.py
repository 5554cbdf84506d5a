"""The same training on two CPU processes or on one GPU."""

import logging
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, distributed
from torch.multiprocessing.spawn import spawn

Plan = TypeVar("Plan")
LOG_FORMAT = "%(message)s"


def run_on_all(train: Callable[[Plan], None], plan: Plan, num_processes: int) -> None:
    """`train(plan)` on the GPU if there is one, else on CPU processes that share gradients."""
    if torch.cuda.is_available():
        train(plan)
        return
    with tempfile.TemporaryDirectory() as folder:
        meeting_point = str(Path(folder, "meeting_point"))
        spawn(_run_one, args=(num_processes, meeting_point, train, plan), nprocs=num_processes)


def _run_one(
    rank: int, num_processes: int, meeting_point: str, train: Callable[[Plan], None], plan: Plan
) -> None:
    # One thread each: two threads in one process collapse as soon as another process wants a core.
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    logging.basicConfig(level=logging.INFO if rank == 0 else logging.WARNING, format=LOG_FORMAT)
    distributed.init_process_group(
        "gloo", init_method=f"file://{meeting_point}", rank=rank, world_size=num_processes
    )
    train(plan)
    distributed.destroy_process_group()


def worker() -> tuple[int, int]:
    """This process's number, and how many there are."""
    if not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Give every process the mean of all processes' gradients, in one message."""
    if not distributed.is_initialized():
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    message = torch.cat([gradient.reshape(-1) for gradient in gradients])
    distributed.all_reduce(message)
    message /= distributed.get_world_size()
    sizes = [gradient.numel() for gradient in gradients]
    for gradient, part in zip(gradients, message.split(sizes), strict=True):
        gradient.copy_(part.view_as(gradient))
