"""safetensors files: equal contents give equal bytes, and a file is written whole or not at all."""

import json
import os
import tempfile
from pathlib import Path

import safetensors.torch
from torch import Tensor

LENGTH_BYTES = 8  # the header's length, little-endian, stands before it


def write_file(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write beside `path` under another name, then rename: nobody ever sees half a file.

    Raises:
        OSError: when the disk is full or the folder cannot be written to; nothing is left behind.
    """
    contents = to_bytes(tensors, metadata)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def to_bytes(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """safetensors writes its metadata in a random order: sort the header it made."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    unsorted = safetensors.torch.save(contiguous, metadata)
    data_start = LENGTH_BYTES + int.from_bytes(unsorted[:LENGTH_BYTES], "little")
    header = json.loads(unsorted[LENGTH_BYTES:data_start])
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % LENGTH_BYTES)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text + unsorted[data_start:]
