"""Time of single updates, of all variants, in turns."""

import itertools
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch

from benchmarks.lesson import Lesson, Moment, TakeUpdates, Variant
from benchmarks.machine import say, wait_for

NUM_WARM_UP = 2  # updates at the start of every block that are not counted


class Stopwatch:
    """Times between marks: on the GPU's own clock, which nothing has to wait for, or both CPU's."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self.events: list[torch.cuda.Event] = []
        self.told_peak_bytes = 0  # of another process, if one told

    def mark(self, told: Moment | None = None, /) -> None:
        if told:
            self.wall.append(told.wall)
            self.cpu.append(told.cpu)
            self.told_peak_bytes = told.peak_bytes
        elif self.device.type != "cuda":
            self.wall.append(time.perf_counter())
            self.cpu.append(time.process_time())
        elif not torch.cuda.is_current_stream_capturing():  # a graph's capture is no update
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.events.append(event)

    def intervals(self) -> tuple[list[float], list[float]]:
        """Milliseconds between marks, without the warm-up: wall, and of the CPU (none on CUDA)."""
        wait_for(self.device)
        if self.events:
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
        set_up_seconds: what the block took beyond the usual time of its updates.
        is_whole: the variant gave no marks, so each update is the mean of all, set-up included.
        told_peak_bytes: of the process that the variant runs in; 0: it runs in this one.
    """

    wall_ms: tuple[float, ...]
    cpu_ms: tuple[float, ...]
    set_up_seconds: float
    is_whole: bool
    told_peak_bytes: int


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A variant that is ready, having taken its first block.

    Attributes:
        first_seconds: opening, and what the first block took beyond its updates: capture, compile.
        peak_bytes: on CUDA, of the device, while it was opened and took its first block, with its
            own weights and without what others held; else what another process told, or 0.
    """

    take_updates: TakeUpdates
    block: Block
    first_seconds: float
    peak_bytes: int


@dataclass(frozen=True, kw_only=True)
class Turns:
    """All of one variant in one phase; the first block is none of `blocks`."""

    first_seconds: float
    peak_bytes: int
    blocks: Sequence[Block]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Of one variant in one phase. A step is one picture seen; an update sees `batch_size`.

    Attributes:
        spread_percent: between the quartiles, as a share of the median.
        cpu_ms_per_picture: None on CUDA.
        first_seconds, peak_bytes: as in `Opened`; on a CPU the latter is 0 until it is measured.
        set_up_seconds: of a block other than the first.
    """

    batch_size: int
    num_updates: int
    ms_per_update: float
    spread_percent: float
    updates_per_second: float
    pictures_per_second: float
    cpu_ms_per_picture: float | None
    first_seconds: float
    set_up_seconds: float
    is_whole: bool
    peak_bytes: int


def measure_phase(
    lesson: Lesson, variants: Sequence[Variant], num_updates: int, num_rounds: int
) -> tuple[dict[str, Turns], dict[str, str]]:
    """Blocks of updates, one of each variant a round, after one of each that is not counted.

    Who begins changes from round to round. All learn on; none sees what the others learned.

    Returns:
        Those that could take an update, and why others could not.
    """
    said_at = time.monotonic()
    with ExitStack() as stack:
        opened, failed = open_all(stack, lesson, variants)
        blocks: dict[str, list[Block]] = {name: [] for name in opened}
        for number in range(num_rounds):
            for name in blocks if number % 2 else reversed(blocks):
                blocks[name].append(take_block(lesson, opened[name].take_updates, num_updates))
            if time.monotonic() - said_at > 2:
                said_at = time.monotonic()
                say(f"{lesson.phase}: round {number + 1} of {num_rounds}")
    turns = {
        name: Turns(first_seconds=one.first_seconds, peak_bytes=one.peak_bytes, blocks=blocks[name])
        for name, one in opened.items()
    }
    return turns, failed


def open_all(
    stack: ExitStack, lesson: Lesson, variants: Sequence[Variant]
) -> tuple[dict[str, Opened], dict[str, str]]:
    """Those that could be opened, and why others could not; the first must, as it is judged."""
    opened: dict[str, Opened] = {}
    failed: dict[str, str] = {}
    for variant in variants:
        try:
            opened[variant.name] = open_variant(stack, lesson, variant, 1)
        except Exception as error:  # whatever a compiler or a driver has to say
            if not opened:
                raise
            failed[variant.name] = f"{type(error).__name__}: {str(error).strip()[:500]}"
            say(f"{lesson.phase}: {variant.name} failed: {failed[variant.name]}")
    return opened, failed


def open_variant(stack: ExitStack, lesson: Lesson, variant: Variant, num_updates: int) -> Opened:
    """It is closed with the stack."""
    device = lesson.base.compute.device
    is_cuda = device.type == "cuda"
    if is_cuda:
        torch.cuda.reset_peak_memory_stats(device)
    held_before = torch.cuda.memory_allocated(device) if is_cuda else 0
    start = time.perf_counter()
    take_updates = stack.enter_context(variant.open(lesson))
    wait_for(device)
    opening_seconds = time.perf_counter() - start
    block = take_block(lesson, take_updates, num_updates)
    used = torch.cuda.max_memory_allocated(device) - held_before if is_cuda else 0
    return Opened(
        take_updates=take_updates,
        block=block,
        first_seconds=opening_seconds + block.set_up_seconds,
        peak_bytes=used + variant.weight_bytes if is_cuda else block.told_peak_bytes,
    )


def take_block(lesson: Lesson, take_updates: TakeUpdates, num_updates: int) -> Block:
    device, watch = lesson.base.compute.device, Stopwatch(lesson.base.compute.device)
    num_taken = num_updates + NUM_WARM_UP
    wait_for(device)
    start, cpu_start = time.perf_counter(), time.process_time()
    take_updates(num_taken, watch.mark)
    wall, cpu = watch.intervals()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    is_whole = len(wall) != num_updates
    if is_whole:
        wall, cpu = [1000 * seconds / num_taken], [1000 * cpu_seconds / num_taken]
    return Block(
        wall_ms=tuple(wall),
        cpu_ms=tuple(cpu) if device.type == "cpu" else (),
        set_up_seconds=max(0.0, seconds - num_taken * statistics.median(wall) / 1000),
        is_whole=is_whole,
        told_peak_bytes=watch.told_peak_bytes,
    )


def summarize(turns: Turns, batch_size: int) -> Summary:
    blocks = turns.blocks
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
        first_seconds=round(turns.first_seconds, 3),
        set_up_seconds=round(statistics.median(block.set_up_seconds for block in blocks), 3),
        is_whole=any(block.is_whole for block in blocks),
        peak_bytes=turns.peak_bytes,
    )


def ratios(other: Turns, first: Turns) -> dict[str, float]:
    """How many times the first's time the other takes, round by round: median, least, most.

    CPU time on a CPU, where other work on the machine changes the wall's; else the GPU's own clock.
    """
    of_rounds = []
    for one, two in zip(other.blocks, first.blocks, strict=True):
        ones, twos = (one.cpu_ms, two.cpu_ms) if one.cpu_ms else (one.wall_ms, two.wall_ms)
        of_rounds.append(statistics.median(ones) / statistics.median(twos))
    return {
        "median": round(statistics.median(of_rounds), 3),
        "least": round(min(of_rounds), 3),
        "most": round(max(of_rounds), 3),
    }
