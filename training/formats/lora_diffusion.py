"""The prior service's format: what `lora_diffusion.patch_pipe` reads (diffusers 0.11 to 0.14).

Layers are numbered, not named: number i is the i-th one that the reader's diffusers meets. Up to
0.14 a transformer block held attn1, ff, attn2 in this order (0.15 moved ff to the end), and a UNet
its blocks in the order down, up, mid. transformers' attention holds k, v, q, out. The same order
is written here whatever versions run. Checked against two files in the wild, lora_disney and
analog_svd_rank4 of cloneofsimo/lora: all of SD 1.5's 144 + 48 layers match.
"""

import json
import re
from collections.abc import Iterable

import torch
from torch import Tensor

from training.lora import LoraPair, TrainedLora

UNET_ORDER = (
    "attn1.to_q",
    "attn1.to_k",
    "attn1.to_v",
    "attn1.to_out.0",
    "ff.net.0.proj",
    "attn2.to_q",
    "attn2.to_k",
    "attn2.to_v",
    "attn2.to_out.0",
)
SECTION_ORDER = ("down_blocks", "up_blocks", "mid_block")
TEXT_ENCODER_ORDER = ("k_proj", "v_proj", "q_proj", "out_proj")

UNET_PATH = re.compile(
    r"(?P<section>down_blocks|up_blocks|mid_block)(?:\.(?P<block>\d+))?"
    r"\.attentions\.(?P<attention>\d+)\.transformer_blocks\.(?P<transformer>\d+)\.(?P<layer>.+)"
)
TEXT_ENCODER_PATH = re.compile(
    r"text_model\.encoder\.layers\.(?P<index>\d+)\.self_attn\.(?P<layer>.+)"
)

# The reader injects into every Linear of these classes; it takes the list from the file.
UNET_CLASSES = ("Attention", "CrossAttention", "GEGLU")
TEXT_ENCODER_CLASSES = ("CLIPAttention",)
EMBEDDING_MARK = "<embed>"


class FormatError(ValueError):
    """The file is not what its format promises; the message says what was found."""


def to_tensors(lora: TrainedLora) -> tuple[dict[str, Tensor], dict[str, str]]:
    """-> (tensors, metadata): LoRA matrices in float16, embeddings in float32."""
    tensors: dict[str, Tensor] = {}
    metadata = {
        "unet": json.dumps(UNET_CLASSES),
        "text_encoder": json.dumps(TEXT_ENCODER_CLASSES),
    }
    parts = (
        ("unet", lora.unet, sort_unet_paths(lora.unet)),
        ("text_encoder", lora.text_encoder, sort_text_encoder_paths(lora.text_encoder)),
    )
    for part, pairs, paths in parts:
        for index, path in enumerate(paths):
            tensors[f"{part}:{index}:down"] = pairs[path].down.half()
            tensors[f"{part}:{index}:up"] = pairs[path].up.half()
            metadata[f"{part}:{index}:rank"] = str(lora.rank)
    for token, row in lora.embeddings.items():
        tensors[token] = row.float()
        metadata[token] = EMBEDDING_MARK
    return tensors, metadata


def from_tensors(
    tensors: dict[str, Tensor],
    metadata: dict[str, str],
    unet_paths: Iterable[str],
    text_encoder_paths: Iterable[str],
) -> TrainedLora:
    """The way back. A numbered file does not name its layers: the paths of the base model do.

    Raises:
        FormatError: when the file was made for a model with other layers.
    """
    unet = _read_pairs("unet", tensors, sort_unet_paths(unet_paths))
    text_encoder = _read_pairs("text_encoder", tensors, sort_text_encoder_paths(text_encoder_paths))
    ranks = {len(pair.down) for pair in (*unet.values(), *text_encoder.values())}
    if len(ranks) != 1:
        raise FormatError(f"Every layer must have one and the same rank; found {sorted(ranks)}.")
    return TrainedLora(
        embeddings={
            name: tensors[name].float()
            for name, mark in sorted(metadata.items())
            if mark == EMBEDDING_MARK
        },
        unet=unet,
        text_encoder=text_encoder,
        rank=ranks.pop(),
    )


def sort_unet_paths(paths: Iterable[str]) -> list[str]:
    """Module paths in the order in which diffusers up to 0.14 meets them."""
    return sorted(paths, key=_unet_position)


def sort_text_encoder_paths(paths: Iterable[str]) -> list[str]:
    return sorted(paths, key=_text_encoder_position)


def _unet_position(path: str) -> tuple[int, ...]:
    match = UNET_PATH.fullmatch(path)
    if match is None or match["layer"] not in UNET_ORDER:
        raise FormatError(f"The lora_diffusion format has no place for the UNet's layer {path}.")
    return (
        SECTION_ORDER.index(match["section"]),
        int(match["block"] or 0),
        int(match["attention"]),
        int(match["transformer"]),
        UNET_ORDER.index(match["layer"]),
    )


def _text_encoder_position(path: str) -> tuple[int, int]:
    match = TEXT_ENCODER_PATH.fullmatch(path)
    if match is None or match["layer"] not in TEXT_ENCODER_ORDER:
        raise FormatError(f"The lora_diffusion format has no place for the text encoder's {path}.")
    return int(match["index"]), TEXT_ENCODER_ORDER.index(match["layer"])


def _read_pairs(part: str, tensors: dict[str, Tensor], paths: list[str]) -> dict[str, LoraPair]:
    found = sum(name.startswith(f"{part}:") and name.endswith(":up") for name in tensors)
    if found != len(paths):
        raise FormatError(
            f"The file has {found} {part} layers, the base model {len(paths)}: it was trained on"
            " another base model."
        )
    try:
        return {
            path: LoraPair(
                down=tensors[f"{part}:{index}:down"].to(torch.float32),
                up=tensors[f"{part}:{index}:up"].to(torch.float32),
            )
            for index, path in enumerate(paths)
        }
    except KeyError as error:
        raise FormatError(f"The file has no {error.args[0]}: it is not complete.") from error
