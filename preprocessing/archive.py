"""A file that was sent -> the files in it, one at a time. Nothing is ever extracted by name."""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, BinaryIO

from preprocessing.errors import ArchiveError
from preprocessing.kinds import HEAD_BYTES, describe, picture_kind
from preprocessing.limits import (
    GIB,
    MAX_ARCHIVE_BYTES,
    MAX_ARCHIVE_ENTRIES,
    MAX_DIRECTORY_BYTES,
    MAX_FILE_BYTES,
    MAX_UNPACKED_BYTES,
    MIB,
)

_PICTURE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".heic", ".heif", ".hif"),
    *(".bmp", ".tif", ".tiff", ".gif", ".jp2"),
)
_LITTER = ("__macosx", "thumbs.db", "desktop.ini")
_LOCAL_HEADER_BYTES = 30  # the fixed part of what stands before each file's data
_ENCRYPTED = 0x1
_CHUNK_BYTES = MIB
_DAMAGED = "damaged or cut off on its way: zip the pictures again and send the new zip"


@dataclass(frozen=True, kw_only=True)
class File:
    """One file that was met.

    Attributes:
        name: its path in the archive, cleaned, no two alike; only ever a label, never opened.
        data: its bytes; empty when there is a problem.
        problem: why it cannot be used; "" if nothing is known against it.
        is_picture: it counts as one of the caller's pictures, usable or not.
    """

    name: str
    data: bytes
    problem: str
    is_picture: bool


def read_files(source: BinaryIO, label: str) -> Iterator[File]:
    """The files of a zip in the order of their names, or the one picture that `source` is.

    `label` names a single picture. Only one file is held at a time. Folders, and what computers
    leave behind, are passed over.

    Raises: ArchiveError, before the first file, if `source` is neither, or not safe to unpack.
    """
    num_bytes = source.seek(0, 2)
    source.seek(0)
    head = source.read(HEAD_BYTES)
    if num_bytes > MAX_ARCHIVE_BYTES:
        raise ArchiveError(
            f"larger than {MAX_ARCHIVE_BYTES // GIB} GiB ({num_bytes / GIB:.1f} GiB)."
            " Twenty good pictures are plenty: send fewer, or smaller ones."
        )
    if picture_kind(head):
        yield _single_picture(source, num_bytes, label)
    elif zipfile.is_zipfile(source):
        yield from _read_zip(source, num_bytes)
    else:
        raise ArchiveError(_not_a_zip(head))


def _not_a_zip(head: bytes) -> str:
    if head.startswith(b"PK"):
        return f"the zip is {_DAMAGED}."
    noun, advice = describe(head)
    return f"neither a zip nor a picture but {noun}. {advice}"


def _single_picture(source: BinaryIO, num_bytes: int, label: str) -> File:
    problem = _too_large(num_bytes)
    source.seek(0)
    data = b"" if problem else source.read()
    return File(name=label, data=data, problem=problem, is_picture=True)


def _read_zip(source: BinaryIO, num_bytes: int) -> Iterator[File]:
    try:
        archive = zipfile.ZipFile(_BoundedReads(source))
    except ArchiveError:
        raise
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error) as error:
        raise ArchiveError(f"the zip is {_DAMAGED}.") from error
    with archive:
        infos = archive.infolist()
        _refuse_bombs(infos, num_bytes)
        entries = [(_clean_name(info.filename), info) for info in infos if not _is_folder(info)]
        entries = [(name, info) for name, info in entries if not _is_litter(name)]
        if not entries:
            raise ArchiveError("the zip holds no files. Put 3 to 100 pictures into it.")
        entries.sort(key=lambda entry: entry[0])
        numbers: dict[str, int] = {}
        for name, info in entries:
            yield _read_entry(archive, info, _keep_apart(name, numbers))


