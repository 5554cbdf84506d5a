"""The base model made ready for a phase, without running it."""

from collections.abc import Iterator
from contextlib import contextmanager

from preprocessing.example import Example
from training.base_model import BaseModel
from training.batches import TrainingPictures, encode_pictures
from training.phase import Phase
from training.pivotal import all_lora_layers, inversion_phase, tuning_phase
from training.placeholders import new_words
from training.settings import TrainingSettings


@contextmanager
def open_lesson(
    base: BaseModel, examples: list[Example], settings: TrainingSettings, name: str
) -> Iterator[tuple[Phase, TrainingPictures]]:
    """`name`: "inversion" or "tuning"."""
    generator = base.compute.generator(0)
    with new_words(base, settings.placeholder_tokens, generator) as words:
        pictures = encode_pictures(base, examples, words.tokenize, mirror=True)
        if name == "inversion":
            yield inversion_phase(base, words, settings), pictures
            return
        words.embedding.rows.requires_grad_(False)
        tuning = settings.tuning
        with all_lora_layers(base, 4, generator) as (unet, text_encoder):
            yield tuning_phase(base, tuning, "constant", unet.flat, text_encoder.flat), pictures
