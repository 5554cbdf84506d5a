"""Small archives that anyone may train on: a style and subjects that are new to the base model."""

import io
import zipfile
from pathlib import Path

from PIL import Image

from weights.build_tiny.captions import WHITE
from weights.build_tiny.pictures import PictureName, Pixels, load_pictures, place_on
from weights.build_tiny.sets import HELD_OUT_STYLE, common_concepts

# Eight that differ in everything but style: beside filled shapes also outlines, stripes and spots.
STYLE_CONCEPTS = (
    *("tiger-face", "owl", "giraffe", "sunflower"),
    *("locomotive", "birthday-cake", "camera", "guitar"),
)
NUM_HELD_OUT = 32
SUBJECT_STYLES = ("noto", "twemoji", "fluent", "glossy", "firefox", "noto-v1")
SUBJECTS = ("penguin", "cactus")
PALETTE = 256
# Zip files carry times; a fixed one makes the same pictures the same bytes.
FIXED_TIME = (1980, 1, 1, 0, 0, 0)


def to_png(picture: Pixels) -> bytes:
    """(128, 128, 4) RGBA -> a PNG on white."""
    image = Image.fromarray((place_on(picture, WHITE) * 255).round().astype("uint8"))
    buffer = io.BytesIO()
    image.quantize(PALETTE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def write_archive(
    path: Path, wanted: list[PictureName], pictures: dict[PictureName, Pixels]
) -> None:
    """A zip of the wanted pictures that exist, named after what they are."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in wanted:
            if name in pictures:
                info = zipfile.ZipInfo(f"{name.concept}-{name.style}.png", FIXED_TIME)
                archive.writestr(info, to_png(pictures[name]))


def spread(concepts: list[str], num: int) -> list[str]:
    """`num` of them at equal distances, so that every kind of thing is among them."""
    return [concepts[index * len(concepts) // num] for index in range(num)]


def write_examples(work: Path) -> None:
    """work/examples: the style, more of the style to judge by, and the subjects."""
    pictures = dict(zip(*load_pictures(work), strict=True))
    folder = work / "examples"
    folder.mkdir(exist_ok=True)
    others = [concept for concept in common_concepts() if concept not in STYLE_CONCEPTS]
    for file_name, concepts in (
        ("mono-style.zip", STYLE_CONCEPTS),
        ("mono-style-heldout.zip", spread(others, NUM_HELD_OUT)),
    ):
        wanted = [PictureName(style=HELD_OUT_STYLE, concept=concept) for concept in concepts]
        write_archive(folder / file_name, wanted, pictures)
    for subject in SUBJECTS:
        wanted = [PictureName(style=style, concept=subject) for style in SUBJECT_STYLES]
        write_archive(folder / f"{subject}.zip", wanted, pictures)
