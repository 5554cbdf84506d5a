"""CUDA graphs: thousands of kernels, launched as one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache

import torch


class CaptureError(RuntimeError):
    """There is no graph; the message says why."""


@contextmanager
def side_stream(device: torch.device) -> Iterator[None]:
    """On a GPU, work on another stream: a graph cannot be captured on the default one.

    cuDNN tries its algorithms at each shape's first use: the shapes of a phase never change.
    """
    if device.type != "cuda":
        yield
        return
    stream = _the_side_stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    try:
        with torch.cuda.stream(stream), torch.backends.cudnn.flags(enabled=True, benchmark=True):
            yield
    finally:
        stream.synchronize()  # also after a cancellation: what it works with is about to go


@cache
def _the_side_stream(device: torch.device) -> torch.cuda.Stream:
    """Always the same: cuBLAS keeps a workspace for each stream it has ever seen."""
    return torch.cuda.Stream(device)


# Why captures failed in this process. In torch 2.11 a failed one keeps its memory and hinders the
# allocator for good, so a second is not tried.
_failures: list[str] = []


def capture(take: Callable[[], None], generator: torch.Generator) -> torch.cuda.CUDAGraph:
    """What `take` tells the device, without doing it; `replay()` of the graph does it.

    Call it on a side stream, after `take` has been called a few times there. Every replay draws
    new numbers from `generator`, those that `take` itself would have drawn; after a CaptureError
    `generator` is of no more use.

    Raises:
        CaptureError: when something in it cannot be captured, or something could not before.
    """
    if _failures:
        raise CaptureError(f"an earlier attempt failed: {_failures[0]}")
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    # Other threads (a server's, say) may go on using the device.
    here = torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph, stream=here, capture_error_mode="thread_local"):
            take()
    except RuntimeError as error:
        # The end of a capture that was broken off raises an error of its own.
        cause = error.__context__ or error
        if not isinstance(cause, RuntimeError):  # a cancellation
            raise cause from None
        reason = str(cause).partition("\n")[0]
        if not isinstance(cause, torch.OutOfMemoryError):
            _failures.append(reason)
        raise CaptureError(reason) from error
    finally:
        if torch.cuda.is_current_stream_capturing():  # cancelled in the moment it began
            with suppress(RuntimeError):
                graph.capture_end()
    return graph
