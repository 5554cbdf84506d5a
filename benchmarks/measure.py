"""All figures of one model: phases against each other and the floor, memory, and a whole job."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.floor import count_flops
from benchmarks.lesson import Lesson, Variant
from benchmarks.machine import REPOSITORY, measure_peak_flops, peak_of_this_process, say
from benchmarks.models import OpenedModel
from benchmarks.steps import Turns, measure_phase, open_variant, ratios, summarize
from benchmarks.variants import OURS, VARIANTS, variants_for
from benchmarks.whole_job import measure_whole_job
from preprocessing.prepare import prepare_examples
from training.base_model import BaseModel
from training.batches import encode_pictures
from training.placeholders import new_words
from training.settings import TrainingInputs, translate

PHASES = ("inversion", "tuning")
Report = dict[str, Any]  # as the JSON has it


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure.

    Attributes:
        model: as `open_model` knows it.
        archive: a zip of pictures.
        num_updates, num_rounds: each variant takes so many updates in a row, so often.
        job_seconds: for the training of the whole job, at most; 0: no whole job.
        memory: of which variants peak memory is measured on a CPU, each in a process of its own:
            "all", "ours" or "none".
        variants: their names; none: all but those on request.
    """

    model: str
    archive: Path
    inputs: TrainingInputs
    num_updates: int
    num_rounds: int
    job_seconds: float
    memory: str
    variants: tuple[str, ...]


def measure(model: OpenedModel, plan: Plan, keep: Callable[[Report], None]) -> Report:
    """`keep` gets what was found so far, after each phase."""
    base = model.base
    makers, left_out = variants_for(base.compute, plan.variants)
    report: Report = {
        "model": model.name,
        "resolution": plan.inputs.resolution,
        "lora_rank": plan.inputs.lora_rank,
        "set_up_seconds": round(model.seconds, 2),
        "peak_flops_per_second": measure_peak_flops(base.compute),
        "phases": {},
        "whole_job": None,
        "left_out": left_out,
    }
    variants = [make(base) for make in makers.values()]
    for phase in PHASES:
        report["phases"][phase] = measure_one_phase(base, plan, phase, variants, report)
        keep(report)
    del variants  # their weights are none of the job's memory
    if plan.job_seconds:
        ours = [report["phases"][phase]["variants"][OURS] for phase in PHASES]
        ms_per_step = [found["ms_per_update"] / found["batch_size"] for found in ours]
        job = measure_whole_job(base, plan.archive, plan.inputs, ms_per_step, plan.job_seconds)
        report["whole_job"] = asdict(job)
    keep(report)
    return report


def measure_one_phase(
    base: BaseModel, plan: Plan, phase: str, variants: Sequence[Variant], report: Report
) -> Report:
    lesson = make_lesson(base, plan, phase)
    say(f"{phase}: {plan.num_rounds} rounds of {plan.num_updates} updates ...")
    turns, failed = measure_phase(lesson, variants, plan.num_updates, plan.num_rounds)
    report["left_out"] |= {f"{name} ({phase})": why for name, why in failed.items()}
    described = describe_phase(lesson, plan, turns, report["peak_flops_per_second"])
    if base.compute.device.type == "cpu":
        for name, found in described["variants"].items():
            if plan.memory == "all" or (plan.memory == "ours" and name == OURS):
                found["peak_bytes"] = found["peak_bytes"] or peak_in_own_process(plan, name, phase)
    return described


def make_lesson(base: BaseModel, plan: Plan, phase: str) -> Lesson:
    prepared = prepare_examples(
        archive=plan.archive,
        urls=(),
        task=plan.inputs.task,
        resolution=plan.inputs.resolution,
        custom_prompts=(),
    )
    settings = translate(plan.inputs)
    tokens, generator = settings.placeholder_tokens, base.compute.generator(0)
    with new_words(base, tokens, generator) as words:
        pictures = encode_pictures(base, prepared.examples, words.tokenize, mirror=settings.mirror)
    return Lesson(phase=phase, base=base, pictures=pictures, settings=settings)


def describe_phase(
    lesson: Lesson, plan: Plan, turns: dict[str, Turns], peak_flops: float
) -> Report:
    size, inputs = lesson.batch_size(), plan.inputs
    flops = count_flops(lesson.base, lesson.phase, inputs.resolution, size, inputs.lora_rank)
    floor_ms = 1000 * flops / peak_flops
    variants = {}
    for name, taken in turns.items():
        summary = asdict(summarize(taken, size))
        share = round(floor_ms / summary["ms_per_update"], 4)
        variants[name] = {**summary, "share_of_floor": share}
    others = {name: taken for name, taken in turns.items() if name != OURS}
    return {
        "flops_per_update": flops,
        "floor_ms_per_update": round(floor_ms, 4),
        "compared": "cpu time" if lesson.base.compute.device.type == "cpu" else "device time",
        "variants": variants,
        "times_ours": {name: ratios(taken, turns[OURS]) for name, taken in others.items()},
    }


def peak_alone(base: BaseModel, plan: Plan, name: str, phase: str) -> int:
    """Bytes of main memory at most, in a process that does nothing else."""
    lesson = make_lesson(base, plan, phase)
    with ExitStack() as stack:
        open_variant(stack, lesson, VARIANTS[name].make(base), 1)
    return peak_of_this_process()


def peak_in_own_process(plan: Plan, name: str, phase: str) -> int:
    say(f"{phase}: peak memory of {name} ...")
    command = [sys.executable, "-m", "benchmarks.bench", "--memory-of", f"{name}:{phase}"]
    command += ["--model", plan.model, "--zip", str(plan.archive.resolve())]
    command += ["--resolution", str(plan.inputs.resolution), "--task", plan.inputs.task]
    finished = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE)
    return int(finished.stdout.split()[-1])
