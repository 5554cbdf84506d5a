"""The pictures through the autoencoder, once; training then reads latents only."""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor

from weights.build_tiny.captions import BACKGROUND_COLOURS, WHITE
from weights.build_tiny.pictures import (
    Image,
    PictureName,
    Pixels,
    halve,
    load_pictures,
    place_on,
)
from weights.build_tiny.sets import (
    HELD_OUT_CONCEPTS,
    HELD_OUT_STYLE,
    TRAINED_STYLES,
    common_concepts,
)

logger = logging.getLogger(__name__)

GROUPS = ("train", "held_out_concepts", "held_out_style")
ENCODE_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Example:
    """What is on one encoded picture; `background` is None for white."""

    style: str
    concept: str
    background: str | None


def group_of(name: PictureName) -> str | None:
    """The group of a picture, None if it is not used. Only `train` is ever learned from."""
    if name.style in TRAINED_STYLES:
        return "held_out_concepts" if name.concept in HELD_OUT_CONCEPTS else "train"
    if name.style == HELD_OUT_STYLE and name.concept in common_concepts():
        return "held_out_style"
    return None


def list_variants(
    name: PictureName, picture: Pixels, random: np.random.Generator
) -> list[tuple[Example, Image]]:
    """A training picture as it is, mirrored, and on one colour: (64, 64, 3) in [0, 1] each."""
    background = str(random.choice(list(BACKGROUND_COLOURS)))
    on_white = Example(style=name.style, concept=name.concept, background=None)
    on_colour = Example(style=name.style, concept=name.concept, background=background)
    plain = halve(place_on(picture, WHITE))
    coloured = halve(place_on(picture, BACKGROUND_COLOURS[background]))
    if random.random() < 0.5:
        coloured = coloured[:, ::-1]
    return [(on_white, plain), (on_white, plain[:, ::-1]), (on_colour, coloured)]


def to_pixel_values(images: list[Image]) -> Tensor:
    """b images (64, 64, 3) in [0, 1] -> (b, 3, 64, 64) in [-1, 1]."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous() * 2 - 1


@torch.no_grad()
def encode_images(vae: AutoencoderKL, images: list[Image]) -> Tensor:
    """b images (64, 64, 3) in [0, 1] -> scaled latents (b, 4, 16, 16), the posterior's mean."""
    batches = [
        vae.encode(to_pixel_values(images[i : i + ENCODE_BATCH]).to(vae.device)).latent_dist.mean
        for i in range(0, len(images), ENCODE_BATCH)
    ]
    return torch.cat(batches).cpu() * vae.config.scaling_factor


def write_latents(work: Path, seed: int) -> None:
    """latents.safetensors: one tensor (n, 4, 16, 16) per group; latents.json: their Examples."""
    if (work / "latents.json").exists():
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    vae = (
        AutoencoderKL.from_pretrained(work / "autoencoder", local_files_only=True).eval().to(device)
    )
    random = np.random.default_rng(seed)
    examples: dict[str, list[Example]] = {group: [] for group in GROUPS}
    images: dict[str, list[Image]] = {group: [] for group in GROUPS}
    for name, picture in zip(*load_pictures(work), strict=True):
        group = group_of(name)
        if group is None:
            continue
        variants = list_variants(name, picture, random)
        for example, image in variants if group == "train" else variants[:1]:
            examples[group].append(example)
            images[group].append(image)
    logger.info("latents: encoding %s", {group: len(images[group]) for group in GROUPS})
    save_file(
        {group: encode_images(vae, images[group]) for group in GROUPS}, work / "latents.safetensors"
    )
    as_json = {group: [asdict(example) for example in examples[group]] for group in GROUPS}
    (work / "latents.json").write_text(json.dumps(as_json), encoding="utf-8")


def load_latents(work: Path) -> dict[str, tuple[Tensor, list[Example]]]:
    """What write_latents wrote, by group."""
    latents = load_file(work / "latents.safetensors")
    examples = json.loads((work / "latents.json").read_text(encoding="utf-8"))
    return {group: (latents[group], [Example(**e) for e in examples[group]]) for group in GROUPS}
