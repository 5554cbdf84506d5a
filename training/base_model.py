"""A Stable Diffusion 1.x or 2.x as the five parts that training touches, and what it can do."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import logging as transformers_logging

from training.base_card import BaseCard, read_card
from training.compute import Compute, suit_cpu

# What must be in each part's folder: any one of these.
PARTS = {
    "scheduler": ("scheduler_config.json",),
    "text_encoder": ("model.safetensors", "model.safetensors.index.json"),
    "tokenizer": ("tokenizer.json", "vocab.json"),
    "unet": (
        "diffusion_pytorch_model.safetensors",
        "diffusion_pytorch_model.safetensors.index.json",
    ),
    "vae": ("diffusion_pytorch_model.safetensors",),
}


class BaseModelError(RuntimeError):
    """The base model's folder cannot be used; the message says what to run."""


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """Frozen weights on the device. The VAE, which works once per picture, stays in float32."""

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    noise_scheduler: DDPMScheduler
    compute: Compute
    card: BaseCard


def load_base_model(folder: Path, compute: Compute) -> BaseModel:
    """Read a diffusers-format folder, offline.

    Raises:
        BaseModelError: when the folder is missing or incomplete.
    """
    check_folder(folder)
    # On an H100 torch would choose cuDNN's attention, whose gradients have been wrong for some
    # shapes (pytorch issue 196678); benchmarks/variants.py measures what it would bring.
    torch.backends.cuda.enable_cudnn_sdp(False)
    transformers_logging.disable_progress_bar()  # a log is no terminal
    offline: dict[str, Any] = {"local_files_only": True}
    weights = {"use_safetensors": True, **offline}  # or diffusers would try a pickle
    text_encoder = CLIPTextModel.from_pretrained(
        folder, subfolder="text_encoder", dtype=compute.dtype, **weights
    )
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae", dtype=torch.float32, **weights)
    unet = UNet2DConditionModel.from_pretrained(
        folder, subfolder="unet", dtype=compute.dtype, **weights
    )
    for part in (text_encoder, vae, unet):
        part.requires_grad_(False).eval().to(compute.device)
    for part in (vae, unet):
        part.to(memory_format=torch.channels_last)
    skip_divisions(unet)
    if compute.device.type == "cuda":
        keep_channels_last(unet)
    if compute.uses_checkpoints:
        keep_less(unet, text_encoder)
    if compute.device.type == "cpu":
        compute = suit_cpu(compute, unet.num_parameters())
    noise_scheduler = DDPMScheduler.from_pretrained(folder, subfolder="scheduler", **offline)
    # It would fetch its table from the CPU at the first use.
    noise_scheduler.alphas_cumprod = noise_scheduler.alphas_cumprod.to(compute.device)
    return BaseModel(
        tokenizer=CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer", **offline),
        text_encoder=text_encoder,
        vae=vae,
        unet=unet,
        noise_scheduler=noise_scheduler,
        compute=compute,
        card=read_card(folder),
    )


# By which diffusers divides what comes out of each block; in Stable Diffusion they are 1.
FACTORS = ("output_scale_factor", "rescale_output_factor")


class One:
    """Dividing by it is no operation."""

    def __rtruediv__(self, dividend: Tensor) -> Tensor:
        return dividend


def skip_divisions(unet: UNet2DConditionModel) -> None:
    """Divisions by 1, that is: 54 operations forward and as many back."""
    for module in unet.modules():
        for name in FACTORS:
            if getattr(module, name, None) == 1:
                setattr(module, name, One())


def keep_channels_last(unet: UNet2DConditionModel) -> None:
    """Lay out what convolutions are given as they want it.

    On a GPU group norms give it otherwise. A convolution would copy it itself, but keep what it was
    given, and copy that once more in the backward pass: 91 copies an update.
    """

    def lay_out(_: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        return inputs[0].contiguous(memory_format=torch.channels_last)

    for module in unet.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(lay_out)


def keep_less(unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
    """Let their blocks keep only what they are given, and compute the rest again when needed."""
    # Nothing in them is random, so there is no state of a generator to restore.
    how: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
    unet.enable_gradient_checkpointing(partial(checkpoint, **how))
    text_encoder.activation_checkpointing_enable(how)
    for module in text_encoder.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.training = True  # it does so only then; what is in it stays as it is


def check_folder(folder: Path) -> None:
    """Raises: BaseModelError, when a part is missing: diffusers would go and ask the hub for it."""
    missing = [
        f"{part}/{names[0]}"
        for part, names in PARTS.items()
        if not any((folder / part / name).is_file() for name in names)
    ]
    if not (folder / "model_index.json").is_file():
        missing.insert(0, "model_index.json")
    if missing:
        raise BaseModelError(
            f"No complete base model in {folder.name}: {', '.join(missing)} not found. Run"
            " script/download-weights, or set BASE_MODEL to the folder of a Stable Diffusion in"
            " diffusers format."
        )
