"""One run as a caller sees it, from zip to file, stage by stage."""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.machine import say
from service.job import MadeLora, Request, make_lora
from training.base_model import BaseModel
from training.settings import TrainingInputs

DEFAULTS = TrainingInputs()


@dataclass(frozen=True, kw_only=True)
class WholeJob:
    """Seconds by stage.

    Attributes:
        steps: pictures seen by inversion and by tuning.
        seconds: stage -> seconds; "preparation" is the pictures' way through the VAE and the
            rehearsal that forecasts the run.
        default_seconds: with the form's default steps: as measured if those were taken, else
            reckoned from it.
        peak_bytes: on CUDA, of the device; else 0.
    """

    num_pictures: int
    steps: tuple[int, int]
    file_bytes: int
    seconds: dict[str, float]
    total_seconds: float
    default_seconds: float
    peak_bytes: int


def measure_whole_job(
    base: BaseModel,
    archive: Path,
    inputs: TrainingInputs,
    ms_per_step: Sequence[float],
    max_seconds: float,
) -> WholeJob:
    """The default steps, or as many of each phase as can be taken in `max_seconds`.

    Args:
        ms_per_step: of one picture seen, in inversion and in tuning, as measured before.
    """
    default_steps = (DEFAULTS.max_train_steps_ti, DEFAULTS.max_train_steps_tuning)
    expected = sum(ms * steps for ms, steps in zip(ms_per_step, default_steps, strict=True)) / 1000
    share = min(1.0, max_seconds / expected)
    steps = tuple(max(2, 2 * math.floor(share * wanted / 2)) for wanted in default_steps)
    say(f"whole job: {steps[0]} + {steps[1]} steps, about {share * expected:.0f} s ...")
    shorter = replace(inputs, max_train_steps_ti=steps[0], max_train_steps_tuning=steps[1])
    device = base.compute.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with tempfile.TemporaryDirectory() as folder:
        request = Request(
            instance_data=archive,
            instance_data_urls=None,
            custom_prompts=None,
            inputs=shorter,
            name="benchmark",
        )
        made = make_lora(base, request, Path(folder), lambda now: say(now.line()))
        found = _describe(made, (steps[0], steps[1]), default_steps)
    if device.type != "cuda":
        return found
    return replace(found, peak_bytes=torch.cuda.max_memory_allocated(device))


def _describe(made: MadeLora, steps: tuple[int, int], default_steps: tuple[int, int]) -> WholeJob:
    phases = {history.name: history.seconds for history in made.trained.histories}
    seconds = {
        "pictures": made.seconds["pictures"],
        "preparation": made.seconds["training"] - sum(phases.values()),
        **phases,
        "writing": made.seconds["writing"],
    }
    total = sum(seconds.values())
    more = sum(
        taken * (wanted / done - 1)
        for taken, done, wanted in zip(phases.values(), steps, default_steps, strict=True)
    )
    return WholeJob(
        num_pictures=len(made.prepared.examples),
        steps=steps,
        file_bytes=made.path.stat().st_size,
        seconds={stage: round(value, 3) for stage, value in seconds.items()},
        total_seconds=round(total, 3),
        default_seconds=round(total + more, 1),
        peak_bytes=0,
    )
