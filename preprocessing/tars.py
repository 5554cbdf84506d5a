"""A tar or tar.gz -> the files in it, not read yet. Links are never followed."""

import gzip
import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from tempfile import TemporaryFile
from typing import IO, BinaryIO

from preprocessing.entries import (
    DAMAGED,
    Entry,
    clean_name,
    refuse_too_many,
    refuse_too_much,
    too_large,
)
from preprocessing.errors import ArchiveError
from preprocessing.kinds import HEAD_BYTES, is_tar
from preprocessing.limits import (
    GIB,
    KIB,
    MAX_ARCHIVE_BYTES,
    MAX_HEADERS_BYTES,
    MIB,
)

_BLOCK_BYTES = tarfile.BLOCKSIZE
_MAX_HEADER_BYTES = 64 * KIB  # of one file: its long name, times, owner and a Mac's attributes
# Python's patterns for headers take the square of a row of digits in time. The longest honest one
# is a name, of 255 bytes at most.
_ROW_OF_DIGITS = re.compile(rb"\d{256}")


@contextmanager
def unpacked_gzip(source: BinaryIO) -> Iterator[BinaryIO]:
    """What a gzip file holds, in a file without a name, since a tar is not read from front to back.

    Raises: ArchiveError, if it holds anything but a tar, is damaged, or holds too much; OSError, if
        the disk is full.
    """
    with TemporaryFile() as unpacked, gzip.GzipFile(fileobj=source) as packed:
        _unpack(packed, unpacked)
        yield unpacked


def _unpack(packed: gzip.GzipFile, unpacked: IO[bytes]) -> None:
    head = _read(packed, HEAD_BYTES)
    if not is_tar(head):
        raise ArchiveError(
            "a gzip file with something other than a tar in it. Send the pictures as a zip."
        )
    unpacked.write(head)
    while chunk := _read(packed, MIB):
        unpacked.write(chunk)
        if unpacked.tell() > MAX_ARCHIVE_BYTES:  # as for a tar that comes unpacked
            raise ArchiveError(
                f"the tar.gz unpacks to more than {MAX_ARCHIVE_BYTES // GIB} GiB."
                " Send fewer or smaller pictures."
            )


def _read(packed: gzip.GzipFile, num_bytes: int) -> bytes:
    try:
        return packed.read(num_bytes)
    # Not every OSError: a full disk is no fault of what was sent.
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ArchiveError(f"the tar.gz is {DAMAGED}.") from error


def tar_entries(source: BinaryIO, num_bytes: int) -> list[Entry]:
    """The files of a tar of `num_bytes`, in its own order; folders are left out.

    Each can be opened for as long as `source` is open.

    Raises: ArchiveError, if it is damaged or not safe to unpack.
    """
    headers = _BoundedReads(source)
    try:
        archive = tarfile.TarFile(fileobj=headers)  # type: ignore[arg-type]  # it only reads
        infos = _read_headers(archive, num_bytes)
    except ArchiveError:
        raise
    except (tarfile.TarError, ValueError, IndexError, OSError, RecursionError) as error:
        raise ArchiveError(f"the tar is {DAMAGED}.") from error
    refuse_too_much(sum(info.size for info in infos), "tar")
    headers.are_bounded = False
    return [
        Entry(
            name=clean_name(info.name),
            problem=_known_problem(info),
            open=partial(_open, archive, info),
        )
        for info in infos
        if not info.isdir()
    ]


def _read_headers(archive: tarfile.TarFile, num_bytes: int) -> list[tarfile.TarInfo]:
    """Raises: ArchiveError, and whatever tarfile raises."""
    infos: list[tarfile.TarInfo] = []
    last_offset = 0
    while info := archive.next():
        infos.append(info)
        refuse_too_many(len(infos), "tar")
        # A negative size would lead in a circle.
        if info.size < 0 or not last_offset < archive.offset <= num_bytes:
            raise ArchiveError(f"the tar is {DAMAGED}.")
        last_offset = archive.offset
    # tarfile takes anything for the end; what follows a damaged header would be lost in silence.
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(_BLOCK_BYTES) != bytes(_BLOCK_BYTES):
        raise ArchiveError(f"the tar is {DAMAGED}.")
    return infos


def _known_problem(info: tarfile.TarInfo) -> str:
    if info.issym() or info.islnk():
        return "a link to a file, not a file: pack the pictures themselves"
    if not info.isreg():
        return "neither a file nor a folder: pack only pictures"
    if info.issparse():
        return "stored with holes: pack it again as an ordinary file"
    return too_large(info.size)


def _open(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    stream = archive.extractfile(info)
    assert stream is not None, "only files are opened"
    return stream


class _BoundedReads:
    """A file of which tarfile, while it looks for headers, reads only as much as headers take."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._num_bytes = 0
        self.are_bounded = True
        self.seek, self.tell, self.seekable = source.seek, source.tell, source.seekable

    def read(self, num_bytes: int) -> bytes:
        """Raises: ArchiveError, instead of taking the memory or the time."""
        if not self.are_bounded:
            return self._source.read(num_bytes)
        self._num_bytes += num_bytes
        if not 0 <= num_bytes <= _MAX_HEADER_BYTES or self._num_bytes > MAX_HEADERS_BYTES:
            raise ArchiveError(
                "the tar's headers take too much room: too many files, or damaged."
                " Pack only the pictures to train on."
            )
        data = self._source.read(num_bytes)
        if _ROW_OF_DIGITS.search(data):
            raise ArchiveError(f"the tar is {DAMAGED}.")
        return data
