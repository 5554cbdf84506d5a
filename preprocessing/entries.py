"""What a zip and a tar have in common: files with names, not read yet."""

import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO

from preprocessing.errors import ArchiveError, PictureError
from preprocessing.limits import (
    GIB,
    KIB,
    MAX_ARCHIVE_ENTRIES,
    MAX_FILE_BYTES,
    MAX_PICTURES,
    MAX_UNPACKED_BYTES,
    MIB,
)

DAMAGED = "damaged or cut off on its way: pack the pictures again and send the new file"
_DAMAGED_INSIDE = "damaged inside the archive"
_CHUNK_BYTES = MIB
_READ_ERRORS = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error),
    *(EOFError, OSError, RuntimeError, ValueError),
)
_LITTER = ("__macosx", "thumbs.db", "desktop.ini", "icon\r")
_LITTER_SUFFIX = ".aae"  # beside a telephone's photo: how it was edited there


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file in an archive.

    Attributes:
        name: its path in the archive, cleaned; only ever a label, never opened.
        problem: why it cannot be used, as far as the archive itself tells; "" if it can be tried.
        open: begins to read it. May fail in any way that the archive's library knows, now or later.
    """

    name: str
    problem: str
    open: Callable[[], IO[bytes]]


class EntryError(PictureError):
    """One file in an archive cannot be read."""


def read_start(entry: Entry, num_bytes: int) -> bytes:
    """Its first bytes, fewer if it is shorter. Raises: EntryError."""
    if entry.problem:
        raise EntryError(entry.problem)
    try:
        with entry.open() as stream:
            return stream.read(num_bytes)
    except _READ_ERRORS as error:
        raise EntryError(_DAMAGED_INSIDE) from error


def read_whole(entry: Entry, max_bytes: int) -> bytes:
    """Raises: EntryError, also if it is longer."""
    if entry.problem:
        raise EntryError(entry.problem)
    pieces, num_bytes_left = [], max_bytes
    try:
        with entry.open() as stream:
            # In pieces: one large read would ask for as much as the archive claims to hold.
            while piece := stream.read(_CHUNK_BYTES):
                pieces.append(piece)
                num_bytes_left -= len(piece)
                if num_bytes_left < 0:
                    raise EntryError(f"more than {max_bytes // KIB:,} KiB")
    except EntryError:
        raise
    except _READ_ERRORS as error:
        raise EntryError(_DAMAGED_INSIDE) from error
    return b"".join(pieces)


def refuse_too_many(num_files: int, noun: str) -> None:
    """Raises: ArchiveError."""
    if num_files > MAX_ARCHIVE_ENTRIES:
        raise ArchiveError(
            f"the {noun} holds {num_files:,} files; at most {MAX_ARCHIVE_ENTRIES:,} are accepted."
            " Pack only the pictures to train on."
        )


def refuse_too_many_pictures(num_pictures: int) -> None:
    """Raises: PictureError."""
    if num_pictures > MAX_PICTURES:
        raise PictureError(
            f"More than {MAX_PICTURES:,} pictures were sent. Choose the best 10 to 30 of them:"
            " they teach as much."
        )


def refuse_too_much(num_bytes: int, noun: str) -> None:
    """Raises: ArchiveError."""
    if num_bytes > MAX_UNPACKED_BYTES:
        raise ArchiveError(
            f"the {noun} would unpack to {num_bytes / GIB:.1f} GiB; at most"
            f" {MAX_UNPACKED_BYTES // GIB} GiB are accepted. Send fewer or smaller pictures."
        )


def too_large(num_bytes: int) -> str:
    """The problem with a file of this size, or ""."""
    if num_bytes <= MAX_FILE_BYTES:
        return ""
    return f"{num_bytes // MIB} MiB is too large: at most {MAX_FILE_BYTES // MIB} MiB a picture"


def clean_name(name: str) -> str:
    """A path that cannot point anywhere, and that every encoding can write."""
    writable = name.encode("utf-8", errors="replace").decode("utf-8")
    parts = writable.replace("\\", "/").split("/")
    return "/".join(part for part in parts if part not in ("", ".", ".."))


def comparable(name: str) -> str:
    """Equal for what people call one name: Macs store a letter apart from its accent."""
    return unicodedata.normalize("NFC", name.casefold())


def is_litter(name: str) -> bool:
    """It has no name, or computers leave it behind. `name`: cleaned."""
    parts = name.lower().split("/")
    is_left_behind = any(part in _LITTER or part.startswith(".") for part in parts)
    return is_left_behind or parts[-1].endswith(_LITTER_SUFFIX) or not name


def keep_apart(names: Iterable[str]) -> list[str]:
    """The names, no two alike: a second 1.jpg becomes "1 (2).jpg"."""
    numbers: dict[str, int] = {}  # how far each name has counted
    labels = []
    for name in names:
        path, number, label = PurePosixPath(name), numbers.get(name, 0), name
        while label in numbers:
            number += 1
            label = str(path.with_name(f"{path.stem} ({number}){path.suffix}"))
        numbers[name], numbers[label] = number, 1
        labels.append(label)
    return labels
