"""How the commands tell what they are doing."""

import io
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import TextIO

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 2.0


def tell_progress(level: int) -> None:
    """Log lines of this level and above go to standard output, as they are.

    What it cannot write, it writes as `\\udcfc`: on a disk from elsewhere, names need not be text.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
    logging.basicConfig(level=level, format="%(message)s", handlers=[PipeHandler(sys.stdout)])


def telling(what: str, total: int) -> Callable[[], None]:
    """To be called `total` times; tells how far that is, a line every now and then."""
    start = last = time.monotonic()
    num_done = 0

    def tell() -> None:
        nonlocal last, num_done
        now, num_done = time.monotonic(), num_done + 1
        if now - last < SECONDS_BETWEEN_LINES:
            return
        last = now
        minutes, seconds = divmod(round((now - start) / num_done * (total - num_done)), 60)
        logger.info("%-9s %5d/%d  eta %dm%02ds", what, num_done, total, minutes, seconds)

    return tell


def in_words(error: Exception) -> str:
    """Its message. The system's own errors come with numbers, which help nobody."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'A file'}: {error.strerror}."
    return str(error)


class PipeHandler(logging.StreamHandler[TextIO]):
    """Lets `script/train ... | head` end the listing, and the work go on without a word."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, the library's name
        if not isinstance(sys.exc_info()[1], BrokenPipeError):
            super().handleError(record)
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.stream.fileno())  # what is not written yet would fail at the end
        os.close(nowhere)
