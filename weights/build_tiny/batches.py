"""What the denoiser sees: random batches to learn from, fixed ones to compare losses on."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import CLIPTokenizer

from weights.build_tiny.captions import draw_caption, fixed_caption
from weights.build_tiny.latents import Example
from weights.build_tiny.models import read_captions
from weights.build_tiny.sets import STYLE_WEIGHTS, common_concepts

COMMON_WEIGHT = 3.0
COLOURED_WEIGHT = 0.4
NUM_COMPARED = 64


@dataclass(frozen=True, kw_only=True)
class Batch:
    """b latents (b, 4, 16, 16) with their noise, timesteps (b,) and captions (b, 77)."""

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    input_ids: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        return Batch(
            latents=self.latents.to(device),
            noise=self.noise.to(device),
            timesteps=self.timesteps.to(device),
            input_ids=self.input_ids.to(device),
        )


def drawing_chances(examples: list[Example]) -> npt.NDArray[np.float64]:
    """(n,) how likely each is drawn: clean styles, common concepts and white more often."""
    common = set(common_concepts())
    weights = np.array(
        [
            STYLE_WEIGHTS[example.style]
            * (COMMON_WEIGHT if example.concept in common else 1.0)
            * (1.0 if example.background is None else COLOURED_WEIGHT)
            for example in examples
        ]
    )
    return weights / weights.sum()


def draw_timesteps(num_timesteps: int, random: np.random.Generator) -> Tensor:
    """(n,) one timestep from each of n equal parts of the schedule, in random order."""
    timesteps = (np.arange(num_timesteps) + random.random(num_timesteps)) / num_timesteps * 1000
    return torch.from_numpy(random.permutation(timesteps)).long().clamp(0, 999)


def draw_batch(
    group: tuple[Tensor, list[Example]],
    chances: npt.NDArray[np.float64],
    tokenizer: CLIPTokenizer,
    size: int,
    random: np.random.Generator,
) -> Batch:
    """`size` random examples with new captions, noise and timesteps."""
    latents, examples = group
    chosen = random.choice(len(examples), size, p=chances)
    captions = [
        draw_caption(examples[i].concept, examples[i].style, examples[i].background, random)
        for i in chosen
    ]
    noise = random.standard_normal((size, *latents.shape[1:]), dtype=np.float32)
    return Batch(
        latents=latents[chosen],
        noise=torch.from_numpy(noise),
        timesteps=draw_timesteps(size, random),
        input_ids=read_captions(tokenizer, captions),
    )


def fixed_batch(group: tuple[Tensor, list[Example]], tokenizer: CLIPTokenizer) -> Batch:
    """The same examples, noise, timesteps and captions at every call, to compare losses on."""
    latents, examples = group
    random = np.random.default_rng(1)
    on_white = [i for i, example in enumerate(examples) if example.background is None]
    chosen = random.permutation(on_white)[:NUM_COMPARED]
    captions = [fixed_caption(examples[i].concept, examples[i].style) for i in chosen]
    noise = random.standard_normal((len(chosen), *latents.shape[1:]), dtype=np.float32)
    return Batch(
        latents=latents[chosen],
        noise=torch.from_numpy(noise),
        timesteps=torch.linspace(20, 980, len(chosen)).long(),
        input_ids=read_captions(tokenizer, captions),
    )
