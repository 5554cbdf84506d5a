"""Whatever was sent -> the examples to train on, and an account of every file."""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from preprocessing.archive import File, read_files
from preprocessing.cuts import Cut, choose_cuts
from preprocessing.download import PUBLIC_ADDRESSES, DownloadPolicy, read_addresses
from preprocessing.entries import refuse_too_many_pictures
from preprocessing.errors import ArchiveError, PictureError
from preprocessing.example import Example
from preprocessing.limits import GIB, MAX_ARCHIVE_ENTRIES, MAX_UNPACKED_BYTES
from preprocessing.masks import marks_nothing
from preprocessing.outcomes import Outcome, file_reader
from preprocessing.prompts import PhotoPrompts, check_prompts, prompts_for
from preprocessing.quality import Look, judge
from preprocessing.report import PhotoReport, log_reports, nothing_usable
from preprocessing.threads import map_in_order, result_of

logger = logging.getLogger(__name__)

# As many decoders at work as there are cores, within bounds: each may take MAX_DECODE_BYTES of
# memory, and four read fifty photos of 12 megapixels in a second.
_LEAST_THREADS, _MOST_THREADS = 2, 4
_NUM_THREADS = min(max(os.cpu_count() or 1, _LEAST_THREADS), _MOST_THREADS)


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


class NothingUsableError(PictureError):
    """Every file was skipped. `prepared` holds the account of them, and no examples."""

    def __init__(self, prepared: Prepared) -> None:
        super().__init__(nothing_usable(prepared.reports))
        self.prepared = prepared


def prepare_examples(
    *,
    archive: Path | None,
    urls: tuple[str, ...],
    task: str,
    resolution: int,
    custom_prompts: tuple[str, ...],
    policy: DownloadPolicy = PUBLIC_ADDRESSES,
) -> Prepared:
    """The pictures of an archive (or one picture) and of addresses -> examples to train on.

    The archive's files come first, in the order of their names, then the addresses in theirs. As
    many custom prompts as pictures go one to each in that order, and a picture that is skipped
    takes its prompt with it.

    Args:
        archive: a zip, tar or tar.gz, whatever its name, or a picture.
        urls: of the same.
        task: face, object, style or location; chooses the templates.
        resolution: pixels a side of the examples' images.
        policy: which addresses may be fetched, and for how long.

    Raises: PictureError, if there is nothing to train on or the settings contradict themselves;
        NothingUsableError, if every file is skipped.
    """
    if archive is None and not urls:
        raise PictureError(
            "No pictures: both instance_data and instance_data_urls are empty."
            " Give a zip of 3 to 100 pictures, or their addresses."
        )
    check_prompts(task, custom_prompts)
    files = enumerate(_within_limit(_all_files(archive, urls, policy)), 1)
    futures = map_in_order(file_reader(task, resolution), files, num_threads=_NUM_THREADS)
    outcomes = _in_order([result_of(future) for future in futures])
    prepared = _choose(outcomes, task, resolution, custom_prompts)
    log_reports(prepared.reports, prepared.warnings)
    if not prepared.examples:
        raise NothingUsableError(prepared)
    return prepared


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
    """Each archive keeps its own limits; together, from many addresses, they keep the same ones."""
    num_pictures = num_bytes = 0
    for num_files, file in enumerate(files, 1):
        num_pictures += file.is_picture
        num_bytes += len(file.data) + len(file.mask)
        refuse_too_many_pictures(num_pictures)
        if num_files > MAX_ARCHIVE_ENTRIES or num_bytes > MAX_UNPACKED_BYTES:
            raise PictureError(
                f"More than {MAX_ARCHIVE_ENTRIES:,} files, or more than"
                f" {MAX_UNPACKED_BYTES // GIB} GiB, were sent. Send fewer or smaller pictures."
            )
        yield file


def _in_order(found: Sequence[tuple[Outcome, ...]]) -> list[Outcome]:
    """All in the order of their sources and there of their names, and numbered so."""
    by_source = groupby(found, key=lambda outcomes: outcomes[0].source)
    ordered = [outcome for _, of_source in by_source for outcome in _by_name(of_source)]
    refuse_too_many_pictures(sum(outcome.is_picture for outcome in ordered))
    return [
        replace(outcome, report=replace(outcome.report, position=position))
        for position, outcome in enumerate(ordered, 1)
    ]


def _by_name(found: Iterable[tuple[Outcome, ...]]) -> Iterator[Outcome]:
    """Of one source, in whose order they are found.

    A picture that was taken for the mask of another is found with that one, which has a shorter
    name; and with two, if two have the name.
    """
    waiting: dict[str, Outcome] = {}
    for first, *others in found:
        for name in sorted(name for name in waiting if name < first.report.name):
            yield waiting.pop(name)
        yield first
        waiting |= {other.report.name: other for other in others}
    yield from (waiting[name] for name in sorted(waiting))


def _choose(
    outcomes: Sequence[Outcome], task: str, resolution: int, custom_prompts: tuple[str, ...]
) -> Prepared:
    """What is known once all were seen: whose face it is, which sentences, what is alike."""
    chosen, person_warnings = choose_cuts([outcome.cuts for outcome in outcomes])
    prompts = _prompts(outcomes, task, custom_prompts)
    reports = [
        _complete(outcome.report, cut, warnings, prompts, resolution)
        for outcome, (cut, warnings) in zip(outcomes, chosen, strict=True)
    ]
    looks = tuple(outcome.look for outcome in outcomes)
    judged, quality_warnings = judge(reports, looks, task)
    return Prepared(
        examples=tuple(
            Example(image=cut.image, mask=cut.mask, prompts=prompts[report.position].prompts)
            for report, (cut, _) in zip(judged, chosen, strict=True)
            if cut
        ),
        reports=judged,
        looks=looks,
        warnings=(*quality_warnings, *person_warnings),
    )


def _prompts(
    outcomes: Sequence[Outcome], task: str, custom_prompts: tuple[str, ...]
) -> dict[int, PhotoPrompts]:
    """Of every picture, by its position."""
    captions = {
        outcome.report.position: outcome.caption for outcome in outcomes if outcome.is_picture
    }
    return prompts_for(task, captions, custom_prompts)


def _complete(
    report: PhotoReport,
    cut: Cut | None,
    warnings: tuple[str, ...],
    prompts: Mapping[int, PhotoPrompts],
    resolution: int,
) -> PhotoReport:
    """The report of a photo that is used, with what was chosen for it."""
    if not cut:
        return report
    is_empty = cut.mask is not None and marks_nothing(cut.mask)
    about_mask = ("its mask marks nothing inside the crop",) if is_empty else ()
    return replace(
        report,
        crop=cut.crop,
        scale=resolution / (cut.crop[2] - cut.crop[0]),
        caption_source=prompts[report.position].source,
        warnings=(*report.warnings, *warnings, *about_mask),
    )
