"""Which square of a photo is trained on: geometry only, no pixels."""

import numpy as np

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels of the upright photo

_ENOUGH_OF_MASS = 0.98  # of the most that a square can show: the rest is a soft edge
_TALL_CROP_CENTRE = 0.4  # of what is cut off a tall photo: heads are nearer to the top

# In heights of the face, which reaches from the middle of the forehead to the chin.
_SIDE_ABOUT_FACE = 3.0  # the face fills a third of the square: large enough for its details
_FACE_ABOVE_CENTRE = 0.15  # as in portraits: neck and shoulders need more room than hair
_HAIR, _CHIN = 0.5, 0.1  # what to keep above and below the face when there is no room for more
# For variety each third photo keeps its surroundings, unless its face would be so small a share of
# the side: 96 of 512 pixels, the least that holds an eye in more than one of the VAE's latents.
_WIDE_EVERY = 3
_LEAST_SHARE_IN_WIDE = 96 / 512


def crop_square(size: tuple[int, int]) -> Box:
    """Width and height -> the largest square: centred, in tall photos nearer to the top."""
    width, height = size
    side = min(size)
    left = (width - side) // 2
    top = int((height - side) * _TALL_CROP_CENTRE)
    return (left, top, left + side, top + side)


def crop_about_mass(size: tuple[int, int], mass: np.ndarray) -> Box:
    """The largest square that shows what is marked: as `crop_square` if that does, else about it.

    Args:
        mass: (n,), how much is marked in each of n equal slices of the longer side, from its start.
    """
    default = crop_square(size)
    side, longer = min(size), max(size)
    total = np.concatenate([[0.0], np.cumsum(mass, dtype=float)])
    slices = np.linspace(0, longer, len(total))

    def shown(start: np.ndarray | float) -> np.ndarray:
        return np.interp(np.add(start, side), slices, total) - np.interp(start, slices, total)

    starts = np.arange(longer - side + 1)
    shown_from = shown(starts)
    enough = _ENOUGH_OF_MASS * shown_from.max()
    is_wide = size[0] > size[1]
    if shown(default[0] if is_wide else default[1]) >= enough:
        return default
    centres = (slices[:-1] + slices[1:]) / 2
    centred = round(float((centres * mass).sum() / total[-1] - side / 2))
    centred = min(max(centred, 0), longer - side)
    # Of things far apart the middle may show none.
    start = centred if shown_from[centred] >= enough else int(shown_from.argmax())
    return (start, 0, start + side, side) if is_wide else (0, start, side, start + side)


def crop_around_face(size: tuple[int, int], face: Box, resolution: int, position: int) -> Box:
    """Width and height, and the box of a face in there -> a square with the whole head.

    Never smaller than `resolution`, which would enlarge it, while the photo has the pixels.

    Args:
        resolution: the training images' pixels a side.
        position: of the photo in its set: each third shows more than the head.
    """
    left, top, right, bottom = face
    height = bottom - top
    largest = min(size)
    side = min(max(round(_SIDE_ABOUT_FACE * height), resolution), largest)
    if position % _WIDE_EVERY == 0 and height >= _LEAST_SHARE_IN_WIDE * largest:
        side = largest
    crop_left = (left + right - side) / 2
    crop_top = (top + bottom - side) / 2 + _FACE_ABOVE_CENTRE * height
    crop_top = min(crop_top, top - _HAIR * height)
    crop_top = max(crop_top, bottom + _CHIN * height - side)  # if one must go, then hair
    crop_top = min(crop_top, top)
    crop_left = min(max(round(crop_left), 0), size[0] - side)
    crop_top = min(max(round(crop_top), 0), size[1] - side)
    return (crop_left, crop_top, crop_left + side, crop_top + side)
