"""FILE.report.json: what was asked, what was used, what it took and what it gained."""

import importlib.metadata
import json
import platform
import resource
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from cli.comparison import Comparison, Impression
from cli.pictures import describe_pictures
from preprocessing.prompts import parse_list
from service.job import MadeLora, Request, settings_of
from training.base_model import BaseModel
from training.phase import PhaseHistory

PACKAGES = ("torch", "diffusers", "transformers", "peft", "safetensors", "pillow")
MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024  # what one unit of ru_maxrss is


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """A finished run.

    Attributes:
        measured_on: where the pictures of the comparison come from, in words.
        seconds: stage -> how long it took.
    """

    base: BaseModel
    request: Request
    made: MadeLora
    comparison: Comparison
    measured_on: str
    num_measured: int
    seconds: dict[str, float]


def write_report(run: TrainingRun, path: Path) -> None:
    path.write_text(json.dumps(build_report(run), indent=2) + "\n", encoding="utf-8")


def build_report(run: TrainingRun) -> dict[str, Any]:
    """Facts and figures: no prompt, and no name or address of a photo, which can hold secrets."""
    inputs, histories = run.request.inputs, run.made.trained.histories
    return {
        "file": run.made.path.name,
        "file_bytes": run.made.path.stat().st_size,
        "base_model": run.base.card.name,
        "machine": describe_machine(run.base),
        "inputs": asdict(inputs) | {"num_custom_prompts": num_custom_prompts(run.request)},
        "pictures": describe_pictures(run.made.prepared),
        "effective": asdict(settings_of(run.base, inputs)),
        "seconds": {stage: round(seconds, 2) for stage, seconds in run.seconds.items()},
        "phases": {history.name: describe_phase(history) for history in histories},
        "peak_memory_bytes": peak_memory(run.base),
        "denoising_loss": describe_comparison(run),
    }


def num_custom_prompts(request: Request) -> int:
    return len(parse_list(request.custom_prompts, "custom_prompts"))


def describe_machine(base: BaseModel) -> dict[str, Any]:
    return {
        "device": str(base.compute.device),
        "precision": str(base.compute.dtype).removeprefix("torch."),
        "because": base.compute.reason,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def describe_phase(history: PhaseHistory) -> dict[str, Any]:
    """A step is one picture seen, as in the inputs; an update sees `batch_size` of them."""
    num_steps = len(history.losses) * history.batch_size
    return {
        "num_steps": num_steps,
        "batch_size": history.batch_size,
        "seconds": round(history.seconds, 2),
        "steps_per_second": round(num_steps / history.seconds, 2) if num_steps else None,
        "losses": [round(loss, 5) for loss in history.losses],
        "learning_rates": [float(f"{rate:.4g}") for rate in history.learning_rates],
    }


def peak_memory(base: BaseModel) -> dict[str, int]:
    peaks = {"process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_BYTES}
    if base.compute.device.type == "cuda":
        peaks["cuda"] = torch.cuda.max_memory_allocated()
    return peaks


def describe_comparison(run: TrainingRun) -> dict[str, Any]:
    before, after = run.comparison.before, run.comparison.after
    return {
        "measured_on": run.measured_on,
        "num_pictures": run.num_measured,
        "how": "same pictures, noise and timesteps before and after; before: the base model, whose"
        " prompts lack the trained words, which it does not know; after: the base model with the"
        " written file loaded by diffusers, and the words in the prompts",
        "before": describe_impression(before),
        "after": describe_impression(after),
        "change_percent": round(100 * (after.loss / before.loss - 1), 2),
    }


def describe_impression(impression: Impression) -> dict[str, Any]:
    return {
        "mean": round(impression.loss, 6),
        "by_draw": [round(loss, 6) for loss in impression.losses],
        "words": impression.words,
    }
