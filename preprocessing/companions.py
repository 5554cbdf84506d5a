"""What lies beside a picture and belongs to it: a text of its name, a mask of its name, a table.

Names decide here, in the same folder and whatever their case, because a name is all that connects
one file with another. What a file is, its content decides (kinds.py).
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from preprocessing.entries import Entry, comparable

_TEXT_SUFFIXES = (".txt", ".caption")  # in this order, when a picture has both
_TABLE_NAME = re.compile(r"(?:metadata|captions?)\.(?:csv|jsonl)", re.IGNORECASE)
_MASK_ENDINGS = ("_mask", "-masklabel")

_NO_PICTURE = "a text, but no picture has its name. Name it like its picture, in the same folder."
_SEVERAL_TEXTS = "several texts have its name: one is used, .txt before .caption"
_SEVERAL_MASKS = "several masks have its name: one is used"
_LIKE_A_MASK = "named like a mask, but no picture has the rest of its name: used as a picture"


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """A file in an archive, of which only the first bytes were read.

    Attributes:
        problem: why it is no picture that can be used, or "".
        is_picture: it counts as one of the caller's pictures, usable or not.
        is_readable: nothing but what it is speaks against it.
    """

    entry: Entry
    problem: str
    is_picture: bool
    is_readable: bool


_Companions = dict[str, list[Sighting]]


@dataclass(frozen=True, kw_only=True)
class Group:
    """A picture with what belongs to it; or any other file, by itself.

    Attributes:
        problem: why nothing can be done with it, or "".
        text_of_mask: what lies beside its mask, which may turn out to be a picture by itself.
        remarks: what its owner may want to know.
    """

    sighting: Sighting
    problem: str
    text: Entry | None = None
    mask: Sighting | None = None
    text_of_mask: Entry | None = None
    remarks: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """As a table's row may name it: case does not matter."""
        return comparable(self.sighting.entry.name)

    @property
    def path_of_mask(self) -> str:
        """The same of its mask; "" without one."""
        return comparable(self.mask.entry.name) if self.mask else ""


def is_table(sighting: Sighting) -> bool:
    name = PurePosixPath(sighting.entry.name).name
    return bool(_TABLE_NAME.fullmatch(name)) and not sighting.is_picture


def group(sightings: Sequence[Sighting]) -> list[Group]:
    """The files, in order, each text and each mask with the pictures that it belongs to.

    A text without a picture stands by itself, and a mask without one is a picture.
    """
    masks = _masks(sightings)
    texts = _texts(sightings)
    beside = {id(s) for companions in (*masks.values(), *texts.values()) for s in companions}
    return [_group(sighting, texts, masks) for sighting in sightings if id(sighting) not in beside]


def _group(sighting: Sighting, texts: _Companions, masks: _Companions) -> Group:
    if not sighting.is_picture:
        is_text = sighting.entry.name.lower().endswith(_TEXT_SUFFIXES) and sighting.is_readable
        return Group(sighting=sighting, problem=_NO_PICTURE if is_text else sighting.problem)
    texts_of_picture = _texts_beside(sighting, texts)
    masks_of_picture = masks.get(_key(sighting.entry.name), [])
    mask = next(iter(masks_of_picture), None)
    remarks = (
        (_SEVERAL_TEXTS, len(texts_of_picture) > 1),
        (_SEVERAL_MASKS, len(masks_of_picture) > 1),
        (_LIKE_A_MASK, _key_of_masked(sighting.entry.name) is not None),
    )
    return Group(
        sighting=sighting,
        problem=sighting.problem,
        text=next((s.entry for s in texts_of_picture), None),
        mask=mask,
        text_of_mask=next((s.entry for s in _texts_beside(mask, texts)), None) if mask else None,
        remarks=tuple(remark for remark, is_so in remarks if is_so),
    )


def _texts_beside(picture: Sighting, texts: _Companions) -> list[Sighting]:
    """The one to be used first."""
    # "1.jpg.txt" before "1.txt": it leaves no doubt which of two pictures is meant.
    name = picture.entry.name
    return texts.get(comparable(name)) or texts.get(_key(name), [])


def _masks(sightings: Sequence[Sighting]) -> _Companions:
    """Each picture's masks by its key."""
    masks: _Companions = defaultdict(list)
    keys: set[str] = set()
    # Short names first: what is a mask itself has no masks.
    for sighting in sorted(sightings, key=lambda s: len(PurePosixPath(s.entry.name).stem)):
        if not sighting.is_picture:
            continue
        masked = _key_of_masked(sighting.entry.name)
        if masked in keys:
            masks[masked].append(sighting)
        else:
            keys.add(_key(sighting.entry.name))
    return masks


def _texts(sightings: Sequence[Sighting]) -> _Companions:
    """The texts beside each picture, masks too, by its key, the one to be used first."""
    names = {s.entry.name for s in sightings if s.is_picture}
    keys = {*map(_key, names), *map(comparable, names)}
    texts: _Companions = defaultdict(list)
    for suffix in _TEXT_SUFFIXES:
        for sighting in sightings:
            name = sighting.entry.name
            if name.lower().endswith(suffix) and not sighting.is_picture and _key(name) in keys:
                texts[_key(name)].append(sighting)
    return texts


def _key(name: str) -> str:
    """The same for a picture and for what belongs to it: "Beach/IMG_1.JPG" -> "beach/img_1"."""
    return comparable(str(PurePosixPath(name).with_suffix("")))


def _key_of_masked(name: str) -> str | None:
    """Of the picture that a mask belongs to; None for what is not named like a mask."""
    key = _key(name)
    ending = next((ending for ending in _MASK_ENDINGS if key.endswith(ending)), None)
    return key.removesuffix(ending) if ending else None
