"""The base model beside the same model with the file that was written, as diffusers loads it."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from diffusers import StableDiffusionPipeline
from PIL import Image

from cli.measure import asked_for, fix_draws, measure_loss, prompts_with
from cli.progress import telling
from cli.sampling import NUM_STEPS, build_pipeline, sample
from cli.showcase import NUM_COLUMNS, Scene
from preprocessing.example import Example
from training.base_model import BaseModel
from training.formats import load, unload

logger = logging.getLogger(__name__)

NO_WORDS = ""  # the base model does not know the trained words: it gets the prompt without them


@dataclass(frozen=True, kw_only=True)
class Impression:
    """One model's answers.

    Attributes:
        losses: mean denoising loss of each draw.
        samples: one row of pictures for each scene.
    """

    words: str
    losses: tuple[float, ...]
    samples: tuple[tuple[Image.Image, ...], ...]

    @property
    def loss(self) -> float:
        return sum(self.losses) / len(self.losses)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Before and after, asked the same."""

    before: Impression
    after: Impression


def compare(
    base: BaseModel,
    path: Path,
    words: str,
    examples: Sequence[Example],
    scenes: Sequence[Scene],
) -> Comparison:
    """Ask the base model, put the file on it, ask again, and take it off."""
    pipeline = build_pipeline(base)
    draws = fix_draws(base, examples)
    resolution = examples[0].image.width
    tell = telling("drawing", 2 * len(scenes) * NUM_STEPS)

    def look(words: str) -> Impression:
        logger.info("measuring the loss on %d pictures", len(examples))
        return Impression(
            words=words,
            losses=measure_loss(base, draws, prompts_with(examples, words)),
            samples=tuple(
                sample_scene(pipeline, base, scene, words, resolution, tell) for scene in scenes
            ),
        )

    before = look(NO_WORDS)
    try:
        load(pipeline, path)
        after = look(words)
    finally:
        unload(pipeline)
    return Comparison(before=before, after=after)


def sample_scene(
    pipeline: StableDiffusionPipeline,
    base: BaseModel,
    scene: Scene,
    words: str,
    resolution: int,
    tell: Callable[[], None],
) -> tuple[Image.Image, ...]:
    """Column by column the same seed, whatever the words."""
    who = "trained" if words else "base"
    logger.info("drawing %d samples of the %s model", NUM_COLUMNS, who)
    prompts = [asked_for(prompt, words) for prompt in scene.prompts]
    return tuple(sample(pipeline, base, prompts, range(NUM_COLUMNS), resolution, tell))
