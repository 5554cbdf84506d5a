"""Work on a few things at a time, with the results in order."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from threading import Thread
from typing import TypeVar

# A wait without end cannot be cancelled: Cog's cancellation arrives between two lines of Python.
_SECONDS_BETWEEN_LOOKS = 0.1

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], *, num_threads: int
) -> Iterator[Future[Result]]:
    """One future per item, in order; at most `num_threads` items are taken from `items` ahead.

    So memory is bounded when items are large. The threads are daemons: whoever stops waiting for a
    future (a name server or a web server that never answers) leaves nothing that could keep the
    process from ending.
    """
    pending: deque[Future[Result]] = deque()
    for item in items:
        pending.append(_start(function, item))
        if len(pending) >= num_threads:
            yield pending.popleft()
    yield from pending


def result_of(future: Future[Result], seconds: float = math.inf) -> Result:
    """`future.result(seconds)`, but a cancellation gets through while it waits.

    Raises: TimeoutError.
    """
    last_second = time.monotonic() + seconds
    while not future.done() and time.monotonic() < last_second:
        wait((future,), timeout=_SECONDS_BETWEEN_LOOKS)
    return future.result(timeout=0)


def _start(function: Callable[[Item], Result], item: Item) -> Future[Result]:
    future: Future[Result] = Future()

    def work() -> None:
        try:
            future.set_result(function(item))
        except BaseException as error:
            future.set_exception(error)

    Thread(target=work, daemon=True).start()
    return future
