"""Make the pictures of docs/pictures.md: `.venv/bin/python -m docs.make_pictures`.

From scikit-image's photographs, which their makers put into the public domain; see the page.
"""

import io
import logging
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import skimage
from PIL import Image, ImageDraw, ImageFilter

from cli.inspect import main

PHOTOGRAPHS = Path(skimage.__file__).parent / "data"
IMAGES = Path(__file__).parent / "images"
RESOLUTION = 128


def make_pictures() -> None:
    """The tables go to standard output, the sheets into docs/images."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    for task, files in (("face", face_set()), ("object", object_set())):
        with tempfile.TemporaryDirectory() as folder:
            archive, out = Path(folder) / "pictures.zip", Path(folder) / "seen"
            with zipfile.ZipFile(archive, "w") as pictures:
                for name, data in files.items():
                    pictures.writestr(name, data)
            typed = (archive, "--task", task, "--resolution", RESOLUTION, "--out", out)
            assert main([str(word) for word in typed]) == 0
            with Image.open(out.with_name("seen.pictures.png")) as sheet:
                # 256 colours: a third of the bytes, and hardly a difference
                small = sheet.quantize(256)
        small.save(IMAGES / f"pictures-{task}.png", optimize=True)


def face_set() -> Mapping[str, bytes]:
    """What people send when a face is asked for, good and bad."""
    astronaut, camera = photograph("astronaut.png"), photograph("camera.png")
    both = Image.new("RGB", (1024, 512))
    both.paste(camera, (0, 0))
    both.paste(astronaut, (512, 0))
    return {
        "1.jpg": jpeg(astronaut),
        "2.jpg": jpeg(astronaut.crop((60, 10, 330, 510))),
        "3.jpg": jpeg(astronaut.crop((170, 20, 280, 200))),
        "4.jpg": jpeg(both),
        "5.jpg": jpeg(astronaut.resize((300, 300)), quality=30),
        "6.jpg": jpeg(astronaut.filter(ImageFilter.GaussianBlur(5))),
        "7.jpg": jpeg(photograph("chelsea.png")),
        "8.jpg": jpeg(astronaut)[:9_000],
    }


def object_set() -> Mapping[str, bytes]:
    """The same of an object; the second picture has a mask beside it, the last a caption."""
    cup = photograph("coffee.png")
    mask = Image.new("L", cup.size)
    ImageDraw.Draw(mask).ellipse((170, 10, 430, 290), fill=255)
    return {
        "1.jpg": jpeg(cup),
        "2.jpg": jpeg(cup.rotate(8, expand=False).crop((30, 30, 570, 370))),
        "2_mask.png": png(mask.rotate(8).crop((30, 30, 570, 370))),
        "3.jpg": jpeg(cup.crop((130, 0, 430, 400))),
        "4.jpg": jpeg(cup.crop((180, 20, 450, 200)).resize((90, 60))),
        "4.txt": b"a close-up of {}, seen from above",
    }


def photograph(name: str) -> Image.Image:
    return Image.open(PHOTOGRAPHS / name).convert("RGB")


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


if __name__ == "__main__":
    make_pictures()
