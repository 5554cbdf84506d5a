"""Photos are decoded in processes of their own, which may take so much time and memory, no more.

A file's header does not tell what it costs: 166 bytes of JPEG 2000 can ask for 40 GB, 500 KB of
JPEG for a quarter of an hour. And what crashes a decoder does not crash the training.
"""

import atexit
import os
import queue
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fcntl import F_SETPIPE_SZ, fcntl
from pathlib import Path
from threading import Lock
from typing import IO

from preprocessing.decode_worker import READY, REQUEST
from preprocessing.errors import PhotoError, PictureError
from preprocessing.kinds import picture_kind
from preprocessing.limits import MAX_DECODE_BYTES, MAX_PHOTO_SECONDS, MAX_SET_SECONDS
from preprocessing.photo_pipe import receive_photo
from preprocessing.photos import Photo

_ROOT = Path(__file__).parent.parent
_PIPE_BYTES = 1 << 20  # the most that Linux gives anybody; half the time is waiting at 64 KiB
_MIN_SECONDS = 0.1  # a timer of zero would never ring

_workers: set[subprocess.Popen[bytes]] = set()  # all that were started and not ended
_idle_workers: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()


class DecoderError(RuntimeError):
    """No photo can be decoded on this machine; no photo is to blame."""


@dataclass(kw_only=True)
class DecodeBudget:
    """How long the photos of one set may be decoded, in seconds of computing.

    Attributes:
        photo_seconds: for one photo.
        set_seconds: what is left for the set; counts down.
    """

    photo_seconds: float = MAX_PHOTO_SECONDS
    set_seconds: float = MAX_SET_SECONDS
    _lock: Lock = field(default_factory=Lock, repr=False)

    def next_photo(self) -> float:
        """Seconds for one photo. Raises: PictureError, if the set has had all of its own."""
        with self._lock:
            if self.set_seconds <= 0:
                raise PictureError(
                    "The pictures take too long to decode. Send fewer or smaller pictures, as JPEG."
                )
            return max(_MIN_SECONDS, min(self.photo_seconds, self.set_seconds))

    def spend(self, seconds: float) -> None:
        with self._lock:
            self.set_seconds -= seconds


def read_photo_apart(data: bytes, resolution: int, headroom: int, budget: DecodeBudget) -> Photo:
    """`read_photo` in another process; two at a time with two threads, and so on.

    Raises: PhotoError, as `read_photo` does, and for what takes too much time or memory;
        PictureError, if the budget of the whole set is spent; DecoderError, if there is no process.
    """
    seconds = budget.next_photo()
    with _borrow_worker() as worker:
        try:
            request = REQUEST.pack(len(data), resolution, headroom, seconds)
            _ask(worker, request, data)
            photo, spent_seconds = receive_photo(_pipe(worker.stdout))
        except (EOFError, BrokenPipeError) as error:
            budget.spend(seconds)
            kind = picture_kind(data) or "a picture"
            raise PhotoError(
                f"{kind} that takes too much time or memory to decode. Save it again as JPEG."
            ) from error
    budget.spend(spent_seconds)
    if isinstance(photo, PhotoError):
        raise photo
    return photo


def _ask(worker: subprocess.Popen[bytes], request: bytes, data: bytes) -> None:
    pipe = _pipe(worker.stdin)
    pipe.write(request)
    pipe.write(data)
    pipe.flush()


@contextmanager
def _borrow_worker() -> Iterator[subprocess.Popen[bytes]]:
    """An idle process, or a new one; it is kept for the next photo unless something failed."""
    try:
        worker = _idle_workers.get_nowait()
    except queue.Empty:
        worker = _start_worker()
    if worker.poll() is not None:  # ended by somebody while it was idle
        _end(worker)
        worker = _start_worker()
    try:
        yield worker
    except BaseException:
        _end(worker)
        raise
    _idle_workers.put(worker)


def _start_worker() -> subprocess.Popen[bytes]:
    """Waits until it can decode: what it tells after that is about a photo, not about itself.

    Raises: DecoderError. Why, the process has said itself, where the server writes its own log.
    """
    try:
        worker = subprocess.Popen(
            [sys.executable, "-m", "preprocessing.decode_worker", str(MAX_DECODE_BYTES)],
            cwd=_ROOT,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,  # Ctrl-C is meant for this process, which then ends the others
        )
    except OSError as error:
        raise DecoderError(f"The decoder of pictures did not start: {error.strerror}.") from error
    _workers.add(worker)
    for pipe in (worker.stdin, worker.stdout):
        with suppress(OSError):  # a user may have only so much of them: narrow ones do as well
            fcntl(_pipe(pipe), F_SETPIPE_SZ, _PIPE_BYTES)
    try:
        is_ready = _pipe(worker.stdout).read(len(READY)) == READY
    except BaseException:  # a cancellation while it starts
        _end(worker)
        raise
    if not is_ready:
        exit_code = worker.wait()
        _end(worker)
        raise DecoderError(f"The decoder of pictures did not start: exit code {exit_code}.")
    return worker


def _environment() -> dict[str, str]:
    """With a path to our code, for Python may be told not to look in the folder it runs in."""
    paths = filter(None, (str(_ROOT), os.environ.get("PYTHONPATH")))
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "OPENBLAS_NUM_THREADS": "1",  # its threads would take memory for nothing
    }


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def _end(worker: subprocess.Popen[bytes]) -> None:
    _workers.discard(worker)
    worker.kill()
    worker.wait()
    for pipe in (worker.stdin, worker.stdout):
        try:
            _pipe(pipe).close()
        except BrokenPipeError:  # what it did not read of a photo
            continue


def end_idle_workers() -> None:
    while not _idle_workers.empty():
        _end(_idle_workers.get())


def _end_all_workers() -> None:
    """Also those at work for a thread that nobody waits for; its ends of their pipes it keeps."""
    end_idle_workers()
    for worker in tuple(_workers):
        worker.kill()
        worker.wait()


atexit.register(_end_all_workers)
