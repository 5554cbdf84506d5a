"""File names that read like sentences -> captions. Most do not, and a wrong caption harms."""

import re
from collections import Counter
from collections.abc import Sequence

from preprocessing.slots import has_slot

# Below this, names are titles and labels ("penguin-noto", "New York trip"), not descriptions.
_FEWEST_WORDS = 4
# What tells a sentence from a list of labels: one of these is in nearly every description.
_SMALL_WORD = re.compile(
    r"\b(?:a|an|the|and|or|of|in|on|at|by|with|without|from|to|for|near|under|over|behind|before"
    r"|beside|between|through|into|is|are|his|her|its|my|their|while|who)\b",
    re.IGNORECASE,
)
# Cameras, telephones, computers and shops of pictures put these in, not people.
_DEVICE_WORD = re.compile(
    r"\b(?:img|dsc|dscn|dscf|dji|pxl|mvimg|gopr|pano|burst|whatsapp|screenshot|screen|received"
    r"|signal|telegram|snapchat|instagram|facebook|fb|unsplash|pexels|pixabay|istock|shutterstock"
    r"|gettyimages|dreamstime|chatgpt|dalle|midjourney|copy|untitled|thumbnail|edited|iphone|ipad"
    r"|android|camera|images?|pictures?)\b",
    re.IGNORECASE,
)
_SEPARATORS = re.compile(r"[_\-\s]+")
_NUMBERING = "0123456789()"
_WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?[,.!]?")
_NAMING_WORD = re.compile(r"[A-Za-z]{2,}")
_LONGEST_NAME = 255  # bytes, of what file systems allow; longer ones cost time and were forged
_LONGEST_NUMBER = 2  # "2 dogs"; more digits are dates and counters
_VOWELS = re.compile(r"[aeiouyAEIOUY]")


def captions_from_names(stems: Sequence[str]) -> list[str]:
    """File names without ending, of all pictures of one archive -> a caption for each, or "".

    A name is a caption if it holds a place for the subject and something besides; or, where more
    than half of the names do so, if it reads like a sentence: four words or more, a small one such
    as "with" among them, and nothing that only machines write. But what more than half of the
    sentences name is the subject itself: beside that word the new one would learn little.
    """
    captions = [_without_number(stem) if len(stem) <= _LONGEST_NAME else "" for stem in stems]
    sentences = [caption if _is_sentence(caption) else "" for caption in captions]
    are_meant = 2 * sum(map(bool, sentences)) > len(stems)
    if not are_meant or _share_a_word([sentence for sentence in sentences if sentence]):
        sentences = [""] * len(stems)
    return [
        caption if _has_slot_and_words(caption) else sentence
        for caption, sentence in zip(captions, sentences, strict=True)
    ]


def _share_a_word(sentences: Sequence[str]) -> bool:
    """More than half of them do, small words apart; nobody can tell of a single one."""
    words = Counter(
        word
        for sentence in sentences
        for word in {match.casefold() for match in _NAMING_WORD.findall(sentence)}
        if not _SMALL_WORD.fullmatch(word)
    )
    return len(sentences) > 1 and any(2 * number > len(sentences) for number in words.values())


def _without_number(stem: str) -> str:
    """Words, with spaces between them; a second copy's "(2)" and a series' "12" left out.

    So is what led to the number: "at the party in 2019" is "at the party".
    """
    words = _SEPARATORS.sub(" ", stem).strip().split(" ")
    num_words = len(words)
    while words:
        words[-1] = words[-1].rstrip(_NUMBERING)
        if words[-1]:
            break
        words.pop()
    while words and len(words) < num_words and _SMALL_WORD.fullmatch(words[-1]):
        words.pop()
    return " ".join(words)


def _is_sentence(caption: str) -> bool:
    parts = caption.split(" ")
    words = [part for part in parts if not _is_short_number(part)]
    return (
        len(words) >= _FEWEST_WORDS
        and len(parts) - len(words) <= 1
        and all(_WORD.fullmatch(word) and _VOWELS.search(word) for word in words)
        and bool(_SMALL_WORD.search(caption))
        and not _DEVICE_WORD.search(caption)
    )


def _is_short_number(part: str) -> bool:
    return part.isdigit() and len(part) <= _LONGEST_NUMBER


def _has_slot_and_words(caption: str) -> bool:
    return has_slot(caption) and " " in caption
