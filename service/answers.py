"""What a caller is told when a run fails: one sentence, and never a traceback or a path of ours.

Mistakes that a caller can mend say so themselves. All else is ours: the caller gets a reference,
and the server's own log, which callers do not see, gets the place in the code.
"""

import ctypes
import errno
import gc
import os
import secrets
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch

from preprocessing.errors import PictureError
from service.workplace import StorageError, storage_error
from training.formats import FormatError
from training.loop import TrainingDivergedError
from training.settings import SettingsError, TrainingInputs

CALLERS_MISTAKES = (
    *(SettingsError, PictureError, TrainingDivergedError, FormatError),
    StorageError,
)
DISK_CANNOT_TAKE_IT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# How torch and the libraries below it tell that memory is gone, where they have no own error.
OUT_OF_MEMORY = (
    *("not enough memory", "DefaultCPUAllocator", "allocate memory", "out of memory"),
    *("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED"),
    "unable to find an engine",  # cuDNN's last word when none of its plans gets its memory
)
SERVER_LOG = 2  # the process's standard error: Cog gives callers what Python writes, not this


class OutOfMemoryError(RuntimeError):
    """The run needs more memory than there is; the message says what to lower."""


class InternalError(RuntimeError):
    """Our mistake; the message holds a reference to the server's log."""


@contextmanager
def answered(inputs: TrainingInputs) -> Iterator[None]:
    """Let only errors out that a caller can read. Cancellations pass: they are no `Exception`.

    Raises: one of CALLERS_MISTAKES, OutOfMemoryError, InternalError.
    """
    try:
        yield
    except CALLERS_MISTAKES:
        raise
    except Exception as error:
        answer = _answer(error, inputs)
        for link in links(error):  # their frames hold tensors
            traceback.clear_frames(link.__traceback__)
    else:
        return
    free_memory()
    raise answer


def _answer(error: Exception, inputs: TrainingInputs) -> Exception:
    if any(is_out_of_memory(link) for link in links(error)):
        return OutOfMemoryError(out_of_memory(inputs))
    for link in links(error):
        if isinstance(link, OSError) and link.errno in DISK_CANNOT_TAKE_IT:
            return storage_error("A file could not be written", link)
    reference = secrets.token_hex(4)
    write_to_server_log(reference, error)
    return InternalError(
        f"Something went wrong on our side (reference {reference}). Try again; if it happens again,"
        " tell us the reference: it leads to the place in our log."
    )


def links(error: BaseException) -> list[BaseException]:
    """An error, those it holds, and those that it came from."""
    found: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop()
        if link is None or link in found:
            continue
        found.append(link)
        waiting += [link.__cause__, link.__context__]
        if isinstance(link, BaseExceptionGroup):
            waiting += link.exceptions
    return found


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(mark in str(error) for mark in OUT_OF_MEMORY)


def out_of_memory(inputs: TrainingInputs) -> str:
    side = inputs.resolution
    return (
        f"The run needs more memory than there is, with resolution {side}, lora_rank"
        f" {inputs.lora_rank} and these pictures. Lower resolution (half of it needs about a"
        " quarter of the memory) or lora_rank, or send fewer pictures, and try again."
    )


def write_to_server_log(reference: str, error: BaseException) -> None:
    """Kinds of errors and places in the code. No messages: they may quote what somebody sent."""
    lines = [f"reference {reference}"]
    for link in links(error):
        lines.append(f"{type(link).__module__}.{type(link).__qualname__}, raised in")
        lines += traceback.format_tb(link.__traceback__)
    os.write(SERVER_LOG, ("\n".join(lines) + "\n").encode("utf-8", "replace"))


def free_memory() -> None:
    """Give back what a run held, so that the next has all of it."""
    gc.collect()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library than glibc
            # It keeps what was freed: some 100 MiB after 200 runs on the small base model.
            ctypes.CDLL("libc.so.6").malloc_trim(0)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
