"""`python -m cli train ...`: how the scripts start a command.

Ctrl-C ends every one of them with one word, also while libraries are imported and while native
threads are at work, and gives back the terminal at once.
"""

import atexit
import importlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from types import FrameType

STOPPED = 130  # the exit status of what was interrupted, as shells count

last_of_all = ExitStack()
atexit.register(last_of_all.close)  # registered first, called last


def run(name: str, arguments: Sequence[str]) -> int:
    """The exit status of the command, which is `main` of the module of that name."""
    # A shell tells what it starts in the background to ignore Ctrl-C: so it does.
    listens = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if listens:
        signal.signal(signal.SIGINT, stop_at_once)
    command = importlib.import_module(f"cli.{name}")
    if listens:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        status: int = command.main(arguments)
    except KeyboardInterrupt:
        sys.stderr.write("Stopped.\n")
        status = STOPPED
    if status == STOPPED:
        end_soon()
    return status


def stop_at_once(number: int, frame: FrameType | None) -> None:
    """There is nothing to tidy up yet; an exception might get lost in a library's first lines."""
    os.write(sys.stderr.fileno(), b"Stopped.\n")
    os._exit(STOPPED)


def end_soon() -> None:
    """Tidy up in silence, and end without a wait for native threads: they would abort it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.disable()
    sys.stdout.flush()
    last_of_all.callback(os._exit, STOPPED)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], sys.argv[2:]))
