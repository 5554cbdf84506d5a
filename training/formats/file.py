"""safetensors files: equal contents give equal bytes; written whole or not at all; read warily."""

import hashlib
import json
import math
import os
import secrets
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from training.formats.errors import FormatError

FLOATS = (torch.float16, torch.bfloat16, torch.float32)  # what is read and written
LENGTH_BYTES = 8  # the header's length, little-endian, stands before it
MIB = 1 << 20
# Rank 128 in float32 on SD 2.1 takes 0.2 GiB; a header names each tensor once.
MAX_FILE_BYTES = 2048 * MIB
MAX_HEADER_BYTES = 16 * MIB
MAX_TENSORS = 20_000
_ZIP_MARK, _PICKLE_MARK = b"PK\x03\x04", b"\x80"
_ADVICE = (
    "Read are .safetensors files in the formats lora_diffusion, kohya and diffusers. Check that the"
    " file arrived whole."
)


def write_file(
    path: Path,
    tensors: dict[str, Tensor],
    metadata: dict[str, str],
    hash_metadata: Callable[[str], dict[str, str]] = lambda digest: {},
) -> None:
    """Write beside `path` under another name, then rename: nobody ever sees half a file.

    Args:
        hash_metadata: SHA-256 of the tensors' bytes -> what the metadata is to say of it.

    Raises:
        OSError: when the disk is full or the folder cannot be written to; nothing is left behind.
    """
    header, data = _serialize(tensors, metadata, hash_metadata)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:  # readable as the umask says, unlike tempfile's
            file.write(header)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _serialize(
    tensors: dict[str, Tensor],
    metadata: dict[str, str],
    hash_metadata: Callable[[str], dict[str, str]],
) -> tuple[bytes, memoryview]:
    """-> header and data. safetensors writes its metadata in a random order: sort what it made."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    unsorted = safetensors.torch.save(contiguous)
    data_start = LENGTH_BYTES + int.from_bytes(unsorted[:LENGTH_BYTES], "little")
    header = json.loads(unsorted[LENGTH_BYTES:data_start])
    data = memoryview(unsorted)[data_start:]  # at rank 128 each copy is a hundred megabytes
    header["__metadata__"] = metadata | hash_metadata(hashlib.sha256(data).hexdigest())
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % LENGTH_BYTES)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text, data


def read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """-> (tensors, metadata). Nothing is unpickled, and no more memory taken than the file is long.

    Raises:
        FormatError: when it is no safetensors file, not whole, absurd, or holds NaN or infinity.
        OSError: when it cannot be opened.
    """
    _check_head(path)
    _check_name(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = file.keys()
            if len(names) > MAX_TENSORS:
                raise FormatError(
                    f"The file holds {len(names):,} tensors; at most {MAX_TENSORS:,} are read."
                )
            tensors = {name: file.get_tensor(name).clone() for name in names}
    except (SafetensorError, KeyError, ValueError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"This is no safetensors file, or not a whole one. {_ADVICE}") from error
    for name, tensor in tensors.items():
        if tensor.dtype in FLOATS and not tensor.isfinite().all():
            raise FormatError(
                f"The file's tensor {name[:120]!r} holds NaN or infinity: the training that made it"
                " went astray. Train again, with lower learning rates."
            )
    return tensors, metadata


def _check_head(path: Path) -> None:
    with path.open("rb") as file:
        head, num_bytes = file.read(LENGTH_BYTES), file.seek(0, 2)
    header_bytes = int.from_bytes(head, "little") if len(head) == LENGTH_BYTES else 0
    # The length of a genuine header may begin with the same bytes; but no pickle gives a small one.
    if header_bytes > MAX_HEADER_BYTES and _is_pickle(head):
        raise FormatError(
            "This is a pickled PyTorch file (.pt, .bin, .ckpt), which can run code when it is"
            " opened; it is never opened here. Save it as .safetensors in the program it is from."
        )
    if num_bytes > MAX_FILE_BYTES:
        raise FormatError(
            f"The file is {math.ceil(num_bytes / MIB):,} MiB large; at most"
            f" {MAX_FILE_BYTES // MIB:,} MiB are read: a LoRA takes 3 to 200."
        )
    if header_bytes > MAX_HEADER_BYTES:
        raise FormatError(f"This is no safetensors file, or not a whole one. {_ADVICE}")


def _check_name(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise FormatError(
            "The file's name, or that of a folder on its path, is not UTF-8, as the library that"
            " reads it needs. Rename it."
        ) from error


def _is_pickle(head: bytes) -> bool:
    """A zip, as torch.save writes, or a pickle of protocol 2 to 5."""
    return head.startswith(_ZIP_MARK) or (head.startswith(_PICKLE_MARK) and head[1] in (2, 3, 4, 5))
