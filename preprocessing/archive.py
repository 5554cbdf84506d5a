"""A file that was sent -> the files in it, one at a time. Nothing is ever extracted by name."""

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

from preprocessing.captions import (
    FILE_NAME,
    TABLE,
    TEXT_FILE,
    Caption,
    CaptionError,
    read_caption,
)
from preprocessing.companions import Group, Sighting, group, is_table
from preprocessing.entries import (
    Entry,
    EntryError,
    is_litter,
    keep_apart,
    read_start,
    read_whole,
    refuse_too_many_pictures,
    too_large,
)
from preprocessing.errors import ArchiveError
from preprocessing.file_names import captions_from_names
from preprocessing.kinds import HEAD_BYTES, describe, is_gzip, is_tar, is_zip, picture_kind
from preprocessing.limits import (
    GIB,
    MAX_ARCHIVE_BYTES,
    MAX_CAPTION_BYTES,
    MAX_FILE_BYTES,
)
from preprocessing.tables import read_tables
from preprocessing.tars import tar_entries, unpacked_gzip
from preprocessing.zips import zip_entries

_PICTURE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".heic", ".heif", ".hif"),
    *(".bmp", ".tif", ".tiff", ".gif", ".jp2"),
)


@dataclass(frozen=True, kw_only=True)
class File:
    """One file that was met, with what lay beside it and belongs to it.

    Attributes:
        name: its path in the archive, cleaned, no two alike; only ever a label, never opened.
        data: its bytes; empty when there is a problem.
        problem: why it cannot be used; "" if nothing is known against it.
        is_picture: it counts as one of the caller's pictures, usable or not.
        caption: what its owner wrote about it, if anything.
        mask: the bytes of a picture that is named like its mask; empty without one.
        mask_name: that picture's, as `name`.
        mask_caption: what its owner wrote about that one.
        remarks: what its owner may want to know.
        warnings: what its owner should look at.
        source: number of the address that it came from; 0 if from none.
    """

    name: str
    data: bytes
    problem: str
    is_picture: bool
    caption: Caption | None = None
    mask: bytes = b""
    mask_name: str = ""
    mask_caption: Caption | None = None
    remarks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    source: int = 0


def read_files(source: BinaryIO, label: str) -> Iterator[File]:
    """The files of a zip, tar or tar.gz in the order of their names, or the one picture it is.

    `label` names a single picture. Only one file is held at a time, with its mask and caption.
    Folders, and what computers leave behind, are passed over.

    Raises, before the first file: ArchiveError, if `source` is neither, or not safe to unpack;
        PictureError, if it holds too many pictures.
    """
    num_bytes, head = _measure(source)
    if num_bytes > MAX_ARCHIVE_BYTES:
        raise ArchiveError(
            f"larger than {MAX_ARCHIVE_BYTES // GIB} GiB ({num_bytes / GIB:.1f} GiB)."
            " Twenty good pictures are plenty: send fewer, or smaller ones."
        )
    if picture_kind(head):
        yield _single_picture(source, num_bytes, label)
    elif is_gzip(head):
        with unpacked_gzip(source) as tar:
            yield from _read_entries(tar_entries(tar, _measure(tar)[0]), "tar.gz")
    elif is_tar(head):
        yield from _read_entries(tar_entries(source, num_bytes), "tar")
    elif is_zip(head) or zipfile.is_zipfile(source):
        yield from _read_entries(zip_entries(source, num_bytes), "zip")
    else:
        noun, advice = describe(head)
        raise ArchiveError(f"neither a zip nor a picture but {noun}. {advice}")


def _measure(source: BinaryIO) -> tuple[int, bytes]:
    """Its length and its first bytes; it is at its beginning afterwards."""
    num_bytes = source.seek(0, 2)
    source.seek(0)
    head = source.read(HEAD_BYTES)
    source.seek(0)
    return num_bytes, head


def _single_picture(source: BinaryIO, num_bytes: int, label: str) -> File:
    problem = too_large(num_bytes)
    data = b"" if problem else source.read()
    return File(name=label, data=data, problem=problem, is_picture=True)


