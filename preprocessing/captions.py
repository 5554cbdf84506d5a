"""Sentences that came with the pictures: in texts beside them, in a table, or as their names."""

import unicodedata
from dataclasses import dataclass

from preprocessing.errors import PictureError
from preprocessing.limits import MAX_PROMPT_CHARACTERS

TEXT_FILE, TABLE, FILE_NAME = "text file", "table", "file name"

_BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, kw_only=True)
class Caption:
    """What its owner wrote about a photo.

    Attributes:
        text: one line, not empty, as it was written; with or without a place for the subject.
        source: TEXT_FILE, TABLE or FILE_NAME.
    """

    text: str
    source: str


class CaptionError(PictureError):
    """A text or table that was meant as captions, and cannot be."""


def read_caption(data: bytes) -> str:
    """The bytes of a text beside a picture -> its first line that is not empty.

    Raises: CaptionError, if there is none.
    """
    for line in decode(data).splitlines():
        if text := clean_text(line):
            return text
    raise CaptionError("it is empty")


def clean_text(text: str) -> str:
    """In one line, without what no tokenizer can read, and not endless."""
    readable = " ".join("".join(filter(_is_readable, text)).split())
    if len(readable) <= MAX_PROMPT_CHARACTERS:
        return readable
    return readable[:MAX_PROMPT_CHARACTERS].rpartition(" ")[0] or readable[:MAX_PROMPT_CHARACTERS]


def _is_readable(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) not in ("Cc", "Cs")


def decode(data: bytes) -> str:
    """A text in UTF-8, UTF-16 with its mark, or as Windows wrote it. Never fails."""
    if data.startswith(_BYTE_ORDER_MARKS):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")
