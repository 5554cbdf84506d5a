"""What became of every photo: one report each, and how they are told in the log."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from preprocessing.crops import Box

logger = logging.getLogger(__name__)

_MAX_POSITIONS_IN_LOG = 20
_MAX_REASONS_IN_MESSAGE = 5
_SMALLEST_GOOD_SET = 3


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


def log_reports(reports: Sequence[PhotoReport]) -> None:
    """Positions and reasons. File names, paths of addresses and prompts are never logged."""
    num_used = sum(report.used for report in reports)
    for reason, positions in _by_reason(report for report in reports if not report.used).items():
        logger.warning("skipped %s: %s", _numbers(positions), reason)
    for reason, positions in _by_reason(report for report in reports if report.used).items():
        if reason:
            logger.info("used %s: %s", _numbers(positions), reason)
    logger.info("photos: %d used, %d skipped", num_used, len(reports) - num_used)
    if 0 < num_used < _SMALLEST_GOOD_SET:
        logger.warning("a set of %d is small: 3 to 100 different photos teach more", num_used)


def nothing_usable(reports: Sequence[PhotoReport]) -> str:
    """The sentence for a set of which nothing can be used."""
    by_reason = _by_reason(reports)
    reasons = [
        f"{len(positions)} x {reason.rstrip('.')}." for reason, positions in by_reason.items()
    ]
    num_others = len(reasons) - _MAX_REASONS_IN_MESSAGE
    others = (f"And {num_others} other reasons.",) if num_others > 0 else ()
    found = " ".join((*reasons[:_MAX_REASONS_IN_MESSAGE], *others))
    return (
        f"No usable pictures; found: {found} Send 3 to 100 pictures as JPEG, PNG, WebP, AVIF, HEIC,"
        " BMP, TIFF, GIF or JPEG 2000."
    )


def _by_reason(reports: Iterable[PhotoReport]) -> dict[str, list[int]]:
    by_reason: dict[str, list[int]] = defaultdict(list)
    for report in reports:
        by_reason[report.reason].append(report.position)
    return by_reason


def _numbers(positions: list[int]) -> str:
    named = ", ".join(str(position) for position in positions[:_MAX_POSITIONS_IN_LOG])
    num_others = len(positions) - _MAX_POSITIONS_IN_LOG
    return f"{named} and {num_others} more" if num_others > 0 else named
