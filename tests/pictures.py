"""Real pictures and archives, made in memory."""

import base64
import io
import itertools
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

# 64 x 96 pixels, red above blue; made with pillow-heif, since what reads HEIC here cannot write it.
HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAVZtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAA"
    "AAAAAAAAACJpbG9jAAAAAERAAAEAAQAAAAABegABAAAAAAAAACkAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABo"
    "dmMxAAAAAA5waXRtAAAAAAABAAAA1mlwcnAAAAC3aXBjbwAAAHhodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEA"
    "GEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQArQgEBA3AAAAMAkAAAAwAAAwAeoCCBhZbqSSmubgIaDAgAAAMAyAAA"
    "AwAIQGIAAQAHRAHBcrAiQAAAABNjb2xybmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABAAAAAYAAAABBwaXhpAAAAAAMI"
    "CAgAAAAXaXBtYQAAAAAAAAABAAEEgQIDBAAAADFtZGF0AAAAJSgBr1j5DpJf/+ca//zZ+Q9zGmeOYan/qKYvqRSf6ohz"
    "am61rOA="
)
# The same, stored on its side with the note to turn it, as a phone does.
HEIC_SIDEWAYS = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAaFtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAA"
    "AAAAAAAAADRpbG9jAAAAAERAAAIAAQAAAAABxQABAAAAAAAAAEgAAgAAAAACDQABAAAAAAAAACQAAAA4aWluZgAAAAAA"
    "AgAAABVpbmZlAgAAAAABAABodmMxAAAAABVpbmZlAgAAAQACAABFeGlmAAAAAA5waXRtAAAAAAABAAAA4GlwcnAAAADA"
    "aXBjbwAAAHhodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQAr"
    "QgEBA3AAAAMAkAAAAwAAAwAeoDCBBZbqSSmubgIaDAgAAAMAyAAAAwAIQGIAAQAHRAHBcrAiQAAAABNjb2xybmNseAAB"
    "AA0ABoAAAAAUaXNwZQAAAAAAAABgAAAAQAAAABBwaXhpAAAAAAMICAgAAAAJaXJvdAMAAAAYaXBtYQAAAAAAAAABAAEF"
    "gQIDBIUAAAAaaXJlZgAAAAAAAAAOY2RzYwACAAEAAQAAAHRtZGF0AAAARCgBr1hgSB0kv//ONf/5s/Ie5th0bv+opi+p"
    "FJ/qhYiyxEkmkiIT3QA/MewxHHul60zLLxNrX1McWdWEidjulXVvKLrAAAAABkV4aWYAAE1NACoAAAAIAAEBEgADAAAA"
    "AQAGAAAAAAAA"
)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """RGB; every pixel differs, so that nothing can move unseen."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encode(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def photo(seed: int = 0) -> bytes:
    """A small JPEG photo, wider than tall."""
    return encode(noise(96, 72, seed), "JPEG")


def zip_of(*files: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in files:
            archive.writestr(zipfile.ZipInfo(name), data, compress_type=compression)
    return buffer.getvalue()


def write(folder: Path, data: bytes, name: str = "instance_data.zip") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def write_photos(folder: Path, seeds: Iterable[int]) -> Path:
    """A zip of photos 0.jpg, 1.jpg and so on, in `folder`."""
    return write(folder, zip_of(*((f"{seed}.jpg", photo(seed)) for seed in seeds)))


def display_p3() -> bytes:
    """A profile with Display P3's primaries: sRGB's own, with the three columns replaced."""
    columns = {
        b"rXYZ": (0.51512, 0.24120, -0.00105),
        b"gXYZ": (0.29198, 0.69225, 0.04189),
        b"bXYZ": (0.15710, 0.06657, 0.78407),
    }
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for number in range(struct.unpack(">I", profile[128:132])[0]):
        tag, start, _ = struct.unpack(">4sII", profile[132 + 12 * number :][:12])
        if tag in columns:
            values = struct.pack(">3i", *(round(65536 * value) for value in columns[tag]))
            profile = profile[: start + 8] + values + profile[start + 20 :]
    # so that its description does not say that it is sRGB
    return profile.replace("sRGB".encode("utf-16-be"), "Show".encode("utf-16-be"))


def claim_size(width: int, height: int) -> bytes:
    """A PNG whose header promises more pixels than it brings."""
    png = encode(noise(9, 9))
    header = b"IHDR" + struct.pack(">2I", width, height) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


def png_of_sixteen_bits(colour: tuple[int, int, int]) -> bytes:
    """64 x 64 pixels of one colour, each channel up to 65535; Pillow reads but cannot write it."""
    rows = 64 * (b"\0" + 64 * struct.pack(">3H", *colour))
    chunks = (
        (b"IHDR", struct.pack(">2I5B", 64, 64, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def swapped_cmyk() -> bytes:
    """A printer's profile (ICC.1, lut8Type) in which all ink is white, and no ink black."""
    table = b"".join(
        bytes((round(255 * sum(corner) / 4), 128, 128))  # L*, a*, b*
        for corner in itertools.product((0, 1), repeat=4)
    )
    identity = struct.pack(">9i", *(65536 * (place % 4 == 0) for place in range(9)))
    lut = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + identity + 4 * bytes(range(256)) + table
    lut += 3 * bytes(range(256))
    name = b"desc" + bytes(4) + struct.pack(">I", 8) + b"swapped\0" + bytes(79)
    tags = struct.pack(">I", 2) + struct.pack(">4s2I", b"desc", 156, len(name))
    tags += struct.pack(">4s2I", b"A2B0", 156 + len(name), len(lut))
    size = 156 + len(name) + len(lut)
    header = struct.pack(">I4sI4s4s4s", size, b"\0\0\0\0", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    header += bytes(12) + b"acsp" + bytes(28)
    header += struct.pack(">3i", 63190, 65536, 54061)  # D50
    return header.ljust(128, b"\0") + tags + name + lut
