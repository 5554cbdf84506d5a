"""The ways to train that are measured against each other, in turns and in one run.

To add one (the engine without a fast path, say), write a function `BaseModel -> Variant` and name
it in VARIANTS, with why_not=only_on_cuda where a CPU has nothing to gain from it.
"""

import copy
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import torch

from benchmarks import prior_trainer
from benchmarks.lesson import Lesson, Losses, Mark, TakeUpdates, Variant
from benchmarks.models import num_bytes
from benchmarks.plain_loop import (
    PlainModel,
    add_lora,
    add_words,
    copy_for_plain_loop,
    invert,
    remove_all,
    tune,
    undo_changes,
)
from benchmarks.prior_trainer import PRIOR
from training.base_model import BaseModel, skip_divisions
from training.compute import Compute
from training.phase import Phase
from training.pivotal import all_lora_layers, inversion_phase, tuning_phase
from training.placeholders import Placeholders, new_words
from training.updates import NUM_BEFORE_CAPTURE, open_updates

OURS, PLAIN = "ours", "plain loop"
EAGER, RECORDED = "ours, eager", "ours, recorded"
CONTIGUOUS, COMPILED = "ours, not channels last", "ours, compiled"
CUDNN = "ours, cuDNN attention"


def anywhere(compute: Compute) -> str | None:
    return None


def without_checkpoints(compute: Compute) -> str | None:
    return "no checkpoint is left in it" if compute.uses_checkpoints else only_on_cuda(compute)


def only_on_cuda(compute: Compute) -> str | None:
    return None if compute.device.type == "cuda" else "it needs a CUDA device"


@dataclass(frozen=True, kw_only=True)
class Maker:
    """How to make a variant.

    Attributes:
        make: gets the base model as it was loaded. All variants are open at once, so one that
            changes other modules than `ours` does needs a copy of them.
        why_not: gives the reason where it cannot be measured, else None.
        is_on_request: measured only when it is named: it takes minutes to set up, the others leave
            it no memory, or it may fail to be captured, after which nothing is.
    """

    make: Callable[[BaseModel], Variant]
    why_not: Callable[[Compute], str | None] = anywhere
    is_on_request: bool = False


def ours(base: BaseModel) -> Variant:
    return Variant(
        name=OURS,
        weight_bytes=_weight_bytes(base, base),
        open=_open_ours,
    )


def eager(base: BaseModel) -> Variant:
    """Without the fast path: every operation called from Python."""
    compute = replace(base.compute, uses_graphs=False, uses_recordings=False)
    return _of_copy(EAGER, replace(_copy(base), compute=compute))


def recorded(base: BaseModel) -> Variant:
    """A CPU's fast path instead of a GPU's."""
    compute = replace(base.compute, uses_graphs=False, uses_recordings=True)
    return _of_copy(RECORDED, replace(_copy(base), compute=compute))


def contiguous(base: BaseModel) -> Variant:
    """Convolution weights laid out as they are in the file."""
    copied = _copy(base)
    undo_changes(copied.unet)
    skip_divisions(copied.unet)
    return _of_copy(CONTIGUOUS, copied)


def with_cudnn_attention(base: BaseModel) -> Variant:
    """Attention by cuDNN, which torch would choose on an H100."""
    variant = _of_copy(CUDNN, _copy(base))

    @contextmanager
    def open_with(lesson: Lesson) -> Iterator[TakeUpdates]:
        with variant.open(lesson) as take_updates:

            def take(num_updates: int, mark: Mark) -> Losses:
                torch.backends.cuda.enable_cudnn_sdp(True)
                try:
                    return take_updates(num_updates, mark)
                finally:
                    torch.backends.cuda.enable_cudnn_sdp(False)

            yield take

    return replace(variant, open=open_with)


def compiled(base: BaseModel) -> Variant:
    """The UNet by torch.compile, inside the CUDA graph; compiling is the first update's."""
    copied = _copy(base)
    undo_changes(copied.unet)  # a compiler does all that itself, and does not know what One is
    copied.unet.to(memory_format=torch.channels_last)
    copied.unet.compile()
    return _of_copy(COMPILED, copied)


