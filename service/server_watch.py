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

DEFAULT_PORT = 5000  # Cog's own
SECONDS_BETWEEN_LOOKS = 0.5
LOOKS_BEFORE_STOPPING = 2  # in a row


class ServerStopped(BaseException):  # no error, and nothing may handle it as one
    """The server no longer listens."""


@contextmanager
def stopped_with_the_server() -> Iterator[None]:
    """Raise ServerStopped in the block when the port closes; without a server do nothing."""
    port = int(os.environ.get("PORT") or DEFAULT_PORT)
    if not is_listening(port):
        yield
        return
    is_over = threading.Event()
    arguments = (port, threading.get_ident(), is_over)
    threading.Thread(target=_watch, args=arguments, daemon=True).start()
    try:
        yield
    finally:
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


def _watch(port: int, thread: int, is_over: threading.Event) -> None:
    num_refused = 0
    while not is_over.wait(SECONDS_BETWEEN_LOOKS):
        num_refused = 0 if is_listening(port) else num_refused + 1
        if num_refused == LOOKS_BEFORE_STOPPING:
            # As Cog cancels: the exception is raised at the thread's next line of Python.
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread), ctypes.py_object(ServerStopped)
            )
            return
