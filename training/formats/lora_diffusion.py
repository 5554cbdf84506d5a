"""The prior service's format: what `lora_diffusion.patch_pipe` reads (diffusers 0.11 to 0.14).

Layers are numbered, not named: number i is the i-th one that the reader's diffusers meets. Up to
0.14 a transformer block held attn1, ff, attn2 in this order (0.15 moved ff to the end), and a UNet
its blocks in the order down, up, mid. transformers' attention holds k, v, q, out. The same order
is written here whatever versions run. Checked against two files in the wild, lora_disney and
analog_svd_rank4 of cloneofsimo/lora: all of SD 1.5's 144 + 48 layers match.
"""

import json
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from training.formats.assemble import assemble, embedding_rows, pair_from
from training.formats.errors import FormatError
from training.formats.layers import (
    STABLE_DIFFUSION_UNET,
    STABLE_DIFFUSION_WIDTHS,
    TEXT_ENCODER_LAYERS,
    UNET_LAYERS,
    sort_paths,
    text_encoder_paths,
    text_width,
)
from training.formats.metadata import HASH, common_metadata, read_embeddings, read_origin
from training.trained_lora import LoraPair, TrainedLora

# The reader injects into every Linear of these classes; it takes the list from the file.
UNET_CLASSES = ("Attention", "CrossAttention", "GEGLU")
TEXT_ENCODER_CLASSES = ("CLIPAttention",)
EMBEDDING_MARK = "<embed>"
# Where the layers' names stand if they are not Stable Diffusion's own.
UNET_PATHS = "vana.unet_layers"

_MATRIX = re.compile(r"(?P<part>unet|text_encoder):(?P<index>\d{1,5}):(?P<side>down|up)")
_GEGLU_ROWS = 8  # of ff.net.0.proj for each of attn1.to_q's: 4 times the width, twice for the gate
# Since diffusers 0.15 ff is met last.
_LATER_ORDER = (*range(4), *range(5, len(UNET_LAYERS)), 4)


def is_this(tensors: Mapping[str, Tensor]) -> bool:
    return any(_MATRIX.fullmatch(name) for name in tensors)


def to_tensors(lora: TrainedLora, dtype: torch.dtype) -> tuple[dict[str, Tensor], dict[str, str]]:
    """-> (tensors, metadata): LoRA matrices in `dtype`, embeddings in float32."""
    _require_whole_models(lora)
    tensors: dict[str, Tensor] = {}
    metadata = common_metadata(lora) | {
        "unet": json.dumps(UNET_CLASSES),
        "text_encoder": json.dumps(TEXT_ENCODER_CLASSES),
    }
    unet_paths = sort_paths("unet", lora.unet)
    if tuple(unet_paths) != STABLE_DIFFUSION_UNET:
        metadata[UNET_PATHS] = json.dumps(unet_paths)
    for part, pairs in (("unet", lora.unet), ("text_encoder", lora.text_encoder)):
        for index, path in enumerate(sort_paths(part, pairs)):
            tensors[f"{part}:{index}:down"] = pairs[path].down.to(dtype)
            tensors[f"{part}:{index}:up"] = pairs[path].up.to(dtype)
            metadata[f"{part}:{index}:rank"] = str(lora.rank)
    for token, row in lora.embeddings.items():
        tensors[token] = row.float()
        metadata[token] = EMBEDDING_MARK
    return tensors, metadata