def _copy(base: BaseModel) -> BaseModel:
    unet, text_encoder = copy.deepcopy(base.unet), copy.deepcopy(base.text_encoder)
    return replace(base, unet=unet, text_encoder=text_encoder)


def _of_copy(name: str, copied: BaseModel) -> Variant:
    return Variant(
        name=name,
        weight_bytes=_weight_bytes(copied, copied),
        open=lambda lesson: _open_ours(replace(lesson, base=copied)),
    )


def _weight_bytes(model: BaseModel | PlainModel, base: BaseModel) -> int:
    """With the VAE, which they all need first."""
    return num_bytes(model.unet, model.text_encoder, base.vae)


def plain(base: BaseModel) -> Variant:
    model = copy_for_plain_loop(base)

    @contextmanager
    def open_plain(lesson: Lesson) -> Iterator[TakeUpdates]:
        try:
            yield _plain_updates(model, lesson)
        finally:
            remove_all(model, len(lesson.settings.placeholder_tokens))

    return Variant(name=PLAIN, weight_bytes=_weight_bytes(model, base), open=open_plain)


# Made in this order, while the base model is as it was loaded. The first is what the others are
# compared with.
VARIANTS = {
    OURS: Maker(make=ours),
    EAGER: Maker(make=eager),
    CONTIGUOUS: Maker(make=contiguous, why_not=only_on_cuda),
    CUDNN: Maker(make=with_cudnn_attention, why_not=only_on_cuda, is_on_request=True),
    RECORDED: Maker(make=recorded, why_not=without_checkpoints, is_on_request=True),
    COMPILED: Maker(make=compiled, why_not=only_on_cuda, is_on_request=True),
    PLAIN: Maker(make=plain),
    PRIOR: Maker(make=prior_trainer.prior, why_not=prior_trainer.why_not),
}


def variants_for(
    compute: Compute, names: Collection[str]
) -> tuple[dict[str, Callable[[BaseModel], Variant]], dict[str, str]]:
    """What can be measured there, ours always, and why the rest is left out.

    Args:
        names: none: all but those on request.
    """
    chosen: dict[str, Callable[[BaseModel], Variant]] = {}
    left_out: dict[str, str] = {}
    for name, maker in VARIANTS.items():
        reason = maker.why_not(compute)
        if not reason and name not in {OURS, *names} and (names or maker.is_on_request):
            reason = f'not asked for: --variant "{name}"'
        if reason:
            left_out[name] = reason
        else:
            chosen[name] = maker.make
    return chosen, left_out


@contextmanager
def _open_ours(lesson: Lesson) -> Iterator[TakeUpdates]:
    base, settings = lesson.base, lesson.settings
    generator = base.compute.generator(lesson.seed)
    with ExitStack() as stack:
        words = stack.enter_context(new_words(base, settings.placeholder_tokens, generator))
        phase = _our_phase(stack, lesson, words, generator)

        def take_updates(num_updates: int, mark: Mark) -> Losses:
            num_before = NUM_BEFORE_CAPTURE + 1 if base.compute.uses_graphs else 0
            longer = replace(phase, num_updates=num_before + num_updates)
            with open_updates(longer, base, lesson.pictures, generator) as updates:
                for number in range(longer.num_updates):
                    updates.take()
                    if number >= num_before:
                        mark()
                if updates.capture_error:  # or these would be the figures of EAGER
                    raise updates.capture_error
                losses: Losses = updates.losses.tolist()
            return losses

        yield take_updates


def _our_phase(
    stack: ExitStack, lesson: Lesson, words: Placeholders, generator: torch.Generator
) -> Phase:
    base, settings = lesson.base, lesson.settings
    if lesson.phase == "inversion":
        return inversion_phase(base, words, settings)
    words.embedding.requires_grad_(False)
    unet, text = stack.enter_context(all_lora_layers(base, settings.tuning.rank, generator))
    return tuning_phase(base, settings.tuning, settings.lr_scheduler, unet.flat, text.flat)


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
