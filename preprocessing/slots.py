"""The place in a sentence where the placeholder tokens go."""

import re

SLOT = "{}"

# How other trainers' users write it, and the words that our own files answer to.
_OTHER_SPELLINGS = re.compile(r"\[(?i:trigger)\]|\bTOK\b|<s1><s2>")


def has_slot(text: str) -> bool:
    return SLOT in text or bool(_OTHER_SPELLINGS.search(text))


def begins_with_slot(text: str) -> bool:
    return text.startswith(SLOT) or bool(_OTHER_SPELLINGS.match(text))


def with_slot(text: str) -> str:
    """The sentence with `{}` wherever it names the subject, or else in front."""
    text = _OTHER_SPELLINGS.sub(SLOT, text)
    return text if SLOT in text else f"{SLOT} {text}"
