"""Real photographs, which scikit-image ships."""

from pathlib import Path

import skimage
from PIL import Image

FOLDER = Path(skimage.__file__).parent / "data"

# Where the faces are, measured by eye with a ruler: forehead to chin, cheek to cheek, in pixels.
ASTRONAUT_FACE = (182, 65, 266, 172)
CAMERAMAN_FACE = (200, 118, 256, 197)


def photograph(name: str) -> Image.Image:
    return Image.open(FOLDER / name).convert("RGB")


def astronaut() -> Image.Image:
    """512 x 512: one woman in the upper middle, smiling at the camera."""
    return photograph("astronaut.png")


def cameraman() -> Image.Image:
    """512 x 512: one man in half profile, grey."""
    return photograph("camera.png")


def side_by_side(*images: Image.Image) -> Image.Image:
    sheet = Image.new("RGB", (sum(image.width for image in images), images[0].height), "grey")
    left = 0
    for image in images:
        sheet.paste(image, (left, 0))
        left += image.width
    return sheet
