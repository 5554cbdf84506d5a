"""Stop a run when its server is told to stop: nobody is left to take the result.

On SIGTERM Cog closes its port at once, and then waits until the run is over, which may take half an
hour. Whoever sent the signal will not wait so long, and kills: files would stay behind.
"""

import ctypes
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from preprocessing.threads import start

DEFAULT_PORT = 5000  # Cog's own
SECONDS_BETWEEN_LOOKS = 0.5
LOOKS_BEFORE_STOPPING = 2  # in a row


class ServerStopped(BaseException):  # no error, and nothing may handle it as one
    """The server no longer listens. Who still waits for the run is told."""

    def __str__(self) -> str:  # it is raised without arguments
        return "The server was stopped before the run was over. Try again when it is back."


@contextmanager
def stopped_with_the_server() -> Iterator[None]:
    """Raise ServerStopped in the block when the port closes; without a server do nothing."""
    text = os.environ.get("PORT") or str(DEFAULT_PORT)
    port = int(text) if text.isdecimal() else 0
    if not port or not is_listening(port):
        yield
        return
    is_over, may_raise = threading.Event(), threading.Lock()
    start(partial(_watch, port, threading.get_ident(), is_over, may_raise))
    try:
        yield
    finally:
        with may_raise:  # from here on the watcher leaves the thread alone
            is_over.set()


def is_listening(port: int) -> bool:
    """A server listens there on this machine: False only if the system itself says no."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=SECONDS_BETWEEN_LOOKS):
            return True
    except ConnectionRefusedError:
        return False
    except OSError:
        return True  # too busy to answer


def _watch(port: int, thread: int, is_over: threading.Event, may_raise: threading.Lock) -> None:
    num_refused = 0
    while not is_over.wait(SECONDS_BETWEEN_LOOKS):
        num_refused = 0 if is_listening(port) else num_refused + 1
        if num_refused == LOOKS_BEFORE_STOPPING:
            with may_raise:
                if not is_over.is_set():
                    # As Cog cancels: it is raised at the thread's next line of Python.
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(
                        ctypes.c_ulong(thread), ctypes.py_object(ServerStopped)
                    )
            return
