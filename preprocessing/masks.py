"""Which pixels are worth learning: masks from an alpha channel or from a picture beside the photo.

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

_SHAPE_TOLERANCE = 0.02  # of the sides' ratio: editors round when they scale


def mask_from_alpha(image: Image.Image) -> Image.Image | None:
    """The opaque part of an upright picture, mode L, its size; None if it is opaque everywhere."""
    if not image.has_transparency_data:
        return None
    alpha = image.convert("RGBA").getchannel("A")
    least, _ = alpha.getextrema()
    return alpha if least != 255 else None


def mask_from_file(
    data: bytes, size: tuple[int, int], read: Callable[[bytes], Photo]
) -> Image.Image:
    """The bytes of a mask picture, white on the subject -> mode L, for a photo of this size.

    Args:
        data: any accepted format, of the photo's shape, also smaller or larger.
        size: width and height of the upright photo.
        read: decodes it, as `read_photo` does.

    Raises: PhotoError, if it cannot be decoded or has another shape than the photo.
    """
    try:
        mask = read(data)
    except PhotoError as error:
        raise PhotoError(f"its mask is unusable: {error}") from error
    ratio = (mask.size[0] * size[1]) / (mask.size[1] * size[0])
    if not 1 - _SHAPE_TOLERANCE <= ratio <= 1 + _SHAPE_TOLERANCE:
        raise PhotoError(
            f"its mask is {mask.size[0]} x {mask.size[1]} pixels, the picture"
            f" {size[0]} x {size[1]}. A mask must cover the whole picture, in the same shape."
        )
    return mask.image.convert("L")


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
