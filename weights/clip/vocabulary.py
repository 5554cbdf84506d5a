"""CLIP's tokenizer, as the two files that transformers reads, from its list of merges."""

import json
import shutil
from pathlib import Path

MERGES = Path(__file__).parent / "merges.txt"
SPECIAL_TOKENS = ("<|startoftext|>", "<|endoftext|>")
END_OF_WORD = "</w>"


def write_vocabulary(folder: Path) -> None:
    """Write `merges.txt` and `vocab.json`, byte for byte as the hub has them."""
    shutil.copyfile(MERGES, folder / "merges.txt")
    ids = {token: number for number, token in enumerate(tokens())}
    text = json.dumps(ids, ensure_ascii=False, indent=2, sort_keys=True) + "\n"
    (folder / "vocab.json").write_text(text, encoding="utf-8")


def tokens() -> list[str]:
    """In the order of their ids: bytes, bytes at the end of a word, merges, the special tokens."""
    characters = byte_characters()
    merges = MERGES.read_text(encoding="utf-8").splitlines()[1:]  # the first line is a version
    return [
        *characters,
        *(character + END_OF_WORD for character in characters),
        *(merge.replace(" ", "") for merge in merges),
        *SPECIAL_TOKENS,
    ]


def byte_characters() -> list[str]:
    """One visible character for each byte: itself where it has one, else one from 256 on."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(byte) for byte in visible] + [chr(256 + n) for n in range(256 - len(visible))]
