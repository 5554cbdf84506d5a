"""A set of pictures with a word of its own in every place where people leave words."""

import hashlib
import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

from PIL import Image, ImageCms, PngImagePlugin

from tests.pictures import encode, noise, photo, zip_of

_SYLLABLES = tuple(f"{consonant}{vowel}" for consonant in "bdfgklmnprstvz" for vowel in "aeiou")
_NUM_SYLLABLES = 6
_SRGB_NAME = "sRGB built-in"  # as LittleCMS, and so Pillow, names it
PLACES = (
    *("archive", "archive comment", "address folder", "address query", "folder", "picture"),
    *("sentence as a name", "text beside", "long text beside", "table", "lost row", "EXIF"),
    *("EXIF camera owner", "place of EXIF", "XMP", "JPEG comment", "ICC", "PNG text"),
    *("broken picture", "document", "text of the document", "inner archive", "prompts"),
    *("wrong prompts", "picture address", "picture query", "bad address", "value", "unknown input"),
)


def word(place: str) -> str:
    """Twelve letters that stand in no file of this repository: these tests build them."""
    assert place in PLACES
    digest = hashlib.sha256(place.encode()).digest()[:_NUM_SYLLABLES]
    return "".join(_SYLLABLES[byte % len(_SYLLABLES)] for byte in digest)


def words_in(data: bytes, places: Iterable[str] = PLACES) -> list[str]:
    """The places whose words stand there, in either case, in the encodings that files use."""
    lower = data.lower()
    return [
        place
        for place in places
        if any(word(place).encode(code) in lower for code in ("ascii", "utf-16-le", "utf-16-be"))
    ]


def words_below(folder: Path) -> dict[str, list[str]]:
    """Each path in the folder, seen from there -> the places whose words are in it or its name."""
    found = {}
    for path in folder.rglob("*"):
        contents = path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(folder))] = words_in(contents + path.name.encode())
    return {path: places for path, places in found.items() if places}


def telling_jpeg(seed: int) -> bytes:
    """With EXIF, XMP, a comment and a named profile."""
    exif = Image.Exif()
    exif[0x010E], exif[0x013B] = word("EXIF"), word("EXIF camera owner")
    exif.get_ifd(0x8825)[0x001C] = word("place of EXIF")
    name = word("ICC").ljust(len(_SRGB_NAME))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace(_SRGB_NAME.encode("utf-16-be"), name.encode("utf-16-be"))
    assert words_in(profile) == ["ICC"]
    return encode(
        noise(96, 72, seed),
        "JPEG",
        exif=exif,
        icc_profile=profile,
        comment=word("JPEG comment").encode(),
        xmp=f"<x:xmpmeta><dc:title>{word('XMP')}</dc:title></x:xmpmeta>".encode(),
    )


def telling_png() -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", word("PNG text"))
    return encode(noise(80, 80, 9), "PNG", pnginfo=text)


def telling_zip() -> bytes:
    """Five pictures that can be used, one that cannot, and what lies around them."""
    folder = word("folder")
    many_words = " ".join(f"{number} {word('long text beside')}s" for number in range(60))
    rows = ("file_name,text", f"third.jpg,{word('table')} {{}}", f"{word('lost row')}.jpg,lost")
    files = (
        (f"{folder}/{word('picture')}.jpg", telling_jpeg(0)),
        (f"{folder}/{word('picture')}.txt", f"{{}} beside a {word('text beside')}".encode()),
        (f"{folder}/second.jpg", telling_jpeg(1)),
        (f"{folder}/second.txt", f"{many_words} and {{}}".encode()),
        (f"{folder}/third.jpg", photo(2)),
        (f"{folder}/captions.csv", "\n".join(rows).encode()),
        (f"{folder}/{{}} with a {word('sentence as a name')} on the sofa.png", telling_png()),
        (f"{folder}/fifth.jpg", telling_jpeg(4)),
        (f"{folder}/{word('broken picture')}.jpg", photo(3)[:300]),
        (f"{folder}/{word('document')}.doc", word("text of the document").encode()),
        (f"{folder}/{word('inner archive')}.zip", zip_of((f"{folder}.jpg", photo(5)))),
    )
    buffer = io.BytesIO(zip_of(*files))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = word("archive comment").encode()
    return buffer.getvalue()
