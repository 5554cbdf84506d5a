"""Time of single updates, of all variants, in turns."""

import itertools
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch

from benchmarks.machine import say, wait_for
from benchmarks.variants import Lesson, TakeUpdates, Variant

NUM_WARM_UP = 2  # updates at the start of every block that are not counted


class Stopwatch:
    """Times between marks: on the GPU's own clock, which nothing has to wait for, or both CPU's."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self.events: list[torch.cuda.Event] = []

    def mark(self) -> None:
        if self.device.type != "cuda":
            self.wall.append(time.perf_counter())
            self.cpu.append(time.process_time())
        elif not torch.cuda.is_current_stream_capturing():  # a graph's capture is no update
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.events.append(event)

    def intervals(self) -> tuple[list[float], list[float]]:
        """Milliseconds between marks, without the warm-up: wall, and of the CPU (none on CUDA)."""
        wait_for(self.device)
        if self.device.type == "cuda":
            pairs = itertools.pairwise(self.events)
            return [a.elapsed_time(b) for a, b in pairs][NUM_WARM_UP - 1 :], []
        wall, cpu = (
            [1000 * (b - a) for a, b in itertools.pairwise(times)]
            for times in (self.wall, self.cpu)
        )
        return wall[NUM_WARM_UP - 1 :], cpu[NUM_WARM_UP - 1 :]


@dataclass(frozen=True, kw_only=True)
class Block:
    """Some updates in a row of one variant.

    Attributes:
        wall_ms, cpu_ms: of each update; the second is empty on CUDA.
        set_up_seconds: what the block took beyond its updates.
        is_whole: the variant gave no marks, so each update is the mean of all, set-up included.
        peak_bytes: on CUDA, of the device, less the weights of the other variants; else 0.
    """

    wall_ms: tuple[float, ...]
    cpu_ms: tuple[float, ...]
    set_up_seconds: float
    is_whole: bool
    peak_bytes: int


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Of one variant in one phase. A step is one picture seen; an update sees `batch_size`.

    Attributes:
        spread_percent: between the quartiles, as a share of the median.
        cpu_ms_per_picture: None on CUDA.
    """

    batch_size: int
    num_updates: int
    ms_per_update: float
    spread_percent: float
    updates_per_second: float
    pictures_per_second: float
    cpu_ms_per_picture: float | None
    set_up_seconds: float
    is_whole: bool
    peak_bytes: int


def measure_phase(
    lesson: Lesson, variants: Sequence[Variant], num_updates: int, num_rounds: int
) -> dict[str, list[Block]]:
    """Blocks of updates, one of each variant a round, after one of each that is not counted.

    Who begins changes from round to round. All learn on; none sees what the others learned.
    """
    blocks: dict[str, list[Block]] = {variant.name: [] for variant in variants}
    said_at = time.monotonic()
    with ExitStack() as stack:
        opened = [(variant, stack.enter_context(variant.open(lesson))) for variant in variants]
        for variant, take_updates in opened:
            take_block(lesson, variant, variants, take_updates, 1)
        for number in range(num_rounds):
            for variant, take_updates in opened if number % 2 else reversed(opened):
                block = take_block(lesson, variant, variants, take_updates, num_updates)
                blocks[variant.name].append(block)
            if time.monotonic() - said_at > 2:
                said_at = time.monotonic()
                say(f"{lesson.phase}: round {number + 1} of {num_rounds}")
    return blocks


def take_block(
    lesson: Lesson,
    variant: Variant,
    variants: Sequence[Variant],
    take_updates: TakeUpdates,
    num_updates: int,
) -> Block:
    device, watch = lesson.base.compute.device, Stopwatch(lesson.base.compute.device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    wait_for(device)
    start, cpu_start = time.perf_counter(), time.process_time()
    take_updates(num_updates + NUM_WARM_UP, watch.mark)
    wall, cpu = watch.intervals()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    is_whole = len(wall) != num_updates
    if is_whole:
        num_taken = num_updates + NUM_WARM_UP
        wall, cpu = [1000 * seconds / num_taken], [1000 * cpu_seconds / num_taken]
    others = sum(other.weight_bytes for other in variants if other is not variant)
    peak = torch.cuda.max_memory_allocated(device) - others if device.type == "cuda" else 0
    return Block(
        wall_ms=tuple(wall),
        cpu_ms=tuple(cpu) if device.type == "cpu" else (),
        set_up_seconds=max(0.0, seconds - sum(wall) / 1000),
        is_whole=is_whole,
        peak_bytes=peak,
    )


def summarize(blocks: Sequence[Block], batch_size: int) -> Summary:
    wall = [ms for block in blocks for ms in block.wall_ms]
    cpu = [ms for block in blocks for ms in block.cpu_ms]
    median = statistics.median(wall)
    low, _, high = statistics.quantiles(wall, n=4) if len(wall) > 1 else (median,) * 3
    return Summary(
        batch_size=batch_size,
        num_updates=len(wall),
        ms_per_update=round(median, 3),
        spread_percent=round(100 * (high - low) / median, 1),
        updates_per_second=round(1000 / median, 3),
        pictures_per_second=round(1000 * batch_size / median, 3),
        cpu_ms_per_picture=round(statistics.median(cpu) / batch_size, 3) if cpu else None,
        set_up_seconds=round(statistics.median(block.set_up_seconds for block in blocks), 3),
        is_whole=any(block.is_whole for block in blocks),
        peak_bytes=max(block.peak_bytes for block in blocks),
    )


def ratios(other: Sequence[Block], first: Sequence[Block]) -> dict[str, float]:
    """How many times the first's time the other takes, round by round: median, least, most.

    CPU time on a CPU, where other work on the machine changes the wall's; else the GPU's own clock.
    """
    of_rounds = []
    for one, two in zip(other, first, strict=True):
        ones, twos = (one.cpu_ms, two.cpu_ms) if one.cpu_ms else (one.wall_ms, two.wall_ms)
        of_rounds.append(statistics.median(ones) / statistics.median(twos))
    return {
        "median": round(statistics.median(of_rounds), 3),
        "least": round(min(of_rounds), 3),
        "most": round(max(of_rounds), 3),
    }
