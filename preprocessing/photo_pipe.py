"""A `Photo`, or why there is none, through a pipe: a line of JSON, then the pixels as they are."""

import json
from dataclasses import fields
from typing import IO, Any

from PIL import Image

from preprocessing.errors import PhotoError
from preprocessing.photos import Photo


def send_photo(pipe: IO[bytes], photo: Photo, seconds: float) -> None:
    """`seconds`: what it took to decode."""
    values = {field.name: getattr(photo, field.name) for field in fields(photo)}
    images = {name: value for name, value in values.items() if isinstance(value, Image.Image)}
    header = {
        "seconds": seconds,
        "images": [(name, image.mode, image.size) for name, image in images.items()],
        "values": {name: value for name, value in values.items() if name not in images},
    }
    pipe.write(json.dumps(header).encode() + b"\n")
    for image in images.values():
        pipe.write(image.tobytes())
    pipe.flush()


def send_problem(pipe: IO[bytes], problem: str, seconds: float) -> None:
    pipe.write(json.dumps({"seconds": seconds, "problem": problem}).encode() + b"\n")
    pipe.flush()


def receive_photo(pipe: IO[bytes]) -> tuple[Photo | PhotoError, float]:
    """What was sent, and the seconds. Raises: EOFError, if the other side ended before."""
    line = pipe.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    header = json.loads(line)
    if "problem" in header:
        return PhotoError(header["problem"]), header["seconds"]
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in header["values"].items()
    }
    for name, mode, size in header["images"]:
        values[name] = _receive_image(pipe, mode, tuple(size))
    return Photo(**values), header["seconds"]


def _receive_image(pipe: IO[bytes], mode: str, size: tuple[int, int]) -> Image.Image:
    image = Image.new(mode, size)
    num_bytes = len(mode) * size[0] * size[1]  # RGB or L
    pixels = pipe.read(num_bytes)
    if len(pixels) < num_bytes:
        raise EOFError
    image.frombytes(pixels)
    return image