def _read_entries(entries: Sequence[Entry], noun: str) -> Iterator[File]:
    entries = sorted((e for e in entries if not is_litter(e.name)), key=lambda entry: entry.name)
    if not entries:
        raise ArchiveError(f"the {noun} holds no files. Put 3 to 100 pictures into it.")
    # A look into every file: which texts and masks belong to a picture must be known when its turn
    # comes, and only their contents tell pictures from other files.
    sightings = [_sight(entry) for entry in entries]
    tables = [sighting.entry for sighting in sightings if is_table(sighting)]
    groups = group([sighting for sighting in sightings if not is_table(sighting)])
    refuse_too_many_pictures(sum(one.sighting.is_picture for one in groups))
    pictures = {one.path for one in groups if one.sighting.is_picture}
    pictures |= {one.path_of_mask for one in groups if one.mask}
    rows, problems = read_tables(tables, pictures)
    names = [*(name for name, _ in problems), *(one.sighting.entry.name for one in groups)]
    labels = iter(keep_apart(names))
    for _, problem in problems:
        yield File(name=next(labels), data=b"", problem=problem, is_picture=False)
    for one, caption in zip(groups, _captions(groups, rows), strict=True):
        yield _read_group(one, next(labels), caption, _row_caption(rows, one.path_of_mask))


def _sight(entry: Entry) -> Sighting:
    """Its first bytes: what it is."""
    is_picture = entry.name.lower().endswith(_PICTURE_SUFFIXES)
    try:
        head = read_start(entry, HEAD_BYTES)
    except EntryError as error:
        return Sighting(entry=entry, problem=str(error), is_picture=is_picture, is_readable=False)
    if picture_kind(head):
        return Sighting(entry=entry, problem="", is_picture=True, is_readable=True)
    noun, advice = describe(head)
    problem = f"{noun}, not a picture. {advice}"
    return Sighting(entry=entry, problem=problem, is_picture=is_picture, is_readable=True)


def _captions(groups: Sequence[Group], rows: Mapping[str, str]) -> Iterator[Caption | None]:
    """For each what a table calls it, or else its own name."""
    pictures = [one for one in groups if one.sighting.is_picture]
    # (Not their paths, which are made to be compared.)
    stems = [PurePosixPath(one.sighting.entry.name).stem for one in pictures]
    names = iter(captions_from_names(stems))
    for one in groups:
        name = next(names) if one.sighting.is_picture else ""
        of_name = Caption(text=name, source=FILE_NAME) if name else None
        yield _row_caption(rows, one.path) or of_name


def _row_caption(rows: Mapping[str, str], path: str) -> Caption | None:
    row = rows.get(path)
    return Caption(text=row, source=TABLE) if row else None


def _read_group(
    one: Group, label: str, caption: Caption | None, mask_caption: Caption | None
) -> File:
    """A picture with what lies beside it; or any other file, with its problem.

    The captions are what else they are called, if there is no text beside them.
    """
    is_picture, remarks, warnings, mask = one.sighting.is_picture, list(one.remarks), [], b""
    data, problem = b"", ""
    try:
        data = _read_picture(one.sighting.entry, one.problem)
    except EntryError as error:
        problem = str(error)
    try:
        caption = _read_text(one.text) or caption
    except (EntryError, CaptionError) as error:
        remarks.append(f"the text of its name is not used: {error}")
    try:
        mask_caption = _read_text(one.text_of_mask) or mask_caption
    except (EntryError, CaptionError) as error:
        remarks.append(f"the text of its mask's name is not used: {error}")
    if one.mask:
        try:
            mask = _read_picture(one.mask.entry, one.mask.problem)
        except EntryError as error:
            warnings.append(f"its mask is not used: {str(error).rstrip('.')}")
    return File(
        name=label,
        data=data,
        problem=problem,
        is_picture=is_picture,
        caption=caption,
        mask=mask,
        mask_name=one.mask.entry.name if one.mask else "",
        mask_caption=mask_caption,
        remarks=tuple(remarks),
        warnings=tuple(warnings),
    )


def _read_text(entry: Entry | None) -> Caption | None:
    """Raises: EntryError, CaptionError."""
    if entry is None:
        return None
    return Caption(text=read_caption(read_whole(entry, MAX_CAPTION_BYTES)), source=TEXT_FILE)


def _read_picture(entry: Entry, problem: str) -> bytes:
    """Raises: EntryError, also for the problem that it is known to have."""
    if problem:
        raise EntryError(problem)
    return read_whole(entry, MAX_FILE_BYTES)
