"""Pictures from a base model, with or without a LoRA file on it."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from PIL import Image
from torch import Tensor

from training.base_model import BaseModel

NUM_STEPS = 20
GUIDANCE_SCALE = 2.0  # a tuned model needs less than the base: more burns its colours
BATCH_SIZE = 8  # pictures sampled at once


def build_pipeline(base: BaseModel) -> StableDiffusionPipeline:
    """diffusers' own pipeline around the base's parts: what is loaded into it is on them."""
    pipeline = StableDiffusionPipeline(
        vae=base.vae,
        text_encoder=base.text_encoder,
        tokenizer=base.tokenizer,
        unet=base.unet,
        scheduler=DPMSolverMultistepScheduler.from_config(base.noise_scheduler.config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sample(
    pipeline: StableDiffusionPipeline,
    base: BaseModel,
    prompts: Sequence[str],
    seeds: Sequence[int],
    resolution: int,
    tell: Callable[[], None] = lambda: None,
) -> list[Image.Image]:
    """One picture for each prompt and seed; the same ones give the same noise to start from.

    Args:
        tell: called after every step of denoising, which are NUM_STEPS for each BATCH_SIZE.
    """

    def after_step(_: object, step: int, timestep: object, tensors: dict[str, Tensor]) -> Any:
        tell()
        return tensors

    images: list[Image.Image] = []
    for start in range(0, len(prompts), BATCH_SIZE):
        part = slice(start, start + BATCH_SIZE)
        with torch.no_grad(), base.compute.autocast():
            latents = pipeline(
                prompt=list(prompts[part]),
                generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds[part]],
                num_inference_steps=NUM_STEPS,
                guidance_scale=GUIDANCE_SCALE,
                height=resolution,
                width=resolution,
                output_type="latent",
                callback_on_step_end=after_step,
            ).images
        images.extend(decode(base, latents))
    return images


@torch.no_grad()
def decode(base: BaseModel, latents: Tensor) -> list[Image.Image]:
    """(b, c, h, w) scaled latents -> RGB images, in the VAE's own float32."""
    pixels = base.vae.decode(latents.float() / base.vae.config.scaling_factor).sample
    pixels = ((pixels.clamp(-1, 1) + 1) * 127.5).round().byte()
    return [Image.fromarray(np.asarray(one.permute(1, 2, 0).cpu())) for one in pixels]
