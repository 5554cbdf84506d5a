"""What grows with what: pictures, resolution, rank, and pictures an update sees."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.floor import count_flops
from benchmarks.machine import say, wait_for
from benchmarks.steps import summarize, take_block
from benchmarks.variants import Lesson, ours
from preprocessing.example import Example
from training.base_model import BaseModel
from training.batches import TrainingPictures, encode_pictures
from training.placeholders import new_words
from training.settings import TrainingInputs, TrainingSettings, translate

NUM_PICTURES = (1, 5, 20, 50, 100, 200)
RANKS = (4, 8, 16, 32, 64, 128)
BATCH_SIZES = (1, 2, 4, 8)
SHARES_OF_NATIVE = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)  # resolutions, where the model can do them
LARGEST_SIDE = 768


@dataclass(frozen=True, kw_only=True)
class Point:
    """One setting of what is varied.

    Attributes:
        work: GFLOP of an update; for `pictures`, how many there are.
        milliseconds: of a tuning update; for `pictures`, of encoding all of them.
        peak_bytes: on CUDA, of the device; else 0.
    """

    value: int
    work: float
    milliseconds: float
    spread_percent: float
    peak_bytes: int


def sweep(
    base: BaseModel, inputs: TrainingInputs, num_updates: int, picture: Path
) -> dict[str, list[Any]]:
    """Take `num_updates` at every point, draw `picture`, and give what the JSON says."""
    points: dict[str, list[Point]] = {
        "pictures": [_encoding(base, inputs, n) for n in NUM_PICTURES]
    }
    points["resolution"] = [
        _update(base, replace(inputs, resolution=side), 1, num_updates, side)
        for side in resolutions(base)
    ]
    points["lora_rank"] = [
        _update(base, replace(inputs, lora_rank=rank), 1, num_updates, rank) for rank in RANKS
    ]
    points["batch_size"] = [_update(base, inputs, size, num_updates, size) for size in BATCH_SIZES]
    draw(points, picture)
    return {name: [vars(point) for point in found] for name, found in points.items()}


def resolutions(base: BaseModel) -> tuple[int, ...]:
    limits = base.card.resolution
    sides = (round(share * limits.native / limits.step) * limits.step for share in SHARES_OF_NATIVE)
    return tuple(s for s in sides if limits.smallest <= s <= min(limits.largest, LARGEST_SIDE))


def _encoding(base: BaseModel, inputs: TrainingInputs, num_pictures: int) -> Point:
    say(f"sweep: {num_pictures} pictures ...")
    settings = translate(inputs)
    encode(base, settings, noise_examples(1, inputs.resolution))  # warm
    examples = noise_examples(num_pictures, inputs.resolution)
    start = time.perf_counter()
    encode(base, settings, examples)
    wait_for(base.compute.device)
    taken = 1000 * (time.perf_counter() - start)
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
    variant = ours(base)
    with variant.open(lesson) as take_updates:
        block = take_block(lesson, variant, [variant], take_updates, num_updates)
    found = summarize([block], batch_size)
    flops = count_flops(base, "tuning", inputs.resolution, batch_size, inputs.lora_rank)
    return Point(
        value=value,
        work=flops / 1e9,
        milliseconds=found.ms_per_update,
        spread_percent=found.spread_percent,
        peak_bytes=found.peak_bytes,
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


def draw(points: dict[str, list[Point]], path: Path) -> None:
    """Cost against work, a panel for each."""
    import matplotlib as mpl  # not every machine that measures can draw

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(points), figsize=(11, 3))
    for axis, (name, found) in zip(axes, points.items(), strict=True):
        axis.plot([p.work for p in found], [p.milliseconds for p in found], marker="o")
        for point in found:
            axis.annotate(str(point.value), (point.work, point.milliseconds), fontsize=7)
        is_encoding = name == "pictures"
        axis.set(
            title=name.replace("_", " "),
            xlabel="pictures" if is_encoding else "GFLOP an update",
            ylabel="ms, encoding all" if is_encoding else "ms an update",
            xlim=(0, None),
            ylim=(0, None),
        )
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