def _refuse_bombs(infos: list[zipfile.ZipInfo], num_bytes: int) -> None:
    """What a zip says of itself must fit into it. Raises: ArchiveError."""
    if len(infos) > MAX_ARCHIVE_ENTRIES:
        raise ArchiveError(
            f"the zip holds {len(infos):,} files; at most {MAX_ARCHIVE_ENTRIES:,} are accepted."
            " Zip only the pictures to train on."
        )
    unpacked_bytes = sum(info.file_size for info in infos)
    if unpacked_bytes > MAX_UNPACKED_BYTES:
        raise ArchiveError(
            f"the zip would unpack to {unpacked_bytes / GIB:.1f} GiB; at most"
            f" {MAX_UNPACKED_BYTES // GIB} GiB are accepted. Send fewer or smaller pictures."
        )
    spans = sorted((info.header_offset, _first_byte_after(info)) for info in infos)
    ends = [0, *(end for _, end in spans)]
    starts = [*(start for start, _ in spans), num_bytes]
    # Files that share bytes, or reach past the end, are how a small zip unpacks to a huge one.
    if any(start < end for start, end in zip(starts, ends, strict=True)):
        raise ArchiveError(
            "the zip contradicts itself: its files overlap or reach past its end."
            " Zip the pictures again and send the new zip."
        )


def _first_byte_after(info: zipfile.ZipInfo) -> int:
    return info.header_offset + _LOCAL_HEADER_BYTES + info.compress_size


def _clean_name(name: str) -> str:
    return "/".join(
        part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")
    )


def _is_folder(info: zipfile.ZipInfo) -> bool:
    return info.filename.endswith(("/", "\\"))


def _is_litter(name: str) -> bool:
    parts = name.lower().split("/")
    return not name or any(part in _LITTER or part.startswith(".") for part in parts)


def _keep_apart(name: str, numbers: dict[str, int]) -> str:
    """A second 1.jpg becomes "1 (2).jpg"; `numbers` remembers how far each name has counted."""
    path, number, unique = PurePosixPath(name), numbers.get(name, 0), name
    while unique in numbers:
        number += 1
        unique = str(path.with_name(f"{path.stem} ({number}){path.suffix}"))
    numbers[name], numbers[unique] = number, 1
    return unique


def _read_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> File:
    problem = _known_problem(info)
    is_picture = name.lower().endswith(_PICTURE_SUFFIXES)
    if problem:
        return File(name=name, data=b"", problem=problem, is_picture=is_picture)
    try:
        with archive.open(info) as stream:
            head = stream.read(HEAD_BYTES)
            is_picture = bool(picture_kind(head)) or is_picture
            if not picture_kind(head):
                noun, advice = describe(head)
                problem = f"{noun}, not a picture. {advice}"
                return File(name=name, data=b"", problem=problem, is_picture=is_picture)
            data = head + _read_rest(stream)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError):
        return File(name=name, data=b"", problem="damaged inside the zip", is_picture=is_picture)
    return File(name=name, data=data, problem="", is_picture=is_picture)


def _read_rest(stream: IO[bytes]) -> bytes:
    # In pieces: one large read would ask the file for as much as the zip claims to hold.
    return b"".join(iter(lambda: stream.read(_CHUNK_BYTES), b""))


def _known_problem(info: zipfile.ZipInfo) -> str:
    if info.flag_bits & _ENCRYPTED:
        return "protected by a password: zip it again without one"
    # bzip2 and LZMA could be read, but not within a bounded memory
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return (
            f"compressed by method {info.compress_type}, which few programs read:"
            ' zip again with the ordinary "Deflate" (in 7-Zip: archive format zip, method Deflate)'
        )
    return _too_large(info.file_size)


def _too_large(num_bytes: int) -> str:
    if num_bytes <= MAX_FILE_BYTES:
        return ""
    return f"{num_bytes // MIB} MiB is too large: at most {MAX_FILE_BYTES // MIB} MiB a picture"


class _BoundedReads:
    """A file of which nobody can read more at once than a zip's table of contents may take."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.seek, self.tell, self.seekable = source.seek, source.tell, source.seekable

    def read(self, num_bytes: int = -1) -> bytes:
        """Raises: ArchiveError, instead of taking the memory."""
        if num_bytes > MAX_DIRECTORY_BYTES:
            raise ArchiveError(
                f"the zip's table of contents takes {num_bytes // MIB} MiB: too many files, or"
                " damaged. Zip only the pictures to train on."
            )
        return self._source.read(num_bytes)
