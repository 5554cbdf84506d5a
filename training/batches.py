"""Pictures through the VAE once, then batches for ever."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from preprocessing.example import Example
from training.base_model import BaseModel

# The VAE sees up to four pictures at once, enough to fill a GPU at 512 pixels, but no more pixels
# than that: they would take more memory than training does.
MOST_AT_ONCE = 4
PIXELS_AT_ONCE = MOST_AT_ONCE * 512**2


@dataclass(frozen=True, kw_only=True)
class TrainingPictures:
    """Everything that a batch is drawn from, on the device.

    What the VAE says of a picture is kept as mean and spread, so that each draw is a new sample of
    it. A variant is the picture itself or its mirror image; each draw picks one anew.

    Attributes:
        latent_means, latent_stds: (pictures, variants, c, h, w), scaled as the UNet expects them.
        loss_weights: (pictures, variants, 1, h, w), mean 1 each.
        input_ids: (prompts, 77), each prompt once.
        prompt_choices: (pictures, most prompts of a picture), rows of `input_ids`.
        prompt_counts: (pictures,), how many of its row's choices a picture has.
    """

    latent_means: Tensor
    latent_stds: Tensor
    loss_weights: Tensor
    input_ids: Tensor
    prompt_choices: Tensor
    prompt_counts: Tensor

    def __len__(self) -> int:
        return len(self.latent_means)


@dataclass(frozen=True)
class Batch:
    """Shapes: latents (b, c, h, w); input_ids (b, 77); loss_weight (b, 1, h, w)."""

    latents: Tensor
    input_ids: Tensor
    loss_weight: Tensor


def encode_pictures(
    base: BaseModel,
    examples: Sequence[Example],
    tokenize: Callable[[tuple[str, ...], tuple[tuple[int, ...], ...]], Tensor],
    *,
    mirror: bool,
) -> TrainingPictures:
    """`mirror` adds each picture's mirror image as a second variant of it.

    `tokenize` gets the different prompts, and of each the numbers, from 1, of its examples.
    """
    users = _users_of_prompts(examples)
    prompts = tuple(users)
    input_ids = tokenize(
        prompts, tuple(users.values())
    )  # first: a prompt that is too long is told before the work
    images = [image for e in examples for image in _variants(e.image, mirror=mirror) if image]
    means, stds = encode_images(base, images)
    height, width = means.shape[-2:]
    masks = [variant for e in examples for variant in _variants(e.mask, mirror=mirror)]
    weights = torch.stack([loss_weight(mask, height, width) for mask in masks])
    device = base.compute.device
    choices, counts = _prompt_choices(examples, prompts)
    by_picture = (len(examples), -1)
    return TrainingPictures(
        latent_means=means.unflatten(0, by_picture),
        latent_stds=stds.unflatten(0, by_picture),
        loss_weights=weights.to(device).unflatten(0, by_picture),
        input_ids=input_ids.to(device),
        prompt_choices=choices.to(device),
        prompt_counts=counts.to(device),
    )


@torch.no_grad()
def encode_images(base: BaseModel, images: Sequence[Image.Image]) -> tuple[Tensor, Tensor]:
    """RGB images of one size -> mean and standard deviation of their latents.

    Both (len(images), c, h, w), float32, times the VAE's scaling factor.
    """
    width, height = images[0].size
    at_once = min(MOST_AT_ONCE, max(1, PIXELS_AT_ONCE // (width * height)))
    means, stds = [], []
    for start in range(0, len(images), at_once):
        batch = images[start : start + at_once]
        pixels = torch.stack([to_pixel_values(image) for image in batch])
        posterior = base.vae.encode(pixels.to(base.compute.device)).latent_dist
        means.append(posterior.mean)
        stds.append(posterior.std)
    scale = base.vae.config.scaling_factor
    return scale * torch.cat(means), scale * torch.cat(stds)


def to_pixel_values(image: Image.Image) -> Tensor:
    """RGB image -> (3, height, width) in [-1, 1]."""
    pixels = torch.from_numpy(np.array(image))
    return pixels.permute(2, 0, 1).float() / 127.5 - 1


def loss_weight(mask: Image.Image | None, height: int, width: int) -> Tensor:
    """A mask, or None, -> (1, height, width) in latents, mean 1.

    Divided by its mean, so that a small subject learns as fast as a large one; the prior service
    did not, and learned masked pictures two to six times slower.
    """
    if mask is None:
        return torch.ones(1, height, width)
    pixels = torch.from_numpy(np.array(mask.convert("L"))).float() / 255
    weight = F.interpolate(pixels[None, None], size=(height, width), mode="area")[0]
    if weight.sum() == 0:
        return torch.ones(1, height, width)
    return weight / weight.mean()


def picture_order(num_pictures: int, num_draws: int, generator: torch.Generator) -> Tensor:
    """(num_draws,) picture numbers: every picture once, in new order, before any comes again."""
    device = generator.device
    rounds = -(-num_draws // num_pictures)
    order = torch.empty(rounds, num_pictures, dtype=torch.long, device=device)
    for one_round in order:
        torch.randperm(num_pictures, generator=generator, device=device, out=one_round)
    return order.flatten()[:num_draws]


def draw_batch(pictures: TrainingPictures, chosen: Tensor, generator: torch.Generator) -> Batch:
    """For each chosen picture (b,): a new variant, a new sample of its latents, a new prompt."""
    num_variants = pictures.latent_means.shape[1]
    device = chosen.device
    variant = torch.randint(num_variants, chosen.shape, generator=generator, device=device)
    means = pictures.latent_means[chosen, variant]
    noise = torch.randn(means.shape, generator=generator, device=device)
    which = torch.rand(chosen.shape, generator=generator, device=device)
    choice = (which * pictures.prompt_counts[chosen]).long()
    return Batch(
        latents=means + pictures.latent_stds[chosen, variant] * noise,
        input_ids=pictures.input_ids[pictures.prompt_choices[chosen, choice]],
        loss_weight=pictures.loss_weights[chosen, variant],
    )


def _variants(image: Image.Image | None, *, mirror: bool) -> list[Image.Image | None]:
    if not mirror:
        return [image]
    return [image, ImageOps.mirror(image) if image else None]


def _users_of_prompts(examples: Sequence[Example]) -> dict[str, tuple[int, ...]]:
    """Each prompt once, in the order met -> the examples that have it, from 1."""
    users: dict[str, list[int]] = {}
    for number, example in enumerate(examples, 1):
        for prompt in dict.fromkeys(example.prompts):
            users.setdefault(prompt, []).append(number)
    return {prompt: tuple(numbers) for prompt, numbers in users.items()}


def _prompt_choices(examples: Sequence[Example], prompts: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Rows of `prompts` for each example, filled up with 0, and how many of them count."""
    row = {prompt: index for index, prompt in enumerate(prompts)}
    counts = torch.tensor([len(e.prompts) for e in examples])
    choices = torch.zeros(len(examples), int(counts.max()), dtype=torch.long)
    for index, example in enumerate(examples):
        choices[index, : len(example.prompts)] = torch.tensor([row[p] for p in example.prompts])
    return choices, counts
