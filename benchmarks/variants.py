"""The ways to train that are measured against each other, in turns and in one run.

To add one (the engine without a fast path, say), write a function `BaseModel -> Variant` and name
it in VARIANTS. `open` is entered once a phase; what it gives takes a number of updates, and calls
`mark` after each.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace

import torch

from benchmarks.models import num_bytes
from benchmarks.plain_loop import (
    PlainModel,
    add_lora,
    add_words,
    copy_for_plain_loop,
    invert,
    remove_all,
    tune,
)
from training.base_model import BaseModel
from training.batches import TrainingPictures
from training.loop import Phase, Progress, run_phase
from training.lora import lora_layers
from training.pivotal import inversion_phase, tuning_phase
from training.placeholders import Placeholders, new_words
from training.settings import TrainingSettings
from training.trained_lora import TEXT_ENCODER_TARGETS, UNET_TARGETS

Mark = Callable[[], None]
Losses = list[float]
TakeUpdates = Callable[[int, Mark], Losses]
OURS, PLAIN = "ours", "plain loop"


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """`phase`: "inversion" or "tuning"."""

    phase: str
    base: BaseModel
    pictures: TrainingPictures
    settings: TrainingSettings
    seed: int = 0

    def batch_size(self) -> int:
        is_inversion = self.phase == "inversion"
        return (self.settings.inversion if is_inversion else self.settings.tuning).batch_size


@dataclass(frozen=True, kw_only=True)
class Variant:
    """`weight_bytes`: of the models that it keeps on the device."""

    name: str
    weight_bytes: int
    open: Callable[[Lesson], AbstractContextManager[TakeUpdates]]


def ours(base: BaseModel) -> Variant:
    return Variant(
        name=OURS,
        weight_bytes=num_bytes(base.unet, base.text_encoder, base.vae),
        open=_open_ours,
    )


def plain(base: BaseModel) -> Variant:
    model = copy_for_plain_loop(base)

    @contextmanager
    def open_plain(lesson: Lesson) -> Iterator[TakeUpdates]:
        try:
            yield _plain_updates(model, lesson)
        finally:
            remove_all(model, len(lesson.settings.placeholder_tokens))

    return Variant(
        name=PLAIN, weight_bytes=num_bytes(model.unet, model.text_encoder), open=open_plain
    )


# Made in this order, while the base model is as it was loaded. The first is what the others are
# compared with.
VARIANTS: dict[str, Callable[[BaseModel], Variant]] = {OURS: ours, PLAIN: plain}


@contextmanager
def _open_ours(lesson: Lesson) -> Iterator[TakeUpdates]:
    base, settings = lesson.base, lesson.settings
    generator = base.compute.generator(lesson.seed)
    with ExitStack() as stack:
        words = stack.enter_context(new_words(base, settings.placeholder_tokens, generator))
        phase = _our_phase(stack, lesson, words, generator)

        def take_updates(num_updates: int, mark: Mark) -> Losses:
            def project_and_mark(learning_rate: float) -> None:
                phase.project(learning_rate)
                mark()

            timed = replace(phase, num_updates=num_updates, project=project_and_mark)
            return list(run_phase(timed, base, lesson.pictures, generator, _ignore).losses)

        yield take_updates


def _our_phase(
    stack: ExitStack, lesson: Lesson, words: Placeholders, generator: torch.Generator
) -> Phase:
    base, settings = lesson.base, lesson.settings
    if lesson.phase == "inversion":
        return inversion_phase(base, words, settings)
    words.embedding.requires_grad_(False)
    unet_layers, text_layers = (
        stack.enter_context(lora_layers(module, targets, settings.tuning.rank, generator))
        for module, targets in (
            (base.unet, UNET_TARGETS),
            (base.text_encoder, TEXT_ENCODER_TARGETS),
        )
    )
    return tuning_phase(base, settings.tuning, settings.lr_scheduler, unet_layers, text_layers)


def _ignore(progress: Progress) -> None:
    pass


def _plain_updates(model: PlainModel, lesson: Lesson) -> TakeUpdates:
    settings = lesson.settings
    generator = torch.Generator().manual_seed(lesson.seed)
    table = add_words(model, len(settings.placeholder_tokens), generator)
    if lesson.phase == "inversion":

        def take_inversion(num_updates: int, mark: Mark) -> Losses:
            inversion = replace(settings.inversion, num_updates=num_updates)
            shorter = replace(settings, inversion=inversion)
            return invert(model, table, lesson.pictures, shorter, generator, mark)

        return take_inversion
    table.requires_grad_(False)
    groups = add_lora(model, settings.tuning.rank, generator)

    def take_tuning(num_updates: int, mark: Mark) -> Losses:
        tuning = replace(settings.tuning, num_updates=num_updates)
        shorter = replace(settings, tuning=tuning)
        return tune(model, groups, lesson.pictures, shorter, generator, mark)

    return take_tuning
