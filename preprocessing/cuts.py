"""A photo -> the squares of it that could be trained on, each with its mask."""

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from preprocessing.crops import Box, crop_square
from preprocessing.errors import PhotoError
from preprocessing.masks import crop_mask, mask_from_file
from preprocessing.photos import Photo, resize


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One square of a photo.

    Attributes:
        crop: in pixels of the upright photo.
        image, mask: as in `Example`.
    """

    crop: Box
    image: Image.Image
    mask: Image.Image | None


def read_mask(
    photo: Photo, beside: bytes, read: Callable[[bytes], Photo]
) -> tuple[Image.Image | None, str]:
    """What its owner wants to be learned of a photo, mode L, of its shape; and a remark.

    A mask picture beside the photo (`beside`, its bytes) goes before the photo's transparency: who
    draws one has looked at the photo as it is. `read` decodes it.
    """
    problem = ""
    if beside:
        try:
            return mask_from_file(beside, photo.size, read), "with its own mask"
        except PhotoError as error:
            problem = str(error).rstrip(".")
    if photo.alpha:
        transparency = "its transparency is its mask"
        return photo.alpha, f"{problem}, {transparency}" if problem else transparency
    return None, problem


def cut_square(photo: Photo, mask: Image.Image | None, resolution: int) -> Cut:
    """The largest square, as `crop_square` places it."""
    crop = crop_square(photo.size)
    return Cut(
        crop=crop,
        image=resize(photo, crop, resolution),
        mask=crop_mask(mask, photo.size, crop, resolution) if mask else None,
    )
