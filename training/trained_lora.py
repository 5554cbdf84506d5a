"""What a run hands back: a LoRA and its words, free of any file format and of any library."""

from dataclasses import dataclass

from torch import Tensor

from training.origin import UNKNOWN, Origin

# The prior service's layers: in SD 1.5 these are 144 of the UNet's and 48 of the text encoder's.
UNET_TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj")
TEXT_ENCODER_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")


@dataclass(frozen=True)
class LoraPair:
    """One layer's update: W + up @ down. Shapes: down (rank, in), up (out, rank); float32, CPU."""

    down: Tensor
    up: Tensor


@dataclass(frozen=True, kw_only=True)
class TrainedLora:
    """All that a run learned, free of any file format.

    Attributes:
        embeddings: placeholder token -> (width,) vector, float32.
        unet: module path in the UNet, such as
            `down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q` -> its pair.
        text_encoder: the same, with paths as files in the wild have them:
            `text_model.encoder.layers.0.self_attn.q_proj`.
        rank: of every pair; alpha equals rank, so the scale is 1.
        origin: how it came about.
    """

    embeddings: dict[str, Tensor]
    unet: dict[str, LoraPair]
    text_encoder: dict[str, LoraPair]
    rank: int
    origin: Origin = UNKNOWN


def canonical_text_encoder_path(path: str) -> str:
    """transformers 5 dropped the prefix that every file in the wild has."""
    return path if path.startswith("text_model.") else f"text_model.{path}"
