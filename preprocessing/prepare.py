"""Whatever was sent -> the examples to train on, and an account of every file."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from PIL import Image

from preprocessing.archive import File, read_files
from preprocessing.captions import Caption
from preprocessing.cuts import Cut, Cuts, OwnMask, choose_cuts, cut_square, read_mask
from preprocessing.decoders import DecodeBudget, read_photo_apart
from preprocessing.download import PUBLIC_ADDRESSES, DownloadPolicy, read_addresses
from preprocessing.entries import refuse_too_many_pictures
from preprocessing.errors import ArchiveError, PhotoError, PictureError
from preprocessing.example import Example
from preprocessing.limits import GIB, MAX_ARCHIVE_ENTRIES, MAX_UNPACKED_BYTES
from preprocessing.masks import marks_nothing
from preprocessing.photos import Photo
from preprocessing.prompts import PhotoPrompts, check_prompts, prompts_for
from preprocessing.quality import Look, judge, look_at
from preprocessing.report import PhotoReport, log_reports, nothing_usable
from preprocessing.threads import map_in_order, result_of

logger = logging.getLogger(__name__)

# A photo, its owner's mask of it if any, and its position -> what could be trained on.
_Cutter = Callable[[Photo, Image.Image | None, int], Cuts]

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


class NothingUsableError(PictureError):
    """Every file was skipped. `prepared` holds the account of them, and no examples."""

    def __init__(self, prepared: Prepared) -> None:
        super().__init__(nothing_usable(prepared.reports))
        self.prepared = prepared


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    """What one file came to.

    Attributes:
        report: as far as it is known before all were seen.
        cuts: what could be trained on, the likeliest first; none if the file is skipped.
        is_picture: it counts as a picture for the custom prompts.
        caption: what its owner wrote about it.
        look: None if it was not decoded.
    """

    report: PhotoReport
    is_picture: bool
    caption: Caption | None
    cuts: tuple[Cut, ...] = ()
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
    headroom = _HEADROOM.get(task, _LEAST_HEADROOM)
    decode = partial(read_photo_apart, budget=DecodeBudget())
    read = partial(
        _read,
        decode=partial(decode, resolution=resolution, headroom=headroom),
        # A mask may be smaller than any photo: it has no details.
        decode_mask=partial(decode, resolution=1, headroom=headroom * resolution),
        cut=_cutter(task, resolution),
    )
    futures = map_in_order(read, files, num_threads=_NUM_THREADS)
    outcomes = _in_order([result_of(future) for future in futures])
    chosen, person_warnings = choose_cuts([outcome.cuts for outcome in outcomes])
    cuts = [cut for cut, _ in chosen]
    prompts = _prompts(outcomes, task, custom_prompts)
    reports = [
        _complete(outcome.report, cut, warnings, prompts, resolution)
        for outcome, (cut, warnings) in zip(outcomes, chosen, strict=True)
    ]
    looks = tuple(outcome.look for outcome in outcomes)
    judged, quality_warnings = judge(reports, looks, task)
    set_warnings = (*quality_warnings, *person_warnings)
    log_reports(judged, set_warnings)
    prepared = Prepared(
        examples=tuple(
            Example(image=cut.image, mask=cut.mask, prompts=prompts[report.position].prompts)
            for report, cut in zip(judged, cuts, strict=True)
            if cut
        ),
        reports=judged,
        looks=looks,
        warnings=set_warnings,
    )
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


def _in_order(found: Sequence[tuple[_Outcome, ...]]) -> list[_Outcome]:
    """All in the order of their names, and numbered so.

    A picture that was taken for the mask of another is found with that one, which has a shorter
    name; and with two, if two have the name.
    """
    ordered: list[_Outcome] = []
    waiting: dict[str, _Outcome] = {}
    for first, *others in found:
        for name in sorted(name for name in waiting if name < first.report.name):
            ordered.append(waiting.pop(name))
        ordered.append(first)
        waiting |= {other.report.name: other for other in others}
    ordered += [waiting[name] for name in sorted(waiting)]
    refuse_too_many_pictures(sum(outcome.is_picture for outcome in ordered))
    return [
        replace(outcome, report=replace(outcome.report, position=position))
        for position, outcome in enumerate(ordered, 1)
    ]


def _read(
    numbered_file: tuple[int, File],
    *,
    decode: Callable[[bytes], Photo],
    decode_mask: Callable[[bytes], Photo],
    cut: _Cutter,
) -> tuple[_Outcome, ...]:
    """Decode a file, and cut out what could be trained on: the whole photo is too large to keep.

    What is named like its mask, but is a picture, comes to something by itself.
    """
    position, file = numbered_file
    if file.problem:
        return (_skipped(position, file, file.problem),)
    try:
        photo = decode(file.data)
    except PhotoError as error:
        return (_skipped(position, file, str(error)),)
    own_mask = read_mask(photo, file.mask, decode_mask)
    outcome = _cut(position, file, photo, own_mask, cut)
    if not own_mask.is_picture:
        return (outcome,)
    picture = File(
        name=file.mask_name,
        data=file.mask,
        problem="",
        is_picture=True,
        warnings=(own_mask.warning,),
    )
    return (outcome, *_read((position, picture), decode=decode, decode_mask=decode_mask, cut=cut))


def _cut(position: int, file: File, photo: Photo, own_mask: OwnMask, cut: _Cutter) -> _Outcome:
    found = cut(photo, own_mask.mask, position)
    mask_warning = "" if own_mask.is_picture else own_mask.warning
    warnings = (*file.warnings, *found.warnings, mask_warning)
    remarks = (*file.remarks, *photo.remarks, own_mask.remark)
    return _Outcome(
        report=PhotoReport(
            position=position,
            name=file.name,
            used=True,
            reason=", ".join(filter(None, remarks)),
            size=found.photo.size,
            num_faces=found.num_faces,
            warnings=tuple(filter(None, warnings)),
        ),
        is_picture=True,
        caption=file.caption,
        cuts=found.cuts,
        look=look_at(found.photo.image, photo.taken),
    )


def _cutter(task: str, resolution: int) -> _Cutter:
    if task == "face":
        # Here, because it brings torch, which takes seconds to load.
        from preprocessing.portraits import cut_portraits

        return partial(cut_portraits, resolution=resolution)
    return lambda photo, mask, _: Cuts(photo=photo, cuts=(cut_square(photo, mask, resolution),))


def _skipped(position: int, file: File, reason: str) -> _Outcome:
    report = PhotoReport(position=position, name=file.name, used=False, reason=reason)
    return _Outcome(report=report, is_picture=file.is_picture, caption=file.caption)


def _prompts(
    outcomes: Sequence[_Outcome], task: str, custom_prompts: tuple[str, ...]
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
