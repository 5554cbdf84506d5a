"""A Stable Diffusion 1.x or 2.x as the five parts that training touches, and what it can do."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from training.compute import Compute, set_cpu_threads
from training.settings import SettingsError

PARTS = ("scheduler", "text_encoder", "tokenizer", "unet", "vae")


class BaseModelError(RuntimeError):
    """The base model's folder cannot be used; the message says what to run."""


@dataclass(frozen=True, kw_only=True)
class ResolutionLimits:
    """Pixels a side: what the model was trained on, and what it still copes with."""

    native: int
    smallest: int
    largest: int
    step: int

    def check(self, resolution: int, model: str) -> None:
        """Raises: SettingsError, naming the nearest resolution that works."""
        inside = min(max(resolution, self.smallest), self.largest)
        nearest = round(inside / self.step) * self.step
        if resolution != nearest:
            raise SettingsError(
                f"{model} trains on {self.smallest} to {self.largest} pixels a side, in steps of"
                f" {self.step}; resolution is {resolution}. The nearest that works is {nearest}."
            )


@dataclass(frozen=True, kw_only=True)
class BaseCard:
    """`training.json` beside the weights.

    Attributes:
        placeholder_norm: the L2 norm toward which the rows of new words are pulled: about that of
            the words the model knows well. The prior service's 0.4 suits SD 1.5's text encoder.
        recommended: form input -> the value that suits this model; for the command line.
    """

    name: str
    resolution: ResolutionLimits
    placeholder_norm: float = 0.4
    recommended: dict[str, int | float | str] = field(default_factory=dict)


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
    transformers_logging.disable_progress_bar()  # a log is no terminal
    offline: dict[str, Any] = {"local_files_only": True}
    text_encoder = CLIPTextModel.from_pretrained(
        folder, subfolder="text_encoder", dtype=compute.dtype, **offline
    )
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae", dtype=torch.float32, **offline)
    unet = UNet2DConditionModel.from_pretrained(
        folder, subfolder="unet", dtype=compute.dtype, **offline
    )
    for part in (text_encoder, vae, unet):
        part.requires_grad_(False).eval().to(compute.device)
    for part in (vae, unet):
        part.to(memory_format=torch.channels_last)
    if compute.device.type == "cpu":
        set_cpu_threads(unet.num_parameters())
    return BaseModel(
        tokenizer=CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer", **offline),
        text_encoder=text_encoder,
        vae=vae,
        unet=unet,
        noise_scheduler=DDPMScheduler.from_pretrained(folder, subfolder="scheduler", **offline),
        compute=compute,
        card=read_card(folder, vae, unet),
    )


def check_folder(folder: Path) -> None:
    """Raises: BaseModelError, when a part is missing: diffusers would go and ask the hub for it."""
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if not (folder / "model_index.json").is_file():
        missing.insert(0, "model_index.json")
    if missing:
        raise BaseModelError(
            f"No complete base model in {folder.name}: {', '.join(missing)} not found. Run"
            " script/download-weights, or set BASE_MODEL to the folder of a Stable Diffusion in"
            " diffusers format."
        )


def read_card(folder: Path, vae: AutoencoderKL, unet: UNet2DConditionModel) -> BaseCard:
    """The folder's training.json; without one, what the two configs tell."""
    path = folder / "training.json"
    if path.is_file():
        card = json.loads(path.read_text(encoding="utf-8"))
        return BaseCard(
            resolution=ResolutionLimits(**card.pop("resolution")),
            **card,
        )
    factor = vae_factor(vae)
    native = int(unet.config.sample_size) * factor
    return BaseCard(
        name=folder.name,
        resolution=ResolutionLimits(
            native=native, smallest=native // 2, largest=2 * native, step=max(8, factor)
        ),
    )


def vae_factor(vae: AutoencoderKL) -> int:
    """Pixels per latent along a side: every encoder block but the last halves the picture."""
    return 2 ** (len(vae.config.block_out_channels) - 1)
