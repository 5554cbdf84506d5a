"""What every format says of a LoRA in its metadata: strings that every reader passes over.

The embeddings stand there whole, so that one file of any format is enough for `load` and for every
conversion; and so does the origin.
"""

import base64
import json
import math
import re
from dataclasses import asdict, fields
from typing import Any, get_args

import torch
from torch import Tensor

from training.formats.errors import FormatError
from training.origin import UNKNOWN, Origin
from training.trained_lora import TrainedLora

EMBEDDINGS = "vana.embeddings"
ORIGIN = "vana.origin"
TRIGGER = "vana.trigger"
HASH = "vana.hash_sha256"  # of the tensors' bytes, as kohya's programs compute it

# A terminal obeys them, or no file can hold them.
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_MAX_WIDTH = 8192  # of an embedding; the largest CLIP's is 1280
_MAX_TOKENS = 1000


def common_metadata(lora: TrainedLora) -> dict[str, str]:
    """Tokens, origin and trigger words, for every format."""
    known = {name: value for name, value in asdict(lora.origin).items() if value is not None}
    metadata = {ORIGIN: _dump(known)} if known else {}
    if lora.embeddings:
        metadata[EMBEDDINGS] = _dump(
            {token: _pack(row) for token, row in lora.embeddings.items()}, sort=False
        )
        metadata[TRIGGER] = trigger_words(lora)
    return metadata


def trigger_words(lora: TrainedLora) -> str:
    """What to write where the subject's name would stand."""
    return "".join(lora.embeddings)


def read_embeddings(metadata: dict[str, str]) -> dict[str, Tensor] | None:
    """token -> (width,) float32, in the order written; None if the metadata holds none.

    Raises: FormatError.
    """
    if EMBEDDINGS not in metadata:
        return None
    packed = _load(metadata, EMBEDDINGS)
    if len(packed) > _MAX_TOKENS:
        raise FormatError(f"The file holds {len(packed)} words; at most {_MAX_TOKENS} are read.")
    return {token: _unpack(token, value) for token, value in packed.items()}


def read_origin(metadata: dict[str, str]) -> Origin:
    """Raises: FormatError."""
    if ORIGIN not in metadata:
        return UNKNOWN
    facts = _load(metadata, ORIGIN)
    kinds = {field.name: get_args(field.type) for field in fields(Origin)}
    values = {name: facts.get(name) for name in kinds}
    for name, value in values.items():
        if not _is_fact(value, kinds[name]):
            found = repr(value)[:60]
            raise FormatError(f"The file's metadata is damaged: {ORIGIN} says {name} is {found}.")
    return Origin(**values)


def _is_fact(value: object, kinds: tuple[type, ...]) -> bool:
    """Of a kind that Origin has there, and such as can be printed and written again."""
    match value:
        case str():
            return str in kinds and not _UNSEEN.search(value)
        case float():
            return float in kinds and math.isfinite(value)
        case int() if not isinstance(value, bool):
            return int in kinds or float in kinds
        case _:
            return value is None


def _dump(value: object, *, sort: bool = True) -> str:
    return json.dumps(value, sort_keys=sort, separators=(",", ":"))


def _load(metadata: dict[str, str], name: str) -> dict[str, Any]:
    try:
        value = json.loads(metadata[name])
    except (ValueError, RecursionError) as error:
        raise FormatError(f"The file's metadata is damaged: {name} is no JSON.") from error
    if not isinstance(value, dict):
        raise FormatError(f"The file's metadata is damaged: {name} is no JSON object.")
    return value


def _pack(row: Tensor) -> dict[str, object]:
    array = row.detach().cpu().float().numpy().astype("<f4")
    data = base64.b64encode(array.tobytes()).decode("ascii")
    return {"dtype": "F32", "shape": list(array.shape), "data": data}


def _unpack(token: str, packed: object) -> Tensor:
    damaged = FormatError(f"The file's metadata is damaged: the word {token[:40]!r} has no vector.")
    match packed:
        case {"dtype": "F32", "shape": [int(width)], "data": str(text)} if (
            not isinstance(width, bool) and 0 < width <= _MAX_WIDTH
        ):
            try:
                data = base64.b64decode(text, validate=True)
            except ValueError as error:
                raise damaged from error
            if len(data) != 4 * width:
                raise damaged
            row = torch.frombuffer(bytearray(data), dtype=torch.float32).clone()
            if not row.isfinite().all():
                raise damaged
            return row
        case _:
            raise damaged
