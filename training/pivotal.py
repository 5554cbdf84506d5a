"""Pivotal tuning: find a word for the subject, then bend the model around that word.

Textual inversion (Gal et al. 2022) first finds embeddings for new words; they are the pivot. LoRA
(Hu et al. 2021) on UNet and text encoder then learns what no words of the base model can say,
with the embeddings fixed (Roich et al. 2021; the recipe is the prior service's).
"""

import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from preprocessing.example import Example
from training.base_model import BaseModel
from training.batches import TrainingPictures, encode_pictures
from training.forecast import PhaseForecast, forecast_phase, in_words, require_time
from training.loop import run_phase
from training.lora import LoraLayers, lora_layers, remove_lora_layers
from training.phase import Phase, PhaseHistory, Report
from training.placeholders import Placeholders, new_words
from training.recording import pays
from training.settings import LrScheduler, TrainingSettings, TuningSettings
from training.trained_lora import (
    TEXT_ENCODER_TARGETS,
    UNET_TARGETS,
    LoraPair,
    TrainedLora,
    canonical_text_encoder_path,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """What was learned, and how each phase went."""

    lora: TrainedLora
    histories: tuple[PhaseHistory, ...]


def train(
    base: BaseModel,
    examples: Sequence[Example],
    settings: TrainingSettings,
    report: Report,
    max_seconds: float = math.inf,
) -> Trained:
    """Learn a LoRA and its trigger words from the examples; the base model is left as it was.

    Raises:
        TooLongError: when it would take more than `max_seconds`; told before it starts.
        TrainingDivergedError: when a loss becomes NaN or infinite.
    """
    last_second = time.monotonic() + max_seconds
    generator = base.compute.generator(settings.seed)
    for part in (base.unet, base.text_encoder):
        remove_lora_layers(part)  # of a run that was cancelled while it did so itself
    with new_words(base, settings.placeholder_tokens, generator) as placeholders:
        pictures = encode_pictures(base, examples, placeholders.tokenize, mirror=settings.mirror)
        logger.info("pictures: %d, variants of each: %d", *pictures.latent_means.shape[:2])
        expected = forecast(base, placeholders, pictures, settings)
        logger.info("expected time: about %s", in_words(sum(e.seconds for e in expected)))
        require_time(expected, last_second - time.monotonic())
        inversion = inversion_phase(base, placeholders, settings)
        inverted = run_phase(inversion, base, pictures, generator, report)
        placeholders.embedding.rows.requires_grad_(False)
        lora, tuned = _tune(base, placeholders, pictures, settings, generator, report)
    return Trained(lora, (inverted, tuned))


def forecast(
    base: BaseModel,
    placeholders: Placeholders,
    pictures: TrainingPictures,
    settings: TrainingSettings,
) -> tuple[PhaseForecast, ...]:
    """Rehearse both phases; nothing of it remains."""
    inversion = inversion_phase(base, placeholders, settings)
    expected = [forecast_phase(inversion, base, pictures)]
    with all_lora_layers(base, settings.tuning.rank, base.compute.generator(0)) as (unet, text):
        tuning = tuning_phase(base, settings.tuning, settings.lr_scheduler, unet.flat, text.flat)
        expected.append(forecast_phase(tuning, base, pictures))
    placeholders.embedding.rows.requires_grad_(True)  # PEFT froze all that it found
    return tuple(expected)


@contextmanager
def all_lora_layers(
    base: BaseModel, rank: int, generator: torch.Generator
) -> Iterator[tuple[LoraLayers, LoraLayers]]:
    """The UNet's and the text encoder's."""
    how = {"across_blocks": not base.compute.uses_checkpoints}
    with (
        lora_layers(base.unet, UNET_TARGETS, rank, generator, **how) as unet_layers,
        lora_layers(base.text_encoder, TEXT_ENCODER_TARGETS, rank, generator, **how) as text_layers,
    ):
        yield unet_layers, text_layers


def lora_without_numbers(base: BaseModel) -> TrainedLora:
    """The layers that `train` will hand back, with rank 1, no words and no memory."""

    def pairs(module: nn.Module, targets: tuple[str, ...]) -> dict[str, LoraPair]:
        ends = tuple(f".{target}" for target in targets)
        layers = (
            (path.removesuffix(".base_layer"), layer)  # of a run that was cancelled, as in `train`
            for path, layer in module.named_modules()
            if isinstance(layer, nn.Linear)
        )
        return {
            path: LoraPair(
                down=torch.empty(1, layer.in_features, device="meta"),
                up=torch.empty(layer.out_features, 1, device="meta"),
            )
            for path, layer in layers
            if path.endswith(ends)
        }

    text_encoder = pairs(base.text_encoder, TEXT_ENCODER_TARGETS)
    return TrainedLora(
        embeddings={},
        unet=pairs(base.unet, UNET_TARGETS),
        text_encoder={canonical_text_encoder_path(path): p for path, p in text_encoder.items()},
        rank=1,
    )


def _tune(
    base: BaseModel,
    placeholders: Placeholders,
    pictures: TrainingPictures,
    settings: TrainingSettings,
    generator: torch.Generator,
    report: Report,
) -> tuple[TrainedLora, PhaseHistory]:
    rank = settings.tuning.rank
    with all_lora_layers(base, rank, generator) as (unet_layers, text_layers):
        phase = tuning_phase(
            base, settings.tuning, settings.lr_scheduler, unet_layers.flat, text_layers.flat
        )
        history = run_phase(phase, base, pictures, generator, report)
        text_encoder = {
            canonical_text_encoder_path(path): pair for path, pair in text_layers.pairs().items()
        }
        rows = placeholders.embedding.rows.detach().float().cpu().clone()
        lora = TrainedLora(
            embeddings=dict(zip(placeholders.tokens, rows, strict=True)),
            unet=unet_layers.pairs(),
            text_encoder=text_encoder,
            rank=rank,
        )
    return lora, history


def inversion_phase(
    base: BaseModel, placeholders: Placeholders, settings: TrainingSettings
) -> Phase:
    """Only the placeholder rows learn; after each update their norms are pulled to the target."""
    inversion = settings.inversion
    embedding = placeholders.embedding
    return Phase(
        name="inversion",
        num_updates=inversion.num_updates,
        batch_size=inversion.batch_size,
        parameter_groups=[
            {"params": [embedding.rows], "lr": inversion.learning_rate, "weight_decay": 0.0}
        ],
        lr_scheduler=settings.lr_scheduler,
        min_timestep=0,
        max_timestep=base.noise_scheduler.config.num_train_timesteps,
        advice="learning_rate_ti",
        is_recorded=pays(inversion.num_updates),
        # A tenth of the way at the default rate: the prior service's clip_ti_decay.
        project=lambda lr: embedding.pull_norms(
            base.card.placeholder_norm, (100 * lr).clamp(max=1.0)
        ),
    )


def tuning_phase(
    base: BaseModel,
    tuning: TuningSettings,
    lr_scheduler: LrScheduler,
    unet_lora: nn.Parameter,
    text_lora: nn.Parameter,
) -> Phase:
    """Only the LoRA matrices learn."""
    groups = (
        (unet_lora, tuning.unet_learning_rate),
        (text_lora, tuning.text_learning_rate),
    )
    return Phase(
        name="tuning",
        num_updates=tuning.num_updates,
        batch_size=tuning.batch_size,
        parameter_groups=[
            {"params": [parameter], "lr": rate, "weight_decay": tuning.weight_decay}
            for parameter, rate in groups
        ],
        lr_scheduler=lr_scheduler,
        min_timestep=0,
        max_timestep=int(
            tuning.max_timestep_fraction * base.noise_scheduler.config.num_train_timesteps
        ),
        advice="learning_rate_unet or learning_rate_text",
        max_grad_norm=tuning.max_grad_norm,
        is_recorded=pays(tuning.num_updates),
    )
