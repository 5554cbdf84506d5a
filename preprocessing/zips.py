"""A zip -> the files in it, not read yet. What it says of itself is believed only if it can be."""

import re
import struct
import zipfile
from functools import partial
from typing import BinaryIO

from preprocessing.entries import (
    DAMAGED,
    Entry,
    clean_name,
    refuse_too_many,
    refuse_too_much,
    too_large,
)
from preprocessing.errors import ArchiveError
from preprocessing.limits import MAX_ARCHIVE_ENTRIES, MAX_DIRECTORY_BYTES, MIB

_LOCAL_HEADER_BYTES = 30  # the fixed part of what stands before each file's data
_ENCRYPTED = 0x1
_IN_UTF8 = 0x800
_LIKE_A_BACKSLASH = re.compile(rb"(?<=[\x80-\xff])\\")


def zip_entries(source: BinaryIO, num_bytes: int) -> list[Entry]:
    """The files of a zip of `num_bytes`, in its own order; folders are left out.

    Each can be opened for as long as `source` is open.

    Raises: ArchiveError, if it is damaged or not safe to unpack.
    """
    try:
        archive = zipfile.ZipFile(_BoundedReads(source))
    except ArchiveError:
        raise
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error) as error:
        raise ArchiveError(f"the zip is {DAMAGED}.") from error
    infos = archive.infolist()
    _refuse_bombs(infos, num_bytes)
    return [
        Entry(
            name=clean_name(path),
            problem=_known_problem(info),
            open=partial(archive.open, info),
        )
        for info, path in zip(infos, map(_path, infos), strict=True)
        if not path.endswith(("/", "\\"))
    ]


def _refuse_bombs(infos: list[zipfile.ZipInfo], num_bytes: int) -> None:
    """What a zip says of itself must fit into it. Raises: ArchiveError."""
    refuse_too_many(len(infos), "zip")
    refuse_too_much(sum(info.file_size for info in infos), "zip")
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


def _path(info: zipfile.ZipInfo) -> str:
    """As it was written: zipfile takes all that is not marked as UTF-8 for code page 437."""
    if info.flag_bits & _IN_UTF8:
        return info.filename
    try:
        written = info.filename.encode("cp437")
        return written.decode("utf-8")  # as a Mac writes it
    except UnicodeEncodeError:  # zipfile has found its name elsewhere
        return info.filename
    except UnicodeDecodeError:
        # In Japanese and Chinese the byte of a backslash may end a letter: that is no folder.
        return _LIKE_A_BACKSLASH.sub(b"_", written).decode("cp437")


def _known_problem(info: zipfile.ZipInfo) -> str:
    if info.flag_bits & _ENCRYPTED:
        return "protected by a password: zip it again without one"
    # bzip2 and LZMA could be read, but not within a bounded memory
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return (
            f"compressed by method {info.compress_type}, which few programs read:"
            ' zip again with the ordinary "Deflate" (in 7-Zip: archive format zip, method Deflate)'
        )
    return too_large(info.file_size)


class _BoundedReads:
    """A file of which nobody can read more at once than a zip's table of contents may take."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.seek, self.tell, self.seekable = source.seek, source.tell, source.seekable

    def read(self, num_bytes: int = -1) -> bytes:
        """Raises: ArchiveError, instead of taking the memory."""
        if num_bytes > MAX_DIRECTORY_BYTES:
            raise ArchiveError(
                f"the zip's table of contents takes {num_bytes // MIB} MiB: it holds far more than"
                f" {MAX_ARCHIVE_ENTRIES:,} files, or is damaged. Zip only the pictures to train on."
            )
        return self._source.read(num_bytes)
