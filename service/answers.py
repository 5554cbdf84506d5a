"""What a caller is told when a run fails: one sentence, and never a traceback or a path of ours.

Mistakes that a caller can mend say so themselves. All else is ours: the caller gets a reference,
and the server's own log, which callers do not see, gets the place in the code.
"""

import errno
import gc
import os
import secrets
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

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
DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# How torch tells that main memory is gone; the GPU's has an error of its own.
OUT_OF_MAIN_MEMORY = ("not enough memory", "DefaultCPUAllocator", "Cannot allocate memory")
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
        traceback.clear_frames(error.__traceback__)  # they hold tensors
    else:
        return
    free_memory()
    raise answer


def _answer(error: Exception, inputs: TrainingInputs) -> Exception:
    if is_out_of_memory(error):
        return OutOfMemoryError(out_of_memory(inputs))
    if isinstance(error, OSError) and error.errno in DISK_IS_FULL:
        return storage_error("The disk is full", error)
    reference = secrets.token_hex(4)
    write_to_server_log(reference, error)
    return InternalError(
        f"Something went wrong on our side (reference {reference}). Try again; if it happens again,"
        " tell us the reference: it leads to the place in our log."
    )


def is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(m in str(error) for m in OUT_OF_MAIN_MEMORY)


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
    link: BaseException | None = error
    while link is not None:
        lines.append(f"{type(link).__module__}.{type(link).__qualname__}, raised in")
        lines += traceback.format_tb(link.__traceback__)
        link = link.__cause__ or link.__context__
    os.write(SERVER_LOG, ("\n".join(lines) + "\n").encode("utf-8", "replace"))


def free_memory() -> None:
    """Give back what a run held, so that the next has all of it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
