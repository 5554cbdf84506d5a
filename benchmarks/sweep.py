"""What grows with what: pictures, resolution, rank, and pictures an update sees."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from benchmarks.floor import count_flops
from benchmarks.lesson import Lesson
from benchmarks.machine import say, wait_for
from benchmarks.steps import Turns, open_variant, summarize
from benchmarks.variants import ours
from preprocessing.example import Example
from training.base_model import BaseModel
from training.batches import TrainingPictures, encode_pictures
from training.placeholders import new_words
from training.settings import TrainingInputs, TrainingSettings, translate

NUM_PICTURES = (1, 5, 20, 50, 100, 200)
RANKS = (4, 8, 16, 32, 64, 128)
BATCH_SIZES = (1, 2, 4, 8)
SHARES_OF_NATIVE = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)  # resolutions, where the model can do them
SMALLEST_SIDE, LARGEST_SIDE = 64, 768


@dataclass(frozen=True, kw_only=True)
class Point:
    """One setting of what is varied.

    Attributes:
        work: GFLOP of an update; for `pictures`, how many there are.
        milliseconds: of the fastest tuning update, as other work on the machine only adds; for
            `pictures`, of encoding all of them. On a CPU its time, not the wall's.
        spread_percent: of all updates.
        peak_bytes: on CUDA, of the device; else 0.
    """

    value: int
    work: float
    milliseconds: float
    spread_percent: float
    peak_bytes: int


def sweep(
    base: BaseModel, inputs: TrainingInputs, num_updates: int, num_points: int
) -> Iterator[tuple[str, list[Point]]]:
    """What is varied, and its first `num_points` with `num_updates` at each; one by one."""
    yield "pictures", [_encoding(base, inputs, number) for number in NUM_PICTURES[:num_points]]
    sides = resolutions(base)[:num_points]
    at_sides = [(side, replace(inputs, resolution=side)) for side in sides]
    yield "resolution", [_update(base, one, 1, num_updates, side) for side, one in at_sides]
    with_ranks = [(rank, replace(inputs, lora_rank=rank)) for rank in RANKS[:num_points]]
    yield "lora_rank", [_update(base, one, 1, num_updates, rank) for rank, one in with_ranks]
    sizes = BATCH_SIZES[:num_points]
    yield "batch_size", [_update(base, inputs, size, num_updates, size) for size in sizes]


def resolutions(base: BaseModel) -> tuple[int, ...]:
    limits = base.card.resolution
    sides = (round(share * limits.native / limits.step) * limits.step for share in SHARES_OF_NATIVE)
    smallest = max(limits.smallest, SMALLEST_SIDE)
    return tuple(s for s in sides if smallest <= s <= min(limits.largest, LARGEST_SIDE))


def _encoding(base: BaseModel, inputs: TrainingInputs, num_pictures: int) -> Point:
    say(f"sweep: {num_pictures} pictures ...")
    settings = translate(inputs)
    examples = noise_examples(num_pictures, inputs.resolution)
    encode(base, settings, examples[:5])  # warm: batches of each size that will come
    clock = time.process_time if base.compute.device.type == "cpu" else time.perf_counter
    start = clock()
    encode(base, settings, examples)
    wait_for(base.compute.device)
    taken = 1000 * (clock() - start)
    return Point(
        value=num_pictures,
        work=num_pictures,
        milliseconds=round(taken, 1),
        spread_percent=0.0,
        peak_bytes=0,
    )


def _update(
    base: BaseModel, inputs: TrainingInputs, batch_size: int, num_updates: int, value: int
) -> Point:
    say(f"sweep: {inputs.resolution} pixels, rank {inputs.lora_rank}, {batch_size} an update ...")
    settings = translate(inputs)
    settings = replace(settings, tuning=replace(settings.tuning, batch_size=batch_size))
    pictures = encode(base, settings, noise_examples(4, inputs.resolution))
    lesson = Lesson(phase="tuning", base=base, pictures=pictures, settings=settings)
    with ExitStack() as stack:
        opened = open_variant(stack, lesson, ours(base), num_updates)
    turns = Turns(first_seconds=0.0, peak_bytes=0, blocks=(opened.block,))
    flops = count_flops(base, "tuning", inputs.resolution, batch_size, inputs.lora_rank)
    return Point(
        value=value,
        work=flops / 1e9,
        milliseconds=round(min(opened.block.cpu_ms or opened.block.wall_ms), 3),
        spread_percent=summarize(turns, batch_size).spread_percent,
        peak_bytes=opened.peak_bytes,
    )


def encode(
    base: BaseModel, settings: TrainingSettings, examples: Sequence[Example]
) -> TrainingPictures:
    with new_words(base, settings.placeholder_tokens, base.compute.generator(0)) as words:
        return encode_pictures(base, examples, words.tokenize, mirror=settings.mirror)


def noise_examples(num: int, side: int) -> tuple[Example, ...]:
    random = np.random.default_rng(0)
    return tuple(
        Example(
            image=Image.fromarray(random.integers(0, 256, (side, side, 3), dtype=np.uint8)),
            mask=None,
            prompts=("a photo of {}",),
        )
        for _ in range(num)
    )
