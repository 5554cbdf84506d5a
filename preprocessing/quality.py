"""What about the pictures may spoil the training: measured, told, and never acted on.

Nothing is dropped here, exact copies neither: whoever sends a picture twice may want it to count
twice, and as many custom prompts as pictures go one to each.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from preprocessing.report import PhotoReport

THUMBNAIL_PIXELS = 192  # the longest side: a thousand of them take about 80 MB

_MEASURED_WIDTH = 512
_LEAST_MEASURED_WIDTH = 480  # a little less changes nothing, and saves most photos a slow resize
# Variance of the Laplacian at that width: most photos have 100 to 1,000, the same photos blurred by
# a Gaussian of 2 pixels 3 to 18. Flat drawings have hard edges, and thousands.
_BLURRY_BELOW = 25.0
# Of 64 bits. Copies that were made smaller, brighter or saved as a poor JPEG differ by up to 4;
# different pictures of one subject hardly ever by fewer than 9, but for close-ups and drawings on
# white: there the finer pattern decides. Copies correlate by 0.96 and more, other pairs by 0.95 at
# most (20 pairs within 4 bits, of 277 photographs and drawings).
_NEAR_BITS = 4
_PATTERN_FIELDS = 32  # a side
_NEAR_CORRELATION = 0.96
_FLAT_LEVELS = 8  # a picture of fewer grey levels than this, made tiny, has no shape to compare
_FEW, _MANY = 5, 100
# Long enough for a burst and for a dozen poses; too short for another light or other clothes.
_MOMENT_SECONDS = 5 * 60
_MIN_DATED = 3


@dataclass(frozen=True, kw_only=True)
class Look:
    """What is kept of a photo when its pixels are let go.

    Attributes:
        thumbnail: RGB, the whole upright photo, `THUMBNAIL_PIXELS` on its longest side at most.
        digest: equal for equal pixels, however they were stored.
        shape: a 64-bit difference hash (after Neal Krawetz's dHash); None for a flat picture.
        pattern: its grey levels, very small; of mean 0 and length 1.
        sharpness: variance of the Laplacian of its grey levels at 512 pixels' width.
        taken: by its camera's clock, in seconds since some day; None if it does not say.
    """

    thumbnail: Image.Image
    digest: bytes
    shape: int | None
    pattern: np.ndarray
    sharpness: float
    taken: float | None


def look_at(image: Image.Image, taken: float | None) -> Look:
    """An upright RGB photo, whole, and when it was taken -> what to keep of it."""
    reduced = _reduce(image)
    grey = reduced.convert("L")
    thumbnail = reduced.copy()
    thumbnail.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    size = np.array(image.size, dtype="<u4").tobytes()
    return Look(
        thumbnail=thumbnail,
        digest=hashlib.sha256(size + reduced.tobytes()).digest(),
        shape=_difference_hash(grey),
        pattern=_pattern(grey),
        sharpness=_laplacian_variance(grey),
        taken=taken,
    )


def judge(
    reports: Sequence[PhotoReport], looks: Sequence[Look | None], task: str
) -> tuple[tuple[PhotoReport, ...], tuple[str, ...]]:
    """The reports with what is to be said about each used picture, and about the set as a whole.

    `looks` are those of the same photos; None where nothing was decoded.
    """
    used = [
        (report, look)
        for report, look in zip(reports, looks, strict=True)
        if report.used and look is not None
    ]
    copies = _find_copies([(report.position, look) for report, look in used])
    found = {
        report.position: (
            *_find_faults(report, look, task),
            *copies.get(report.position, ()),
            *_judge_size(report),  # last: the column of scales says it too
        )
        for report, look in used
    }
    judged = tuple(
        replace(report, warnings=(*report.warnings, *found.get(report.position, ())))
        for report in reports
    )
    times = [look.taken for _, look in used if look.taken is not None]
    return judged, tuple(_judge_set(len(used), len(copies), times, task))


def _judge_set(num_used: int, num_copies: int, times: list[float], task: str) -> Iterator[str]:
    if 0 < num_used < _FEW:
        number = "one picture" if num_used == 1 else f"{num_used} pictures"
        yield f"{number} in all: 10 to 30 different ones teach much more"
    if num_used > _MANY:
        yield (
            f"{num_used:,} pictures in all: each is seen the less often."
            " The best 10 to 30 teach as much"
        )
    if num_copies and num_copies == num_used - 1:
        yield "all pictures are nearly the same: only that one can be learned"
    elif task != "style" and _are_of_one_moment(times, num_used):
        # (What shows a style may well be photographed at one go.)
        yield (
            f"{len(times)} of {num_used} pictures were taken within {_MOMENT_SECONDS // 60}"
            " minutes: their light, clothes and background will be learned with the subject."
            " Add pictures from other days and places"
        )


def _are_of_one_moment(times: list[float], num_used: int) -> bool:
    """Only if the pictures that tell their time are enough to speak for the others."""
    is_known = len(times) >= max(_MIN_DATED, num_used / 2)
    return is_known and max(times) - min(times) <= _MOMENT_SECONDS


def _reduce(image: Image.Image) -> Image.Image:
    """At most 512 pixels wide, cheaply; never enlarged, which would look like blur."""
    if image.width >= 2 * _LEAST_MEASURED_WIDTH:
        image = image.reduce(image.width // _LEAST_MEASURED_WIDTH)
    if image.width <= _MEASURED_WIDTH:
        return image
    height = max(1, round(image.height * _MEASURED_WIDTH / image.width))
    return image.resize((_MEASURED_WIDTH, height), Image.Resampling.BILINEAR)


def _laplacian_variance(grey: Image.Image) -> float:
    """Pech-Pacheco et al. 2000; a picture of fewer than 3 x 3 pixels has none."""
    levels = np.asarray(grey, dtype=np.int16)
    if min(levels.shape) < 3:
        return 0.0
    neighbours = levels[:-2, 1:-1] + levels[2:, 1:-1] + levels[1:-1, :-2] + levels[1:-1, 2:]
    return float((4 * levels[1:-1, 1:-1] - neighbours).var())


def _difference_hash(grey: Image.Image) -> int | None:
    """One bit for each of 8 x 8 fields: is it brighter than its neighbour to the left?"""
    fields = np.asarray(grey.resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    if np.ptp(fields) < _FLAT_LEVELS:
        return None
    bits = np.packbits(fields[:, 1:] > fields[:, :-1])
    return int.from_bytes(bits.tobytes(), "big")


def _pattern(grey: Image.Image) -> np.ndarray:
    """(1024,): its product with another picture's is how far the two correlate, at most 1."""
    fields = grey.resize((_PATTERN_FIELDS, _PATTERN_FIELDS), Image.Resampling.BOX)
    levels = np.asarray(fields, dtype=np.float32).ravel()
    levels = levels - levels.mean()
    return levels / max(float(np.linalg.norm(levels)), 1e-6)


def _find_faults(report: PhotoReport, look: Look, task: str) -> Iterator[str]:
    if look.sharpness < _BLURRY_BELOW:
        yield "blurry"
    if task == "face" and report.num_faces is not None and report.num_faces != 1:
        yield "several faces" if report.num_faces else "no face found"


def _judge_size(report: PhotoReport) -> Iterator[str]:
    # (511 pixels for 512 are none too few: "enlarged 1.0x" would say nothing.)
    if report.scale is not None and round(report.scale, 1) > 1:
        yield f"too small, enlarged {report.scale:.1f}x"


def _find_copies(looks: list[tuple[int, Look]]) -> dict[int, tuple[str, ...]]:
    """Position of a picture that repeats an earlier one -> the warning that says which."""
    warnings: dict[int, tuple[str, ...]] = {}
    firsts: dict[bytes, int] = {}
    others: list[tuple[int, Look]] = []
    for position, look in looks:
        first = firsts.setdefault(look.digest, position)
        if first != position:
            warnings[position] = (f"the same as {first}",)
        elif look.shape is not None:
            near = _first_near(look, others)
            if near is not None:
                warnings[position] = (f"nearly the same as {near}",)
            others.append((position, look))
    return warnings


def _first_near(look: Look, others: list[tuple[int, Look]]) -> int | None:
    return next((position for position, other in others if _are_near(look, other)), None)


def _are_near(one: Look, other: Look) -> bool:
    if one.shape is None or other.shape is None:
        return False
    has_shape = (one.shape ^ other.shape).bit_count() <= _NEAR_BITS
    return has_shape and float(one.pattern @ other.pattern) >= _NEAR_CORRELATION
