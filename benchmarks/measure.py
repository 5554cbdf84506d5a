"""All figures of one model: phases against each other and the floor, memory, and a whole job."""

import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.floor import count_flops
from benchmarks.machine import REPOSITORY, measure_peak_flops, peak_of_this_process, say
from benchmarks.models import OpenedModel
from benchmarks.steps import Block, measure_phase, ratios, summarize, take_block
from benchmarks.variants import OURS, VARIANTS, Lesson, Variant
from benchmarks.whole_job import measure_whole_job
from preprocessing.prepare import prepare_examples
from training.base_model import BaseModel
from training.batches import encode_pictures
from training.placeholders import new_words
from training.settings import TrainingInputs, translate

PHASES = ("inversion", "tuning")
LEFT_OUT = (
    "lora_diffusion itself is not measured: it needs libraries of its time, in a Python of its own"
    " (requirements-interop.txt), and so cannot take turns with ours in one process."
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure.

    Attributes:
        model: as `open_model` knows it.
        archive: a zip of pictures.
        num_updates, num_rounds: each variant takes so many updates in a row, so often.
        job_seconds: for the training of the whole job, at most.
        with_memory: on a CPU, also peak memory, each in a process of its own.
    """

    model: str
    archive: Path
    inputs: TrainingInputs
    num_updates: int
    num_rounds: int
    job_seconds: float
    with_memory: bool


def measure(model: OpenedModel, plan: Plan) -> dict[str, Any]:
    """As the JSON has it."""
    base = model.base
    variants = [make(base) for make in VARIANTS.values()]
    peak_flops = measure_peak_flops(base.compute)
    phases, ms_per_step = {}, []
    for phase in PHASES:
        lesson = make_lesson(base, plan, phase)
        say(f"{phase}: {plan.num_rounds} rounds of {plan.num_updates} updates ...")
        blocks = measure_phase(lesson, variants, plan.num_updates, plan.num_rounds)
        phases[phase] = describe_phase(lesson, plan, blocks, peak_flops)
        ours = phases[phase]["variants"][OURS]
        ms_per_step.append(ours["ms_per_update"] / ours["batch_size"])
        if base.compute.device.type == "cpu" and plan.with_memory:
            for name in VARIANTS:
                phases[phase]["variants"][name]["peak_bytes"] = peak_in_own_process(
                    plan, name, phase
                )
    del variants  # their weights are none of the job's memory
    job = measure_whole_job(base, plan.archive, plan.inputs, ms_per_step, plan.job_seconds)
    return {
        "model": model.name,
        "resolution": plan.inputs.resolution,
        "lora_rank": plan.inputs.lora_rank,
        "set_up_seconds": round(model.seconds, 2),
        "peak_flops_per_second": peak_flops,
        "phases": phases,
        "whole_job": asdict(job),
        "left_out": LEFT_OUT,
    }


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
    lesson: Lesson, plan: Plan, blocks: dict[str, list[Block]], peak_flops: float
) -> dict[str, Any]:
    size, inputs = lesson.batch_size(), plan.inputs
    flops = count_flops(lesson.base, lesson.phase, inputs.resolution, size, inputs.lora_rank)
    floor_ms = 1000 * flops / peak_flops
    variants = {}
    for name, taken in blocks.items():
        summary = asdict(summarize(taken, size))
        share = round(floor_ms / summary["ms_per_update"], 4)
        variants[name] = {**summary, "share_of_floor": share}
    others = {name: taken for name, taken in blocks.items() if name != OURS}
    return {
        "flops_per_update": flops,
        "floor_ms_per_update": round(floor_ms, 4),
        "compared": "cpu time" if lesson.base.compute.device.type == "cpu" else "device time",
        "variants": variants,
        "times_ours": {name: ratios(taken, blocks[OURS]) for name, taken in others.items()},
    }


def peak_alone(base: BaseModel, plan: Plan, name: str, phase: str) -> int:
    """Bytes of main memory at most, in a process that does nothing else."""
    lesson = make_lesson(base, plan, phase)
    variant: Variant = VARIANTS[name](base)
    with variant.open(lesson) as take_updates:
        take_block(lesson, variant, [variant], take_updates, 1)
    return peak_of_this_process()


def peak_in_own_process(plan: Plan, name: str, phase: str) -> int:
    say(f"{phase}: peak memory of {name} ...")
    command = [sys.executable, "-m", "benchmarks.bench", "--memory-of", f"{name}:{phase}"]
    command += ["--model", plan.model, "--zip", str(plan.archive.resolve())]
    command += ["--resolution", str(plan.inputs.resolution)]
    finished = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE)
    return int(finished.stdout.split()[-1])
