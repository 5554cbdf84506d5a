"""Hypothesis strategies: pictures of every format and mode, odd, damaged, or no pictures at all."""

import struct
import warnings
from functools import cache

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from tests.bombs import png_of_many_chunks, tiff_of_one_tile
from tests.pictures import HEIC, HEIC_SIDEWAYS, claim_size, display_p3, encode, swapped_cmyk

MODES = {
    "JPEG": ("L", "RGB", "CMYK"),
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("L", "P"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"),
    "BMP": ("1", "L", "P", "RGB"),
    "JPEG2000": ("L", "LA", "RGB", "RGBA", "I;16"),
    "MPO": ("L", "RGB"),
}
ANIMATED = ("GIF", "WEBP", "PNG", "TIFF", "MPO")
OPTIONS: dict[str, tuple[dict[str, object], ...]] = {
    "JPEG": (
        {"progressive": True},
        {"subsampling": 0},
        {"quality": 1},
        {"restart_marker_blocks": 1},
    ),
    "PNG": ({"transparency": 0}, {"bits": 1}, {"compress_level": 0}),
    "GIF": ({"transparency": 0}, {"interlace": 1}),
    "TIFF": tuple(
        {"compression": name}
        for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "group4", "jpeg", "zstd")
    ),
    "JPEG2000": ({"no_jp2": True}, {"tile_size": (32, 32)}, {"num_resolutions": 1}),
    "WEBP": ({"lossless": True},),
}
SIDES = st.sampled_from((1, 2, 15, 16, 17, 63, 64, 65, 100, 257))
LONG_SIDES = st.sampled_from((1_000, 3_000, 9_000))

# What other kinds of files begin with, and what only looks like the beginning of a picture.
HEADS = (
    *(
        b"PK\x03\x04",
        b"PK\x05\x06",
        b"Rar!\x1a\x07",
        b"7z\xbc\xaf\x27\x1c",
        b"\x1f\x8b\x08",
        b"BZh9",
    ),
    *(b"%PDF-1.7", b"%!PS-Adobe-3.0 EPSF", b"8BPS", b"\xff\x0a", b"\x00\x00\x01\x00", b"<svg "),
    *(
        b"<!doctype html>",
        b"\x00\x00\x00\x18ftypmp42",
        b"\x00\x00\x00\x18ftypheic",
        b"BM",
        b"II*\0",
    ),
    *(
        b"\x00\x00\x00\x18ftypavif",
        b"\xff\xd8\xff\xe1",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"RIFFxxxxWEBP",
    ),
    *(b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51", b"MM\0+", b"\0" * 257 + b"ustar"),
)


@cache
def _pixels(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def _in_mode(mode: str, width: int, height: int) -> Image.Image:
    image = _pixels(width, height)
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    if mode in ("LA", "RGBA"):
        image = image.convert(mode)
        image.putalpha(_pixels(width, height).convert("L"))
        return image
    if mode == "LAB":
        return Image.frombytes("LAB", (width, height), image.tobytes())
    return image.convert(mode)


@cache
def _avifs() -> tuple[bytes, ...]:
    """Few and ordinary: what writes them crashes the process when it is asked for odd ones."""
    image, exif = _in_mode("RGB", 65, 100), Image.Exif()
    exif[0x0112] = 6
    return (
        encode(image, "AVIF"),
        encode(image, "AVIF", exif=exif, icc_profile=display_p3()),
        encode(_in_mode("RGBA", 65, 100), "AVIF"),
        encode(image, "AVIF", save_all=True, append_images=[image]),
    )


@st.composite
def exif_blocks(draw: st.DrawFn) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = draw(st.sampled_from((0, 1, 3, 6, 8, 9, 65535)))
    block = exif.tobytes()
    return draw(st.sampled_from((block, block[:-3], block[:14], b"Exif\0\0", b"Exif\0\0MM\0*")))


PROFILES = st.sampled_from(
    (display_p3(), display_p3()[:150], swapped_cmyk(), b"", b"nonsense", bytes(128))
)


@st.composite
def sound_pictures(draw: st.DrawFn) -> bytes:
    """What a program may well write, if an odd one."""
    format = draw(st.sampled_from((*MODES, "HEIC", "AVIF")))
    if format in ("HEIC", "AVIF"):
        return draw(st.sampled_from((HEIC, HEIC_SIDEWAYS, *_avifs())))
    width, height = draw(SIDES), draw(st.one_of(SIDES, SIDES, LONG_SIDES))
    if draw(st.booleans()):
        width, height = height, width
    image = _in_mode(draw(st.sampled_from(MODES[format])), width, height)
    options = dict(draw(st.sampled_from(({}, {}, *OPTIONS.get(format, ())))))
    if draw(st.booleans()):
        options["exif"] = draw(exif_blocks())
    if draw(st.booleans()):
        options["icc_profile"] = draw(PROFILES)
    if format in ANIMATED and draw(st.booleans()):
        options |= {"save_all": True, "append_images": [image] * draw(st.integers(1, 3))}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return encode(image, format, **options)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SystemError, struct.error):
        return encode(image.convert("RGB"), "PNG")  # no such mode with such an option


@st.composite
def damaged(draw: st.DrawFn, things: st.SearchStrategy[bytes]) -> bytes:
    """Cut off, overwritten, with bytes too many or too few, or joined to something else."""
    data = bytearray(draw(things))
    for _ in range(draw(st.integers(1, 4))):
        # Most of what a decoder can stumble over stands in the first bytes.
        last = draw(st.sampled_from((min(64, len(data)), min(1_000, len(data)), len(data))))
        place = draw(st.integers(0, last))
        some = draw(st.binary(max_size=8))
        how = draw(st.sampled_from(("cut", "overwrite", "overwrite", "insert", "remove", "fill")))
        if how == "cut":
            del data[place:]
        elif how == "overwrite":
            data[place : place + len(some)] = some
        elif how == "insert":
            data[place:place] = some
        elif how == "remove":
            del data[place : place + len(some)]
        else:
            data[place : place + 4] = draw(
                st.sampled_from((b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"))
            )
    return bytes(data)


def _beginnings() -> st.SearchStrategy[bytes]:
    return st.builds(lambda head, rest: head + rest, st.sampled_from(HEADS), st.binary(max_size=99))


def _liars() -> st.SearchStrategy[bytes]:
    return st.one_of(
        st.builds(claim_size, st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1)),
        st.builds(claim_size, st.integers(5_000, 10_001), st.integers(5_000, 10_001)),
        st.just(png_of_many_chunks(1_000)),
        st.just(tiff_of_one_tile(64, 500)),
    )


def pictures() -> st.SearchStrategy[bytes]:
    sound = sound_pictures()
    return st.one_of(sound, sound, damaged(sound), damaged(sound), _liars(), _beginnings())


def texts() -> st.SearchStrategy[bytes]:
    """Captions, tables and notes, in the encodings of all computers."""
    encodings = st.sampled_from(("utf-8", "utf-8-sig", "utf-16", "utf-32-le", "cp037", "utf-7"))
    words = st.one_of(
        st.text(max_size=60),
        st.sampled_from(("", "{}", "{} {} {", "TOK [trigger]", "\0", "\u202e\ufeff", "a" * 70_000)),
        st.sampled_from(('{"file_name": "1.jpg", "text": 7}', "{" * 500, "file,text\n1.jpg", '"')),
    )
    return st.one_of(
        st.builds(lambda text, encoding: text.encode(encoding, "replace"), words, encodings),
        st.binary(max_size=60),
    )
