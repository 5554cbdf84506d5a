"""Stable Diffusions 1.x and 2.x with random weights: the real layout, each width a few channels."""

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from tests.conftest import REPOSITORY
from weights.folder import read_json, write_json
from weights.original_layout import complete_configs

CONFIGS = REPOSITORY / "weights" / "configs"
PARTS = ("text_encoder", "unet", "vae")
NUM_TEXT_LAYERS = 2
# A width of its own for the text, so that mixed-up layers also have the wrong shape.
TEXT_WIDTH = 48


@dataclass(frozen=True, kw_only=True)
class SmallModel:
    """The parts with weights; `configs` is a folder like those in weights/configs."""

    text_encoder: CLIPTextModel
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    configs: Path


def build_small_model(name: str, folder: Path) -> SmallModel:
    """What weights/configs/`name` describes, with fewer channels and text layers.

    The weights are numbers that half precision can hold, so that saving them loses nothing.
    """
    torch.manual_seed(0)
    complete_configs(CONFIGS / name, folder)
    shrink(folder / "unet" / "config.json", unet_changes(name))
    shrink(
        folder / "vae" / "config.json",
        {"block_out_channels": [16, 16, 32, 32], "norm_num_groups": 8},
    )
    shrink(
        folder / "text_encoder" / "config.json",
        {
            "hidden_size": TEXT_WIDTH,
            "intermediate_size": 4 * TEXT_WIDTH,
            "num_attention_heads": 4,
            "num_hidden_layers": NUM_TEXT_LAYERS,
        },
    )
    model = SmallModel(
        text_encoder=CLIPTextModel(CLIPTextConfig.from_pretrained(folder / "text_encoder")),
        unet=UNet2DConditionModel.from_config(read_json(folder / "unet" / "config.json")),
        vae=AutoencoderKL.from_config(read_json(folder / "vae" / "config.json")),
        configs=folder,
    )
    for part in PARTS:
        getattr(model, part).half().float().eval()
    return model


def unet_changes(name: str) -> dict[str, object]:
    heads = [2, 4, 4, 4] if name == "stable-diffusion-2-1" else 2
    return {
        "attention_head_dim": heads,
        "block_out_channels": [16, 32, 32, 32],
        "cross_attention_dim": TEXT_WIDTH,
        "norm_num_groups": 8,
    }


def shrink(path: Path, changes: dict[str, object]) -> None:
    write_json(path, read_json(path) | changes)


def save_small_model(model: SmallModel, folder: Path) -> None:
    """As a folder in diffusers format, in half precision."""
    complete_configs(model.configs, folder)
    for part in PARTS:
        getattr(model, part).half().save_pretrained(folder / part, safe_serialization=True)
        getattr(model, part).float()
