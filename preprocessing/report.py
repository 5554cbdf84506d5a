"""What became of every photo: one report each, and how they are told in the log."""

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from preprocessing.crops import Box

logger = logging.getLogger(__name__)

_MAX_ROWS = 40  # of the table in the log; a longer one is told in groups of equal rows
_MAX_RANGES = 8  # of the numbers in a group
_MAX_REASONS_IN_MESSAGE = 5
# In a reason: 9, 4.4 or 2,048; not the digits in a host's name or address.
_COUNT = re.compile(r"(?<![\w.])\d{1,9}(?:,\d{3})*(?:\.\d+)?(?!\w|\.\d)")

# Every line begins with the same word, so that the table can be picked out of a log.
_ROW = "picture {:>5}  {:<7}  {:<11}  {:<16}  {:<9}  {:<5}  {:<15}  {}"
_HEADER = _ROW.format("no.", "", "size", "crop", "scale", "faces", "captions", "remarks")
_NOTHING = "-"
_VARIOUS = "various"


@dataclass(frozen=True, kw_only=True)
class PhotoReport:
    """What became of one photo or file that was met.

    Attributes:
        position: from 1, in the order met.
        name: for the caller's own report only, never for the log.
        used: it is one of the examples.
        reason: why it is not used; or remarks on how; "" when used without remark.
        size: width and height of the upright photo in pixels; None if it was not decoded.
        crop: left, top, right, bottom of the part that is used, in pixels of the upright photo.
        scale: resolution / side of the crop; above 1 the photo is enlarged.
        num_faces: how many were found; None if none were looked for.
        caption_source: where its prompts come from, in words; "" if it is not used.
        warnings: what the caller may want to look at, in words; it is used all the same.
    """

    position: int
    name: str
    used: bool
    reason: str
    size: tuple[int, int] | None = None
    crop: Box | None = None
    scale: float | None = None
    num_faces: int | None = None
    caption_source: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def remarks(self) -> str:
        """Warnings first, then the reason: "" if there is nothing to say."""
        return ", ".join((*self.warnings, *filter(None, (self.reason,))))


def log_reports(reports: Sequence[PhotoReport], warnings: Sequence[str] = ()) -> None:
    """A table, what is to be said of the set (`warnings`), and the counts.

    Pictures have numbers there. File names, paths of addresses and prompts are never logged.
    """
    logger.info("%s", _HEADER)
    for level, row in _rows(reports):
        logger.log(level, "%s", row)
    for warning in warnings:
        logger.warning("%s", warning)
    num_used = sum(report.used for report in reports)
    skipped = _files(len(reports) - num_used)  # pictures or not
    num_doubtful = sum(bool(report.warnings) for report in reports)
    doubtful = f", {num_doubtful} with a warning" if num_doubtful else ""
    logger.info("pictures: %d used, %s skipped%s", num_used, skipped, doubtful)


def nothing_usable(reports: Sequence[PhotoReport]) -> str:
    """What to tell of a set of which nothing can be used: its commonest reasons first."""
    by_kind: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for report in reports:
        by_kind[tuple(_COUNT.split(report.reason))].append(report.reason)
    kinds = sorted(by_kind.values(), key=len, reverse=True)
    found = [f"{_files(len(kind))}: {_as_sentence(_merged(kind))}" for kind in kinds]
    num_others = sum(map(len, kinds[_MAX_REASONS_IN_MESSAGE:]))
    others = (f"{_files(num_others)}: other reasons.",) if num_others else ()
    return (
        f"No usable pictures. {' '.join((*found[:_MAX_REASONS_IN_MESSAGE], *others))} Needed are"
        " 3 to 100 pictures as JPEG, PNG, WebP, AVIF, HEIC, BMP, TIFF, GIF or JPEG 2000."
    )


def _files(number: int) -> str:
    return "1 file" if number == 1 else f"{number} files"


def _as_sentence(reason: str) -> str:
    return reason if reason.endswith((".", "?")) else f"{reason}."


