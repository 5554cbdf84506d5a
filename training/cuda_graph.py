"""CUDA graphs: thousands of kernels, launched as one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


@contextmanager
def side_stream(device: torch.device) -> Iterator[None]:
    """On a GPU, work on a stream of its own: a graph cannot be captured on the default one.

    cuDNN tries its algorithms at each shape's first use: the shapes of a phase never change.
    """
    if device.type != "cuda":
        yield
        return
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    try:
        with torch.cuda.stream(stream), torch.backends.cudnn.flags(enabled=True, benchmark=True):
            yield
    finally:
        stream.synchronize()  # also after a cancellation: what it works with is about to go


def capture(take: Callable[[], None], generator: torch.Generator) -> torch.cuda.CUDAGraph:
    """What `take` tells the device, without doing it; `replay()` of the graph does it.

    Call it on a side stream, after `take` has been called a few times there. Every replay draws
    new numbers from `generator`, those that `take` itself would have drawn.

    Raises:
        RuntimeError: when something in it cannot be captured.
    """
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    # Other threads (a server's, say) may go on using the device.
    here = torch.cuda.current_stream()
    with torch.cuda.graph(graph, stream=here, capture_error_mode="thread_local"):
        take()
    return graph
