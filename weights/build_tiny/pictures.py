"""Icons to pixels: fetch the pinned sets with npm, draw every wanted icon at 128 pixels."""

import io
import json
import logging
import shutil
import subprocess
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from weights.build_tiny.sets import HELD_OUT_CONCEPTS, HERE, ICON_SETS, IconSet, trained_concepts

logger = logging.getLogger(__name__)

PICTURE_SIZE = 128  # twice the model's size: crops and example archives want more
INK = "#222222"  # what a colourless set is drawn with
Pixels = npt.NDArray[np.uint8]  # RGBA
Image = npt.NDArray[np.float32]  # RGB in [0, 1]
Colour = tuple[float, float, float]  # in [0, 1]


@dataclass(frozen=True, kw_only=True)
class PictureName:
    """What is on a picture, and in whose style."""

    style: str
    concept: str


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One icon, still as vectors."""

    name: PictureName
    svg: str


def download_sets(work: Path) -> None:
    """node_modules in the work folder: exactly the versions and hashes of package-lock.json."""
    if (work / "node_modules" / "@iconify-json").is_dir():
        return
    for file_name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / file_name, work / file_name)
    subprocess.run(["npm", "ci", "--ignore-scripts"], cwd=work, check=True)


def find_icon(icons: dict[str, Any], concept: str) -> dict[str, Any] | None:
    """The icon of that name, through aliases."""
    aliases = icons.get("aliases", {})
    name = concept
    while name in aliases:
        name = aliases[name]["parent"]
    icon: dict[str, Any] | None = icons["icons"].get(name)
    return icon


def list_drawings(work: Path, icon_set: IconSet, concepts: tuple[str, ...]) -> list[Drawing]:
    """The set's icons of these concepts; a drawing that two names share is taken once."""
    path = work / "node_modules" / "@iconify-json" / icon_set.package / "icons.json"
    icons = json.loads(path.read_text(encoding="utf-8"))
    drawings: dict[str, Drawing] = {}
    for concept in concepts:
        icon = find_icon(icons, concept.replace("-", "") if icon_set.squeezes_names else concept)
        if icon is None or icon["body"] in drawings:
            continue
        width = icon.get("width", icons.get("width", 16))
        height = icon.get("height", icons.get("height", 16))
        corner = f"{icon.get('left', 0)} {icon.get('top', 0)}"
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
            f' viewBox="{corner} {width} {height}" width="{width}" height="{height}">'
            f"{icon['body'].replace('currentColor', INK)}</svg>"
        )
        name = PictureName(style=icon_set.style, concept=concept)
        drawings[icon["body"]] = Drawing(name=name, svg=svg)
    return list(drawings.values())


def draw(drawing: Drawing) -> Pixels:
    """(128, 128, 4) RGBA, the icon in the middle of a clear square."""
    import resvg_py  # only this stage needs it

    png = resvg_py.svg_to_bytes(
        svg_string=drawing.svg, width=PICTURE_SIZE, height=PICTURE_SIZE, skip_system_fonts=True
    )
    icon = PIL.Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    square = PIL.Image.new("RGBA", (PICTURE_SIZE, PICTURE_SIZE), (0, 0, 0, 0))
    icon.thumbnail(square.size)
    square.paste(icon, ((PICTURE_SIZE - icon.width) // 2, (PICTURE_SIZE - icon.height) // 2))
    return np.asarray(square)


def draw_pictures(work: Path, num_processes: int) -> None:
    """Every wanted icon of every set -> pictures.npy (n, 128, 128, 4) and pictures.json."""
    if (work / "pictures.json").exists():
        return
    concepts = (*trained_concepts(), *HELD_OUT_CONCEPTS)
    drawings = [d for icon_set in ICON_SETS for d in list_drawings(work, icon_set, concepts)]
    logger.info("pictures: drawing %d icons of %d concepts", len(drawings), len(concepts))
    with get_context("spawn").Pool(num_processes) as pool:
        pictures = pool.map(draw, drawings, chunksize=32)
    np.save(work / "pictures.npy", np.stack(pictures))
    names = [asdict(drawing.name) for drawing in drawings]
    (work / "pictures.json").write_text(json.dumps(names), encoding="utf-8")


def load_pictures(work: Path) -> tuple[list[PictureName], Pixels]:
    """What draw_pictures wrote: the names, and (n, 128, 128, 4) pixels read from disk as needed."""
    names = [PictureName(**name) for name in json.loads((work / "pictures.json").read_text())]
    return names, np.load(work / "pictures.npy", mmap_mode="r")


def place_on(picture: Pixels, colour: Colour) -> Image:
    """(h, w, 4) RGBA -> (h, w, 3) in [0, 1], on a plain background."""
    rgba = picture.astype(np.float32) / np.float32(255)
    alpha = rgba[..., 3:]
    return rgba[..., :3] * alpha + np.asarray(colour, dtype=np.float32) * (np.float32(1) - alpha)


def halve(image: Image) -> Image:
    """(h, w, 3) -> (h/2, w/2, 3), each pixel the mean of four."""
    corners = image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]
    return corners / np.float32(4)
