"""Is this folder a base model that can be trained?"""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from training.base_model import BaseModelError, load_base_model
from training.compute import pick_compute
from weights.folder import WeightsError, read_json

WEIGHTS = {
    "text_encoder": "model.safetensors",
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
}
TEXT_ENCODER_PREFIX = "text_model."  # transformers 5 dropped it; files in the wild have it

Shapes = dict[str, tuple[int, ...]]


def check_trainable(folder: Path) -> None:
    """Compare every layer with what the configs ask for, then load the model as training does.

    The libraries fill a layer that the file lacks with noise, and only warn.

    Raises:
        WeightsError: when a layer is missing or has another shape, or the model does not load.
    """
    try:
        for part, module in build_without_weights(folder).items():
            check_layers(part, module, shapes_in_file(folder / part / WEIGHTS[part]))
        load_base_model(folder, pick_compute())
    except (BaseModelError, SafetensorError, ValueError, TypeError, KeyError) as error:
        raise WeightsError(
            f"The model cannot be trained ({error}). Take another copy of it."
        ) from error


def build_without_weights(folder: Path) -> dict[str, nn.Module]:
    """Part -> a module of the shape that its config describes; it needs no memory."""
    text_config = CLIPTextConfig.from_pretrained(folder / "text_encoder")
    with torch.device("meta"):
        return {
            "text_encoder": CLIPTextModel(text_config),
            "unet": UNet2DConditionModel.from_config(read_json(folder / "unet" / "config.json")),
            "vae": AutoencoderKL.from_config(read_json(folder / "vae" / "config.json")),
        }


def shapes_in_file(path: Path) -> Shapes:
    with safe_open(path, "pt") as file:
        names = list(file.keys())
        return {
            name.removeprefix(TEXT_ENCODER_PREFIX): tuple(file.get_slice(name).get_shape())
            for name in names
        }


def check_layers(part: str, module: nn.Module, found: Shapes) -> None:
    """Raises: WeightsError, naming the first layer that is not as it should be."""
    for name, tensor in module.state_dict().items():
        layer = name.removeprefix(TEXT_ENCODER_PREFIX)
        if found.get(layer) != tensor.shape:
            raise WeightsError(
                f"The {part.replace('_', ' ')} is not whole: {layer} should have the shape"
                f" {tuple(tensor.shape)}, and {found.get(layer, 'nothing')} was found. Take another"
                " copy of the model."
            )