def _require_whole_models(lora: TrainedLora) -> None:
    """A number means the layer only if all layers before it are there too. Raises: FormatError."""
    text_paths = text_encoder_paths(len(lora.text_encoder) // len(TEXT_ENCODER_LAYERS))
    blocks = {path.split(".transformer_blocks.")[0] for path in lora.unet}
    num_whole = len(blocks) * len(UNET_LAYERS)
    if text_width(lora) in STABLE_DIFFUSION_WIDTHS:  # a smaller UNet can have fewer blocks
        num_whole = len(STABLE_DIFFUSION_UNET)
    is_unet_whole = len(lora.unet) in (0, num_whole)
    if is_unet_whole and lora.text_encoder.keys() == set(text_paths):
        return
    raise FormatError(
        f"This LoRA trains {len(lora.unet)} layers of the UNet and {len(lora.text_encoder)} of the"
        " text encoder. The format lora_diffusion numbers its layers and cannot leave any out: use"
        " kohya or diffusers."
    )


def from_tensors(tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> TrainedLora:
    """The way back; also for files of the prior service and of others, in both module orders.

    Raises: FormatError.
    """
    numbered: dict[str, dict[int, dict[str, Tensor]]] = {"unet": {}, "text_encoder": {}}
    for name, tensor in tensors.items():
        if match := _MATRIX.fullmatch(name):
            layers = numbered[match["part"]]
            layers.setdefault(int(match["index"]), {})[match["side"]] = tensor
        elif metadata.get(name) != EMBEDDING_MARK:
            raise FormatError(f"The file holds a tensor {name[:120]!r}, which is no part of it.")
    pairs = {part: _in_order(part, layers) for part, layers in numbered.items()}
    unet = _name_unet_layers(pairs["unet"], metadata)
    num_text_layers, rest = divmod(len(pairs["text_encoder"]), len(TEXT_ENCODER_LAYERS))
    if rest:
        raise FormatError(
            f"The file has {len(pairs['text_encoder'])} text_encoder layers; whole blocks of"
            f" {len(TEXT_ENCODER_LAYERS)} are read."
        )
    names = text_encoder_paths(num_text_layers)
    text_encoder = dict(zip(names, pairs["text_encoder"], strict=True))
    return assemble(unet, text_encoder, _embeddings(tensors, metadata), read_origin(metadata))


def hash_metadata(digest: str) -> dict[str, str]:
    return {HASH: digest}


def _in_order(part: str, layers: dict[int, dict[str, Tensor]]) -> list[LoraPair]:
    if sorted(layers) != list(range(len(layers))):
        missing = min(set(range(len(layers))) - layers.keys())
        raise FormatError(f"The file is not complete: it has no {part}:{missing}.")
    return [pair_from(f"{part}:{index}", layers[index]) for index in range(len(layers))]


def _name_unet_layers(pairs: list[LoraPair], metadata: dict[str, str]) -> dict[str, LoraPair]:
    if not pairs:
        return {}
    paths = _unet_paths(metadata)
    if len(paths) != len(pairs):
        raise FormatError(
            f"The file has {len(pairs)} unet layers; a numbered file is read if it has the"
            f" {len(STABLE_DIFFUSION_UNET)} of Stable Diffusion 1.x and 2.x, or names its own."
        )
    if _has_geglu_at(pairs, UNET_LAYERS.index("ff.net.0.proj")):
        return dict(zip(paths, pairs, strict=True))
    if not _has_geglu_at(pairs, len(UNET_LAYERS) - 1):
        raise FormatError(
            "The file's unet layers come in an unknown order: neither number 4 nor number 8 is as"
            " large as ff.net.0.proj must be."
        )
    later = [
        paths[start + offset]
        for start in range(0, len(paths), len(UNET_LAYERS))
        for offset in _LATER_ORDER
    ]
    return dict(zip(later, pairs, strict=True))


def _unet_paths(metadata: dict[str, str]) -> tuple[str, ...]:
    if UNET_PATHS not in metadata:
        return STABLE_DIFFUSION_UNET
    damaged = FormatError(f"The file's metadata is damaged: {UNET_PATHS} is no list of layers.")
    try:
        paths = json.loads(metadata[UNET_PATHS])
    except (ValueError, RecursionError) as error:
        raise damaged from error
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise damaged
    if len(set(paths)) != len(paths) or len(paths) % len(UNET_LAYERS):
        raise damaged
    return tuple(sort_paths("unet", paths))


def _has_geglu_at(pairs: list[LoraPair], index: int) -> bool:
    """By the first transformer block: ff.net.0.proj writes eight times what attn1.to_q does."""
    return len(pairs[index].up) == _GEGLU_ROWS * len(pairs[0].up)


def _embeddings(tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> dict[str, Tensor]:
    """The tensors themselves count; the metadata knows their order."""
    names = sorted(name for name, mark in metadata.items() if mark == EMBEDDING_MARK)
    order = list(read_embeddings(metadata) or ())
    names.sort(key=lambda name: order.index(name) if name in order else len(order))
    embeddings = {}
    for name in names:
        if name not in tensors:
            raise FormatError(f"The file is not complete: the word {name[:40]!r} has no vector.")
        rows = embedding_rows(name, tensors[name])
        if tensors[name].ndim != 1:
            raise FormatError(f"The word {name[:40]!r} has {len(rows)} vectors; one is expected.")
        embeddings[name] = rows[0]
    return embeddings
