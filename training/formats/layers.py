"""The layers that a file can hold, in the order that every diffusers up to 0.14 met them.

Static, never read off a live model: module order and names changed with diffusers 0.15 and
transformers 5, files did not.
"""

import re
from collections.abc import Iterable

from training.formats.errors import FormatError
from training.trained_lora import TrainedLora

UNET_LAYERS = (
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
TEXT_ENCODER_LAYERS = ("k_proj", "v_proj", "q_proj", "out_proj")
UNET_SECTIONS = ("down_blocks", "up_blocks", "mid_block")

# One transformer block an attention: Stable Diffusion XL has up to ten.
UNET_PATH = re.compile(
    r"(?P<section>down_blocks|up_blocks|mid_block)(?:\.(?P<block>\d{1,4}))?"
    r"\.attentions\.(?P<attention>\d{1,4})\.transformer_blocks\.0"
    rf"\.(?P<layer>{'|'.join(map(re.escape, UNET_LAYERS))})"
)
TEXT_ENCODER_PATH = re.compile(
    r"text_model\.encoder\.layers\.(?P<index>\d{1,4})"
    rf"\.self_attn\.(?P<layer>{'|'.join(TEXT_ENCODER_LAYERS)})"
)

# Stable Diffusion 1.x and 2.x, all sizes: which blocks of the UNet attend, and how often.
_ATTENTIONS = (("down_blocks", (0, 1, 2), 2), ("up_blocks", (1, 2, 3), 3))
STABLE_DIFFUSION_UNET = (
    *(
        f"{section}.{block}.attentions.{attention}.transformer_blocks.0.{layer}"
        for section, blocks, num_attentions in _ATTENTIONS
        for block in blocks
        for attention in range(num_attentions)
        for layer in UNET_LAYERS
    ),
    *(f"mid_block.attentions.0.transformer_blocks.0.{layer}" for layer in UNET_LAYERS),
)


# Of the text encoder: 1.x, 2.x.
STABLE_DIFFUSION_WIDTHS = (768, 1024)


def text_width(lora: TrainedLora) -> int:
    """Of the text encoder, as the UNet's cross-attention meets it; 0 if that is not trained."""
    keys = (pair for path, pair in lora.unet.items() if path.endswith("attn2.to_k"))
    return next((pair.down.shape[1] for pair in keys), 0)


def text_encoder_paths(num_layers: int) -> tuple[str, ...]:
    """The paths of a CLIP text encoder's first layers."""
    return tuple(
        f"text_model.encoder.layers.{index}.self_attn.{layer}"
        for index in range(num_layers)
        for layer in TEXT_ENCODER_LAYERS
    )


def sort_paths(part: str, paths: Iterable[str]) -> list[str]:
    """Module paths of a part, `unet` or `text_encoder`, in the files' order.

    Raises: FormatError, for a layer that these files have no place for.
    """
    return sorted(paths, key=_unet_position if part == "unet" else _text_encoder_position)


def _unet_position(path: str) -> tuple[int, ...]:
    match = UNET_PATH.fullmatch(path)
    if match is None:
        raise FormatError(_unknown("UNet", path))
    return (
        UNET_SECTIONS.index(match["section"]),
        int(match["block"] or 0),
        int(match["attention"]),
        UNET_LAYERS.index(match["layer"]),
    )


def _text_encoder_position(path: str) -> tuple[int, ...]:
    match = TEXT_ENCODER_PATH.fullmatch(path)
    if match is None:
        raise FormatError(_unknown("text encoder", path))
    return int(match["index"]), TEXT_ENCODER_LAYERS.index(match["layer"])


def _unknown(part: str, path: str) -> str:
    return (
        f"The file trains the {part}'s layer {path[:120]!r}. Read are LoRAs of the attention layers"
        " and of ff.net.0.proj in Stable Diffusion 1.x and 2.x, which all files of this trainer"
        " hold; convert another with the program that made it."
    )
