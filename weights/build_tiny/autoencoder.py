"""Train the VAE on the pictures, then give its latents the spread that Stable Diffusion's have."""

import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from weights.build_tiny.captions import WHITE
from weights.build_tiny.checkpoints import load_checkpoint, save_checkpoint
from weights.build_tiny.latents import group_of, to_pixel_values
from weights.build_tiny.models import IMAGE_SIZE, SCALING_FACTOR, make_autoencoder
from weights.build_tiny.pictures import (
    PICTURE_SIZE,
    Image,
    Pixels,
    halve,
    load_pictures,
    place_on,
)
from weights.build_tiny.progress import eta
from weights.build_tiny.updates import make_optimizers, rate_factor, update
from weights.build_tiny.workers import worker

logger = logging.getLogger(__name__)

FLAT_SHARE = 0.3
CROP_SIZE = 32
CROP_SHARE = 0.55  # of the steps, on crops: four times as many pictures for the price
EDGE_WEIGHT = 0.5
KL_WEIGHT = 5e-4  # just enough to keep the latents smooth
FIRST_LOG_VARIANCE = -4.0
SAVE_EVERY = 100
NUM_MEASURED = 512


@dataclass(frozen=True, kw_only=True)
class AutoencoderPlan:
    """One training run; `folder` receives the model."""

    work: Path
    num_steps: int
    batch_size: int  # crops, over all processes; half as many whole pictures
    seed: int

    @property
    def folder(self) -> Path:
        """Where the finished model goes."""
        return self.work / "autoencoder"


def quiet_start(vae: AutoencoderKL) -> None:
    """Residual branches at zero and little noise on the latents: learns faster at first."""
    with torch.no_grad():
        for name, parameter in vae.named_parameters():
            if ".conv2." in name:
                parameter.zero_()
        num_channels = vae.config.latent_channels
        vae.quant_conv.weight[num_channels:].zero_()
        vae.quant_conv.bias[num_channels:].fill_(FIRST_LOG_VARIANCE)


def vary(picture: Pixels, random: np.random.Generator) -> Image:
    """(128, 128, 4) -> (64, 64, 3): any background, whole or a part, mirrored, colours swapped."""
    colour = WHITE
    if random.random() < 0.5:
        red, green, blue = random.random(3)
        colour = (red, green, blue)
    image = place_on(picture, colour)
    if random.random() < 0.6:
        image = halve(image)
    else:
        x, y = random.integers(0, PICTURE_SIZE - IMAGE_SIZE + 1, 2)
        image = image[y : y + IMAGE_SIZE, x : x + IMAGE_SIZE]
    if random.random() < 0.5:
        image = image[:, ::-1]
    return image[..., random.permutation(3)] if random.random() < 0.25 else image


def draw_pixel_values(
    pictures: Pixels, size: int, crop: int, random: np.random.Generator
) -> Tensor:
    """(size, 3, crop, crop) in [-1, 1]."""
    chosen = random.integers(0, len(pictures), size)
    x, y = random.integers(0, IMAGE_SIZE - crop + 1, 2)
    images = [vary(pictures[i], random)[y : y + crop, x : x + crop] for i in chosen]
    return to_pixel_values(images)


def reconstruction_loss(vae: AutoencoderKL, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
    """The loss, and the mean squared error alone."""
    posterior = vae.encode(pixel_values).latent_dist
    errors = vae.decode(posterior.sample()).sample - pixel_values
    # Differences between neighbouring pixels: without them thin lines and edges come out soft.
    edges = errors.diff(dim=-1).abs().mean() + errors.diff(dim=-2).abs().mean()
    squared = errors.pow(2).mean()
    divergence = posterior.kl().sum() / posterior.mean.numel()
    return errors.abs().mean() + squared + EDGE_WEIGHT * edges + KL_WEIGHT * divergence, squared


@torch.no_grad()
def normalize_latents(vae: AutoencoderKL, pixel_values: Tensor) -> None:
    """Fold each latent channel's mean and spread into the 1x1 convolutions around the latents.

    Afterwards latents times SCALING_FACTOR have mean 0 and deviation 1 on these (b, 3, 64, 64).
    """
    latents = vae.encode(pixel_values).latent_dist.mean
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    gain = 1 / (SCALING_FACTOR * std)
    num_channels = len(gain)
    encode, decode = vae.quant_conv, vae.post_quant_conv
    encode.weight[:num_channels] *= gain.view(-1, 1, 1, 1)
    encode.bias[:num_channels] = (encode.bias[:num_channels] - mean) * gain
    encode.bias[num_channels:] += 2 * gain.log()  # the second half is log-variance
    decode.bias += decode.weight[:, :, 0, 0] @ mean
    decode.weight /= gain.view(1, -1, 1, 1)


def read_trained_pictures(work: Path) -> Pixels:
    """(n, 128, 128, 4) those that may be learned from."""
    names, pictures = load_pictures(work)
    return pictures[[i for i, name in enumerate(names) if group_of(name) == "train"]]


def finish(vae: AutoencoderKL, pictures: Pixels, plan: AutoencoderPlan) -> None:
    """Normalise the latents and write the model."""
    chosen = np.random.default_rng(plan.seed).permutation(len(pictures))[:NUM_MEASURED]
    vae.eval()
    normalize_latents(vae, to_pixel_values([halve(place_on(pictures[i], WHITE)) for i in chosen]))
    vae.save_pretrained(plan.folder)


def train_autoencoder(plan: AutoencoderPlan) -> None:
    """From the last checkpoint, or the start, to the finished model."""
    rank, num_workers = worker()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pictures = read_trained_pictures(plan.work)
    torch.manual_seed(plan.seed)
    vae = make_autoencoder()
    quiet_start(vae)
    vae.to(device, memory_format=torch.channels_last)
    parameters = list(vae.parameters())
    optimizers = make_optimizers(
        hidden=[parameter for parameter in parameters if parameter.ndim > 1],
        others=[parameter for parameter in parameters if parameter.ndim < 2],
    )
    checkpoint = plan.work / "autoencoder.pt"
    first_step = load_checkpoint(checkpoint, vae, optimizers)
    started = time.monotonic()
    for step in range(first_step, plan.num_steps):
        random = np.random.default_rng((plan.seed, step, rank))
        torch.manual_seed(random.integers(2**31))  # the posterior's noise
        is_early = step < CROP_SHARE * plan.num_steps
        crop, size = (
            (CROP_SIZE, plan.batch_size) if is_early else (IMAGE_SIZE, plan.batch_size // 2)
        )
        pixel_values = draw_pixel_values(pictures, size // num_workers, crop, random).to(device)
        loss, squared = reconstruction_loss(vae, pixel_values)
        update(parameters, optimizers, loss, rate_factor(step, plan.num_steps, FLAT_SHARE))
        done = step + 1
        if rank == 0 and (done % SAVE_EVERY == 0 or done == plan.num_steps):
            save_checkpoint(checkpoint, done, vae, optimizers)
            pace = eta(started, done - first_step, plan.num_steps - done)
            decibels = 10 * math.log10(4 / squared.item())
            logger.info("autoencoder  %5d/%d  %.1f dB  %s", done, plan.num_steps, decibels, pace)
    if rank == 0:
        finish(vae.cpu(), pictures, plan)
