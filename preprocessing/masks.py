"""Which pixels are worth learning: masks about a head, or as their owner drew them.

Until it is cropped, a mask may have any size of the photo's shape: it stands for the whole photo.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image

from preprocessing.crops import Box
from preprocessing.errors import PhotoError
from preprocessing.photos import Photo

# How much a pixel outside the subject counts, of one inside. The prior service's share, 0.34 of the
# error, so 0.12 of its square; kept above 0 because nothing else would hold the rest of the picture
# together, and because a mask that is nearly black would turn a few pixels into the whole lesson.
BACKGROUND_WEIGHT = 0.12
_LEAST_MARK = round(255 * BACKGROUND_WEIGHT) + 8  # of 255: up to here it is a soft edge's last bit

# The ellipse that holds a head with its hair, in heights of the face, which reaches from the middle
# of the forehead to the chin; from its edge on the mask fades until so many times as far out.
_HEAD_ABOVE_FACE = 0.2
_HALF_WIDTH, _HALF_HEIGHT = 0.7, 0.85
_FADED = 1.4

# What tells a picture from a mask. Colour photographs differ by 30 and more between channels; masks
# are black and white, or one colour on another, but for their edges.
_MAX_COLOUR_SPREAD = 20
_LEAST_SHARE_OF_TWO_TONES = 0.8
_MOST_OPAQUE = 127  # of 255, of the least opaque pixel, if transparency is what was drawn with
_JUDGED_SIZE = (128, 128)
_SHAPE_TOLERANCE = 0.02  # of the sides' ratio: editors round when they scale


def mask_of_head(face: Box, crop: Box, resolution: int) -> Image.Image:
    """The soft mask of a head with its hair, mode L, `resolution` pixels a side.

    Computed at the centres of the image's pixels in the photo: the picture's own geometry, exactly.

    Args:
        face: its box in the photo.
        crop: the part of the photo that the image shows.
    """
    height = face[3] - face[1]
    centre_x = (face[0] + face[2]) / 2
    centre_y = (face[1] + face[3]) / 2 - _HEAD_ABOVE_FACE * height
    pixel = (np.arange(resolution) + 0.5) / resolution
    x = crop[0] + pixel * (crop[2] - crop[0])
    y = crop[1] + pixel * (crop[3] - crop[1])
    distance = np.hypot(
        (x[None, :] - centre_x) / (_HALF_WIDTH * height),
        (y[:, None] - centre_y) / (_HALF_HEIGHT * height),
    )
    fade = ((_FADED - distance) / (_FADED - 1)).clip(0, 1)
    return _to_image(fade * fade * (3 - 2 * fade))  # smooth at both ends


class PictureNotMaskError(PhotoError):
    """What is named like a mask is a picture by itself."""


def mask_from_file(
    data: bytes, size: tuple[int, int] | None, read: Callable[[bytes], Photo]
) -> Image.Image:
    """The bytes of a mask picture, white on the subject -> mode L, for a photo of this size.

    Args:
        data: any accepted format, of the photo's shape, also smaller or larger.
        size: width and height of the upright photo; None if it cannot be read.
        read: decodes it, as `read_photo` does.

    Raises: PictureNotMaskError, if it is clearly coloured, or of another shape and not drawn in two
        tones; PhotoError, if it cannot be decoded or is a drawing of another shape.
    """
    try:
        mask = read(data)
    except PhotoError as error:
        raise PhotoError(f"its mask is not used: {error}") from error
    size = size or mask.size
    ratio = (mask.size[0] * size[1]) / (mask.size[1] * size[0])
    has_shape = 1 - _SHAPE_TOLERANCE <= ratio <= 1 + _SHAPE_TOLERANCE
    # Where a mask is transparent, it says so with its transparency: its colours were not meant.
    if has_shape and mask.alpha and np.asarray(mask.alpha).min() <= _MOST_OPAQUE:
        return mask.alpha
    colour_spread, share = _tones(mask.image)
    is_drawn = share >= _LEAST_SHARE_OF_TWO_TONES
    if colour_spread > _MAX_COLOUR_SPREAD and not is_drawn:
        raise PictureNotMaskError("named like a mask, but in colour: used as a picture")
    if not has_shape:
        sizes = f"{mask.size[0]} x {mask.size[1]} pixels, the picture {size[0]} x {size[1]}"
        if not is_drawn:
            raise PictureNotMaskError(f"named like a mask, but {sizes}: used as a picture")
        raise PhotoError(
            f"its mask is not used: {sizes}. A mask must cover the whole picture, in the same shape"
        )
    return mask.image.convert("L")


def _tones(image: Image.Image) -> tuple[float, float]:
    """Of an RGB image: mean difference of a pixel's highest and lowest channel, of 255; and the
    share of the two tones that fill most of it, each a sixteenth of every channel wide.
    """
    pixels = np.asarray(image.resize(_JUDGED_SIZE, Image.Resampling.NEAREST)).reshape(-1, 3)
    _, counts = np.unique(pixels // 16, axis=0, return_counts=True)
    return float(np.ptp(pixels, axis=1).mean()), float(np.sort(counts)[-2:].sum() / len(pixels))


def mass_along(mask: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Mode L -> (n,): how much is marked in each of its columns; in a tall photo, of its rows.

    `size`: width and height of the upright photo.
    """
    return np.asarray(mask).sum(axis=0 if size[0] > size[1] else 1, dtype=float)


def marks_nothing(mask: Image.Image) -> bool:
    """Of a mask as `crop_mask` gives it: all of it is background."""
    return bool(np.asarray(mask).max() <= _LEAST_MARK)


def crop_mask(mask: Image.Image, size: tuple[int, int], box: Box, resolution: int) -> Image.Image:
    """The mask under the part of a photo in `box`: mode L, `resolution` pixels a side.

    White is 255; black becomes `BACKGROUND_WEIGHT` of it.

    Args:
        mask: mode L, of the photo's shape.
        size: width and height of the upright photo, in whose pixels the box is.
    """
    horizontal, vertical = mask.width / size[0], mask.height / size[1]
    box = (box[0] * horizontal, box[1] * vertical, box[2] * horizontal, box[3] * vertical)
    # Bilinear: Lanczos would draw a bright and a dark seam along each edge.
    cropped = mask.resize((resolution, resolution), Image.Resampling.BILINEAR, box=box)
    return _to_image(np.asarray(cropped) / 255)


def _to_image(coverage: np.ndarray) -> Image.Image:
    """(h, w), from 0 to 1, how much a pixel belongs to the subject -> how much it counts."""
    weight = BACKGROUND_WEIGHT + (1 - BACKGROUND_WEIGHT) * coverage
    return Image.fromarray((255 * weight + 0.5).astype(np.uint8))
