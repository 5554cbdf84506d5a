"""A photo -> the squares of it that could be trained on, each with its mask."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from preprocessing.crops import Box, crop_about_mass, crop_square
from preprocessing.errors import PhotoError
from preprocessing.faces.person import Choice, choose_person
from preprocessing.masks import PictureNotMaskError, crop_mask, mask_from_file, mass_along
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


@dataclass(frozen=True, kw_only=True)
class OwnMask:
    """What its owner wants to be learned of a photo.

    Attributes:
        mask: mode L, of the photo's shape; None if nothing was said.
        remark: where it comes from, in words; "" if from nowhere.
        warning: why the file beside it is not used as its mask; "" if it is, or if there is none.
        is_picture: that file is a picture by itself, and the warning is to be told of that one.
    """

    mask: Image.Image | None
    remark: str = ""
    warning: str = ""
    is_picture: bool = False


def read_mask(photo: Photo | None, beside: bytes, read: Callable[[bytes], Photo]) -> OwnMask:
    """A mask picture beside the photo (`beside`, its bytes), or else the photo's transparency.

    Who draws one has looked at the photo as it is. `read` decodes it. Without a photo, as it cannot
    be used, what is beside it may still be a picture by itself.
    """
    alpha = photo.alpha if photo else None
    found = OwnMask(mask=alpha, remark="its transparency is its mask" if alpha else "")
    if not beside:
        return found
    try:
        mask = mask_from_file(beside, photo.size if photo else None, read)
    except PhotoError as error:
        is_picture = isinstance(error, PictureNotMaskError)
        return replace(found, warning=str(error).rstrip("."), is_picture=is_picture)
    return OwnMask(mask=mask, remark="with its own mask")


def cut_square(photo: Photo, mask: Image.Image | None, resolution: int) -> Cut:
    """The largest square: as `crop_square` places it, or where the mask marks something."""
    crop = (
        crop_about_mass(photo.size, mass_along(mask, photo.size))
        if mask
        else crop_square(photo.size)
    )
    return Cut(
        crop=crop,
        image=resize(photo, crop, resolution),
        mask=crop_mask(mask, photo.size, crop, resolution) if mask else None,
    )


def choose_cuts(
    photos: Sequence[tuple[Cut, ...]],
) -> tuple[tuple[tuple[Cut | None, tuple[str, ...]], ...], tuple[str, ...]]:
    """Of each photo's cuts the one to train on, and warnings; then warnings about the set.

    None for a photo without cuts. A set of faces is about one person: the one who appears in most
    photos. If nobody does, that is said once, and no photo is blamed.
    """
    descriptions = [
        tuple(cut.description for cut in cuts if cut.description is not None) for cuts in photos
    ]
    choices = choose_person(descriptions)
    about_set = _judge_choices(choices)
    chosen: list[tuple[Cut | None, tuple[str, ...]]] = []
    for cuts, choice in zip(photos, choices, strict=True):
        if choice is None:
            chosen.append((cuts[0] if cuts else None, ()))
        else:
            is_told = not choice.is_alike and not about_set
            warnings = ("not the face of most pictures",) if is_told else ()
            chosen.append((cuts[choice.index], warnings))
    return tuple(chosen), about_set


def _judge_choices(choices: Sequence[Choice | None]) -> tuple[str, ...]:
    are_alike = [choice.is_alike for choice in choices if choice is not None]
    num_alike = sum(are_alike)
    if not are_alike or num_alike > len(are_alike) / 2:
        return ()
    return (
        f"nobody is recognised in more than {num_alike} of the {len(are_alike)} pictures that show"
        " a face: send pictures of one person, or larger and clearer ones",
    )
