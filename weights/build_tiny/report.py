"""Show what the model can do: sheets of samples, loss curves, the autoencoder's faithfulness."""

import json
import logging
import math
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from PIL import Image
from torch import Tensor

from weights.build_tiny.captions import WHITE, concept_words, fixed_caption, with_article
from weights.build_tiny.latents import GROUPS, group_of, to_pixel_values
from weights.build_tiny.pictures import halve, load_pictures, place_on
from weights.build_tiny.sampling import sample, write_sheet
from weights.build_tiny.sets import TRAINED_STYLES

logger = logging.getLogger(__name__)

NUM_MEASURED = 48
COMMON = (
    *("dog", "cat", "apple", "car", "house", "tree", "heart", "star"),
    *("sun", "banana", "fish", "bird", "strawberry", "tiger", "panda", "frog"),
    *("mushroom", "rainbow", "lemon", "pizza", "umbrella", "basketball", "airplane", "rose"),
)
STYLE_CONCEPTS = (
    *("dog-face", "cat-face", "red-apple", "house", "automobile", "star", "tulip", "fish"),
    *("pizza", "owl", "rocket", "crown"),
)
# Twelve pairs that no caption has; styles; plain words; two things at once, and hardly anything.
COMBINATIONS = (
    *("a blue house", "a green star", "a purple apple", "a red frog", "a blue tree", "a pink car"),
    *("a red apple on a blue background", "a cat on a pink background"),
    *("a star on a black background", "a dog on a green background"),
    *("a heart on a yellow background", "a fish on an orange background"),
    *("a dog in the style of twemoji", "a dog in the style of glossy"),
    *("a tree in the style of firefox", "a painting of a cat"),
    *("a rendering of a banana", "an illustration of a rose"),
    *("a cat and a dog", "an apple and a banana", "a person", "a fruit", "an animal", ""),
)


def sample_common(pipeline: StableDiffusionPipeline, path: Path) -> None:
    """24 everyday things by plain prompts, no labels, nothing picked."""
    starts = ("a photo of", "an icon of")
    prompts = [f"{starts[i % 2]} {with_article(word)}" for i, word in enumerate(COMMON)]
    write_sheet(sample(pipeline, prompts, 0), 8, None, path)


def sample_styles(pipeline: StableDiffusionPipeline, path: Path) -> None:
    """The trained styles row by row; a column has one concept and one seed."""
    images, labels = [], []
    for style in TRAINED_STYLES:
        prompts = [fixed_caption(concept, style) for concept in STYLE_CONCEPTS]
        images += sample(pipeline, prompts, 100)
        labels += [f"{style}: {concept_words(concept)}" for concept in STYLE_CONCEPTS]
    write_sheet(images, len(STYLE_CONCEPTS), labels, path)


def sample_combinations(pipeline: StableDiffusionPipeline, path: Path) -> None:
    """Colours, backgrounds and styles put together anew."""
    write_sheet(sample(pipeline, list(COMBINATIONS), 200), 6, list(COMBINATIONS), path)


def measured_images(work: Path) -> dict[str, Tensor]:
    """By group, up to 48 random pictures on white, (n, 3, 64, 64) in [-1, 1]."""
    names, pictures = load_pictures(work)
    random = np.random.default_rng(0)
    images = {}
    for group in GROUPS:
        members = [i for i, name in enumerate(names) if group_of(name) == group]
        chosen = random.permutation(members)[:NUM_MEASURED]
        images[group] = to_pixel_values([halve(place_on(pictures[i], WHITE)) for i in chosen])
    return images


def to_pillow(pixel_values: Tensor) -> list[Image.Image]:
    """(n, 3, h, w) in [-1, 1] -> n images."""
    bytes_ = ((pixel_values.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in bytes_]


@torch.no_grad()
def measure_autoencoder(vae: AutoencoderKL, work: Path, path: Path) -> dict[str, float]:
    """PSNR in dB by group; a sheet with rows of originals over their reconstructions."""
    decibels, rows = {}, []
    for group, originals in measured_images(work).items():
        copies = vae.decode(vae.encode(originals).latent_dist.mean).sample.clamp(-1, 1)
        decibels[group] = round(10 * math.log10(4 / (copies - originals).pow(2).mean().item()), 2)
        rows += to_pillow(originals[:12]) + to_pillow(copies[:12])
    write_sheet(rows, 12, None, path)
    return decibels


def draw_losses(denoiser_folder: Path, path: Path) -> None:
    """The three losses over the steps."""
    from matplotlib.figure import Figure  # only this stage needs it

    rows = json.loads((denoiser_folder / "losses.json").read_text(encoding="utf-8"))
    figure = Figure(figsize=(7, 4), dpi=90)
    axes = figure.add_subplot(xlabel="step", ylabel="denoising loss (fixed noise and timesteps)")
    for group in GROUPS:
        axes.plot([row["step"] for row in rows], [row[group] for row in rows], label=group)
    axes.legend()
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path)


def write_report(work: Path) -> None:
    """All sheets and figures, into work/tiny."""
    folder = work / "tiny"
    pipeline = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True).to(
        dtype=torch.float32
    )
    draw_losses(work / "denoiser", folder / "losses.png")
    decibels = measure_autoencoder(pipeline.vae, work, folder / "autoencoder.png")
    logger.info("report: autoencoder PSNR in dB %s", decibels)
    (work / "autoencoder_psnr.json").write_text(json.dumps(decibels), encoding="utf-8")
    sample_common(pipeline, folder / "samples_common.png")
    sample_styles(pipeline, folder / "samples_styles.png")
    sample_combinations(pipeline, folder / "samples_combinations.png")
