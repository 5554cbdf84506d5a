"""What is read from the bytes of a photo, for training at 64 pixels."""

import numpy as np
from PIL import Image

from preprocessing.photos import read_photo


def pixels_of(data: bytes) -> np.ndarray:
    """(h, w, 3)."""
    image = read_photo(data, 64).image
    assert image.mode == "RGB"
    return np.asarray(image)


def remarks_on(data: bytes) -> tuple[str, ...]:
    return read_photo(data, 64).remarks


def plain(colour: tuple[int, ...] | int, mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (64, 64), colour)
