"""Whatever was sent -> the examples to train on, and an account of every file."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from preprocessing.archive import File, read_files
from preprocessing.crops import crop_square
from preprocessing.decoders import DecodeBudget, read_photo_apart
from preprocessing.download import PUBLIC_ADDRESSES, DownloadPolicy, read_addresses
from preprocessing.errors import ArchiveError, PhotoError, PictureError
from preprocessing.example import Example
from preprocessing.limits import MAX_PICTURES
from preprocessing.photos import resize
from preprocessing.prompts import check_prompts, prompts_for
from preprocessing.quality import Look, judge, look_at
from preprocessing.report import PhotoReport, log_reports, nothing_usable
from preprocessing.threads import map_in_order

logger = logging.getLogger(__name__)

# As many decoders at work. More would cost memory: each may take MAX_DECODE_BYTES.
_NUM_THREADS = 2
# How many times the resolution a JPEG's shorter side keeps: a face's crop may take a quarter of it.
_HEADROOM = {"face": 4}
_LEAST_HEADROOM = 2


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The examples, in the order met, and what is to be told.

    Attributes:
        reports, looks: one for everything that was met; no look at what was not decoded.
        warnings: about the set as a whole.
    """

    examples: tuple[Example, ...]
    reports: tuple[PhotoReport, ...]
    looks: tuple[Look | None, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    """A file's report; its image if it is used; whether it counts as a picture for the prompts."""

    report: PhotoReport
    image: Image.Image | None
    is_picture: bool
    look: Look | None = None


def prepare_examples(
    *,
    archive: Path | None,
    urls: tuple[str, ...],
    task: str,
    resolution: int,
    custom_prompts: tuple[str, ...],
    policy: DownloadPolicy = PUBLIC_ADDRESSES,
) -> Prepared:
    """The pictures of a zip (or one picture) and of addresses -> examples, ready to train on.

    The archive's files come first, in the order of their names, then the addresses in theirs. As
    many custom prompts as pictures go one to each in that order, and a picture that is skipped
    takes its prompt with it.

    Args:
        archive: a zip, whatever its name, or a picture.
        urls: of pictures or zips.
        task: face, object, style or location; chooses the templates.
        resolution: pixels a side of the examples' images.
        policy: which addresses may be fetched, and for how long.

    Raises: PictureError, if there is nothing to train on or the settings contradict themselves.
    """
    if archive is None and not urls:
        raise PictureError(
            "No pictures: both instance_data and instance_data_urls are empty."
            " Give a zip of 3 to 100 pictures, or their addresses."
        )
    check_prompts(task, custom_prompts)
    files = enumerate(_within_limit(_all_files(archive, urls, policy)), 1)
    headroom = _HEADROOM.get(task, _LEAST_HEADROOM)
    prepare = partial(_prepare, resolution=resolution, headroom=headroom, budget=DecodeBudget())
    futures = map_in_order(prepare, files, num_threads=_NUM_THREADS)
    outcomes = tuple(future.result() for future in futures)
    looks = tuple(outcome.look for outcome in outcomes)
    reports, set_warnings = judge([outcome.report for outcome in outcomes], looks, task)
    log_reports(reports, set_warnings)
    if not any(outcome.image for outcome in outcomes):
        raise PictureError(nothing_usable(reports))
    return Prepared(
        examples=_with_prompts(outcomes, task, custom_prompts),
        reports=reports,
        looks=looks,
        warnings=set_warnings,
    )


def _all_files(
    archive: Path | None, urls: tuple[str, ...], policy: DownloadPolicy
) -> Iterator[File]:
    if archive is not None and urls:
        logger.info("instance_data and instance_data_urls are both given: both are used")
    if archive is not None:
        with archive.open("rb") as source:
            try:
                yield from read_files(source, archive.name)
            except ArchiveError as error:
                raise ArchiveError(f"instance_data: {error}") from error
    yield from read_addresses(urls, policy)


def _within_limit(files: Iterator[File]) -> Iterator[File]:
    num_pictures = 0
    for file in files:
        num_pictures += file.is_picture
        if num_pictures > MAX_PICTURES:
            raise PictureError(
                f"More than {MAX_PICTURES:,} pictures were sent. Choose the best 10 to 30 of them:"
                " they teach as much."
            )
        yield file


def _prepare(
    numbered_file: tuple[int, File], *, resolution: int, headroom: int, budget: DecodeBudget
) -> _Outcome:
    position, file = numbered_file
    if file.problem:
        return _skipped(position, file, file.problem)
    try:
        photo = read_photo_apart(file.data, resolution, headroom, budget)
    except PhotoError as error:
        return _skipped(position, file, str(error))
    crop = crop_square(photo.size)
    scale = resolution / (crop[2] - crop[0])
    report = PhotoReport(
        position=position,
        name=file.name,
        used=True,
        reason=", ".join(photo.remarks),
        size=photo.size,
        crop=crop,
        scale=scale,
    )
    image = resize(photo, crop, resolution)
    look = look_at(photo.image, photo.taken)
    return _Outcome(report=report, image=image, is_picture=True, look=look)


def _skipped(position: int, file: File, reason: str) -> _Outcome:
    report = PhotoReport(
        position=position,
        name=file.name,
        used=False,
        reason=reason,
        size=None,
        crop=None,
        scale=None,
    )
    return _Outcome(report=report, image=None, is_picture=file.is_picture)


def _with_prompts(
    outcomes: tuple[_Outcome, ...], task: str, custom_prompts: tuple[str, ...]
) -> tuple[Example, ...]:
    pictures = [outcome for outcome in outcomes if outcome.is_picture]
    prompts = prompts_for(task, len(pictures), custom_prompts)
    return tuple(
        Example(image=picture.image, mask=None, prompts=prompts_of_picture)
        for picture, prompts_of_picture in zip(pictures, prompts, strict=True)
        if picture.image
    )
