"""A photo -> the squares of it that could be trained on, each with its mask."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from preprocessing.crops import Box, crop_square
from preprocessing.errors import PhotoError
from preprocessing.faces.person import choose_person
from preprocessing.masks import crop_mask, mask_from_file
from preprocessing.photos import Photo, resize


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One square of a photo.

    Attributes:
        crop: in pixels of the upright photo.
        image, mask: as in `Example`.
        description: the 128 numbers of the face that it shows; None if it shows none.
    """

    crop: Box
    image: Image.Image
    mask: Image.Image | None
    description: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Cuts:
    """What of a photo could be trained on.

    Attributes:
        photo: as it is to be reported: a photo that lay on its side was turned.
        cuts: at least one, the likeliest first.
        num_faces: how many were found; None if none were looked for.
        warnings: as in `PhotoReport`.
    """

    photo: Photo
    cuts: tuple[Cut, ...]
    num_faces: int | None = None
    warnings: tuple[str, ...] = ()


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


def choose_cuts(
    photos: Sequence[tuple[Cut, ...]],
) -> tuple[tuple[Cut | None, tuple[str, ...]], ...]:
    """Of each photo's cuts the one to train on, and warnings; None if it has none.

    A set of faces is about one person: the one who appears in most photos.
    """
    descriptions = [
        tuple(cut.description for cut in cuts if cut.description is not None) for cuts in photos
    ]
    chosen: list[tuple[Cut | None, tuple[str, ...]]] = []
    for cuts, choice in zip(photos, choose_person(descriptions), strict=True):
        if choice is None:
            chosen.append((cuts[0] if cuts else None, ()))
        else:
            warnings = () if choice.is_alike else ("not the face of most pictures",)
            chosen.append((cuts[choice.index], warnings))
    return tuple(chosen)
