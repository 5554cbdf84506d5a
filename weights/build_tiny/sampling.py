"""Pictures from prompts, and sheets of pictures."""

from pathlib import Path

import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from PIL import Image, ImageDraw

NUM_STEPS = 20
GUIDANCE = 4.0
TILE = 128  # pixels a side on a sheet: twice the model's size
LABEL_HEIGHT = 14
MAX_LABEL = 22  # characters that fit over a tile
PALETTE = 128  # colours: keeps a sheet under 300 kB


def sample(
    pipeline: StableDiffusionPipeline, prompts: list[str], first_seed: int
) -> list[Image.Image]:
    """One 64-pixel picture per prompt; the i-th has the seed `first_seed + i`."""
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    seeds = range(first_seed, first_seed + len(prompts))
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    images: list[Image.Image] = pipeline(
        prompts, num_inference_steps=NUM_STEPS, guidance_scale=GUIDANCE, generator=generators
    ).images
    return images


def write_sheet(
    images: list[Image.Image], num_columns: int, labels: list[str] | None, path: Path
) -> None:
    """The images row by row, each under its label if there are labels."""
    header = LABEL_HEIGHT if labels else 0
    num_rows = -(-len(images) // num_columns)
    sheet = Image.new("RGB", (num_columns * TILE, num_rows * (TILE + header)), "white")
    pencil = ImageDraw.Draw(sheet)
    for i, image in enumerate(images):
        x, y = i % num_columns * TILE, i // num_columns * (TILE + header)
        sheet.paste(image.resize((TILE, TILE), Image.Resampling.BICUBIC), (x, y + header))
        if labels:
            pencil.text((x + 2, y + 1), labels[i][:MAX_LABEL], fill="black")
    sheet.quantize(PALETTE, dither=Image.Dither.NONE).save(path, optimize=True)