def _merged(reasons: Sequence[str]) -> str:
    """One for many that differ in their counts only: "5 to 14 x 9 pixels is too small"."""
    columns = zip(*(_COUNT.findall(one) for one in reasons), strict=True)
    return _COUNT.sub(lambda _: _count_text(next(columns)), reasons[0])


def _count_text(counts: Sequence[str]) -> str:
    smallest, largest = min(counts, key=_value), max(counts, key=_value)
    return smallest if smallest == largest else f"{smallest} to {largest}"


def _value(count: str) -> float:
    return float(count.replace(",", ""))


def numbered(positions: Iterable[int]) -> str:
    """1, 2, 3, 5 -> "1-3, 5"; only the first few."""
    ranges: list[list[int]] = []
    for position in sorted(positions):
        if ranges and position == ranges[-1][1] + 1:
            ranges[-1][1] = position
        else:
            ranges.append([position, position])
    named = [str(first) if first == last else f"{first}-{last}" for first, last in ranges]
    return ", ".join((*named[:_MAX_RANGES], *(["..."] if len(named) > _MAX_RANGES else [])))


def _rows(reports: Sequence[PhotoReport]) -> Iterable[tuple[int, str]]:
    """Log level and text of each line."""
    if len(reports) <= _MAX_ROWS:
        return [(_level(report), _row(str(report.position), [report], "")) for report in reports]
    groups = _groups(reports)
    rows = [
        (_level(group[0]), _row(f"x{len(group)}", group, _numbers(group)))
        for group in groups[:_MAX_ROWS]
    ]
    others = list(chain.from_iterable(groups[_MAX_ROWS:]))
    if others:
        remark = f"others, each with remarks of its own {_numbers(others)}"
        rows.append((logging.INFO, _ROW.format(f"x{len(others)}", *[_VARIOUS] * 6, remark)))
    return rows


def _groups(reports: Sequence[PhotoReport]) -> list[list[PhotoReport]]:
    """Reports that say the same but for figures: the skipped first, then the largest group."""
    groups: dict[tuple[object, ...], list[PhotoReport]] = defaultdict(list)
    for report in reports:
        remarks = _without_figures(report.remarks)
        groups[report.used, remarks, report.num_faces, report.caption_source].append(report)
    return sorted(groups.values(), key=lambda group: (group[0].used, -len(group)))


def _numbers(group: Iterable[PhotoReport]) -> str:
    return f"({numbered(report.position for report in group)})"


def _level(report: PhotoReport) -> int:
    return logging.INFO if report.used else logging.WARNING


def _row(number: str, group: Sequence[PhotoReport], numbers: str) -> str:
    """One line for reports that say the same; where their figures differ, "various" or N."""
    first = group[0]
    remarks = {report.remarks for report in group}
    remark = first.remarks if len(remarks) == 1 else _without_figures(first.remarks)
    return _ROW.format(
        number,
        "used" if first.used else "skipped",
        _shared([f"{one.size[0]}x{one.size[1]}" for one in group if one.size]),
        _shared([_crop_text(one.crop) for one in group if one.crop]),
        _range_text([one.scale for one in group if one.scale is not None]),
        _NOTHING if first.num_faces is None else first.num_faces,
        first.caption_source or _NOTHING,
        " ".join(filter(None, (remark, numbers))),
    ).rstrip()


def _without_figures(text: str) -> str:
    return re.sub(r"\d+(\.\d+)?", "N", text)


def _shared(texts: Sequence[str]) -> str:
    return texts[0] if len(set(texts)) == 1 else _VARIOUS if texts else _NOTHING


def _crop_text(crop: Box) -> str:
    """Its side, and where its upper left corner is."""
    left, top, right, _ = (round(edge) for edge in crop)
    return f"{right - left} at {left},{top}"


def _range_text(scales: Sequence[float]) -> str:
    if not scales:
        return _NOTHING
    smallest, largest = f"{min(scales):.2f}", f"{max(scales):.2f}"
    return smallest if smallest == largest else f"{smallest}-{largest}"
