"""A small vocabulary in CLIP's format: byte pair merges learned from the words of the captions."""

import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

from weights.build_tiny.captions import (
    BACKGROUND_COLOURS,
    EVERYDAY_NAMES,
    PLAIN_TEMPLATES,
    STYLE_TEMPLATES,
)
from weights.build_tiny.models import load_tokenizer
from weights.build_tiny.sets import HELD_OUT_CONCEPTS, ICON_SETS, trained_concepts

VOCABULARY_SIZE = 3072
SPECIAL_TOKENS = ("<|startoftext|>", "<|endoftext|>")
END_OF_WORD = "</w>"
FREQUENT = 30  # how often a template's word counts: it shall be one token
# What people write about pictures of their own; not in our captions, but worth a token.
MORE_WORDS = (
    "photo picture painting drawing cartoon illustration rendering sketch subject object person"
    " man woman face animal toy texture pattern emoji small big cute nice clean dark bright white"
)

Word = tuple[str, ...]  # a word as the pieces it is made of, the last one with END_OF_WORD


def byte_characters() -> tuple[str, ...]:
    """One printable character for each byte, in CLIP's order: they can write any text."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return tuple(chr(byte) for byte in printable) + tuple(chr(256 + i) for i in range(len(others)))


def count_words() -> Counter[str]:
    """The words of our captions, and how much each one counts."""
    counts: Counter[str] = Counter()
    for concept in (*trained_concepts(), *HELD_OUT_CONCEPTS):
        counts.update(concept.split("-"))
    templates = (*PLAIN_TEMPLATES, *STYLE_TEMPLATES, *EVERYDAY_NAMES.values())
    styles = (icon_set.style for icon_set in ICON_SETS)
    frequent = " ".join((*templates, *styles, *BACKGROUND_COLOURS, "background", MORE_WORDS))
    for word in re.findall("[a-z]+", frequent):
        counts[word] += FREQUENT
    return counts


def merge_pair(word: Word, pair: tuple[str, str]) -> Word:
    """("c", "a", "t</w>") with the pair ("c", "a") -> ("ca", "t</w>")."""
    merged: list[str] = []
    for piece in word:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return tuple(merged)


def learn_merges(counts: Counter[str], num_merges: int) -> list[tuple[str, str]]:
    """Byte pair encoding: join the most frequent neighbours, again and again."""
    words = {(*word[:-1], word[-1] + END_OF_WORD): count for word, count in counts.items()}
    merges: list[tuple[str, str]] = []
    while len(merges) < num_merges:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, count in words.items():
            for pair in pairwise(word):
                pairs[pair] += count
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        words = {merge_pair(word, best): count for word, count in words.items()}
    return merges


def write_tokenizer(folder: Path) -> None:
    """vocab.json and merges.txt, and what transformers writes beside them."""
    if (folder / "tokenizer.json").exists():
        return
    letters = byte_characters()
    tokens = [*letters, *(letter + END_OF_WORD for letter in letters)]
    merges = learn_merges(count_words(), VOCABULARY_SIZE - len(tokens) - len(SPECIAL_TOKENS))
    # Two different pairs can join to the same token.
    tokens = list(dict.fromkeys([*tokens, *("".join(pair) for pair in merges), *SPECIAL_TOKENS]))
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: i for i, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    load_tokenizer(folder).save_pretrained(folder)
