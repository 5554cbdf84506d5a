"""How well a model predicts the noise in given pictures: the same question before and after."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from preprocessing.example import Example
from training.base_model import BaseModel
from training.batches import encode_images
from training.loss import denoising_loss, uniform_weight
from training.placeholders import tokenize

NUM_DRAWS = 4  # noise and timestep per picture; the timesteps lie in as many equal parts
SEED = 20_230_401  # of its own: a run with another seed is asked the same
BATCH_SIZE = 8


@dataclass(frozen=True, kw_only=True)
class FixedDraws:
    """Shapes: latents, noise (draws, pictures, c, h, w); timesteps (draws, pictures)."""

    latents: Tensor
    noise: Tensor
    timesteps: Tensor


def fix_draws(base: BaseModel, examples: Sequence[Example]) -> FixedDraws:
    """Noise and timesteps come from the CPU, so that every device is asked the same."""
    latents, _ = encode_images(base, [example.image for example in examples])
    generator = torch.Generator("cpu").manual_seed(SEED)
    noise = torch.randn((NUM_DRAWS, *latents.shape), generator=generator)
    span = base.noise_scheduler.config.num_train_timesteps // NUM_DRAWS
    offsets = torch.randint(span, (NUM_DRAWS, len(examples)), generator=generator)
    timesteps = offsets + span * torch.arange(NUM_DRAWS)[:, None]
    return FixedDraws(
        latents=latents.expand(NUM_DRAWS, *latents.shape),
        noise=noise.to(latents.device),
        timesteps=timesteps.to(latents.device),
    )


@torch.no_grad()
def measure_loss(base: BaseModel, draws: FixedDraws, prompts: Sequence[str]) -> tuple[float, ...]:
    """Mean denoising loss of each draw; one prompt a picture, every pixel counts the same."""
    input_ids = tokenize(base.tokenizer, tuple(prompts)).to(draws.latents.device)
    return tuple(
        mean_loss(base, latents, noise, timesteps, input_ids)
        for latents, noise, timesteps in zip(
            draws.latents, draws.noise, draws.timesteps, strict=True
        )
    )


def mean_loss(
    base: BaseModel, latents: Tensor, noise: Tensor, timesteps: Tensor, input_ids: Tensor
) -> float:
    """`denoising_loss` of any number of pictures, a few at a time."""
    total = 0.0
    for start in range(0, len(latents), BATCH_SIZE):
        some = slice(start, start + BATCH_SIZE)
        weight = uniform_weight(latents[some])
        with base.compute.autocast():
            loss = denoising_loss(
                base, latents[some], noise[some], timesteps[some], input_ids[some], weight
            )
        total += loss.item() * len(weight)
    return total / len(latents)


def prompts_with(examples: Sequence[Example], words: str) -> list[str]:
    """Each picture's first prompt with these words for `{}`; with no words, the rest of it."""
    return [fill(example.prompts[0], words) for example in examples]


def asked_for(prompt: str, words: str) -> str:
    """What to ask for a sample. Without words, as for the base model, which does not know them,
    "a dog in the style of {}" is "a dog"."""
    return fill(prompt, words).removesuffix(" in the style of")


def fill(prompt: str, words: str) -> str:
    return " ".join(prompt.replace("{}", words).split())
