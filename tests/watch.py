"""What some code did to the world: what it opened for writing, whom it asked, what it logged."""

import logging
import os
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = ("os.mkdir", "os.rename", "os.link", "os.symlink", "os.remove", "os.rmdir", "os.chmod")


@dataclass(kw_only=True)
class Deeds:
    """What was seen.

    Attributes:
        written: names that were opened for writing, or made, moved or removed. (What has no name,
            a temporary file that only its opener can see, does not count.)
        asked: addresses that were connected to.
        logged: every message, of every logger and level.
    """

    written: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)


_watching: list[Deeds] = []


def _see(event: str, arguments: tuple[object, ...]) -> None:
    if not _watching:
        return
    if event == "open":
        path, _, flags = arguments
        assert isinstance(flags, int)
        name = os.fsdecode(path) if isinstance(path, (str, bytes)) else ""
        # A folder is opened for writing by who makes a file in it that has no name.
        has_name = name != os.devnull and not Path(name).is_dir()
        if flags & _WRITING and has_name and "__pycache__" not in name:
            _watching[-1].written.append(name)
    elif event in _CHANGES:
        _watching[-1].written.append(str(arguments[0]))
    elif event == "socket.connect":
        _watching[-1].asked.append(str(arguments[1]))


sys.addaudithook(_see)


class _Listener(logging.Handler):
    def __init__(self, deeds: Deeds) -> None:
        super().__init__(logging.DEBUG)
        self._deeds = deeds

    def emit(self, record: logging.LogRecord) -> None:
        self._deeds.logged.append(self.format(record))


@contextmanager
def watch() -> Iterator[Deeds]:
    """Everything that happens in this process meanwhile, in all threads."""
    deeds, root = Deeds(), logging.getLogger()
    listener, level = _Listener(deeds), root.level
    root.addHandler(listener)
    root.setLevel(logging.DEBUG)
    _watching.append(deeds)
    try:
        yield deeds
    finally:
        _watching.remove(deeds)
        root.removeHandler(listener)
        root.setLevel(level)


def forget_peak_memory() -> int:
    """Measure from here on; the bytes that are resident now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak_memory_bytes()


def peak_memory_bytes() -> int:
    """The most that was resident, of this process, since it was forgotten."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


@contextmanager
def allocating_less_than(limit_bytes: int) -> Iterator[None]:
    """Fails if what Python and its libraries have asked for meanwhile comes to as much."""
    tracemalloc.start()
    try:
        yield
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < limit_bytes
