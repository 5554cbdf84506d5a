"""Work on a few things at a time, with the results in order."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from functools import cache, partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

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
        pending.append(start(partial(function, item)))
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


def start(function: Callable[[], Result]) -> Future[Result]:
    """Call it in a daemon thread of its own, which is started where no cancellation can come.

    In Python 3.11 a thread that is being started has the identity of the one that starts it: it
    takes the exception that cancels that one, dies of it, and the other waits for it for ever.
    """
    future: Future[Result] = Future()

    def work() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    _starter().put((work, future))
    return future


@cache
def _starter() -> "SimpleQueue[tuple[Callable[[], None], Future[Any]]]":
    """Started by the first call, which should come before there is something to cancel."""
    waiting: SimpleQueue[tuple[Callable[[], None], Future[Any]]] = SimpleQueue()

    def start_each() -> None:
        while True:
            _start_one(*waiting.get())

    Thread(target=start_each, daemon=True).start()
    return waiting


def _start_one(work: Callable[[], None], future: Future[Any]) -> None:
    try:
        Thread(target=work, daemon=True).start()
    except RuntimeError as error:  # the system has no thread left
        future.set_exception(error)
