"""lora_diffusion itself, for the benchmark: its own loops, in a process of their own, in turns.

It needs the libraries of its time, so another Python runs benchmarks/prior_worker.py: the one that
INTEROP_PYTHON names, or that script/interop set up. The process waits while the others have their
turn, and tells wall and CPU time as its own clocks have them.
"""

import json
import os
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from benchmarks.lesson import Lesson, Losses, Mark, Moment, TakeUpdates, Variant
from benchmarks.machine import REPOSITORY
from training.base_model import BaseModel
from training.compute import Compute
from training.placeholders import INITIAL_STD

PRIOR = "lora_diffusion"
PYTHON = Path(os.environ.get("INTEROP_PYTHON", REPOSITORY / ".venv-interop" / "bin" / "python"))
WORKER = REPOSITORY / "benchmarks" / "prior_worker.py"
# CLIP's vocabulary in the files of that time; every Stable Diffusion 1.x and 2.x has the same.
TOKENIZER = REPOSITORY / "weights" / "tiny" / "tokenizer"
NOISE_SCHEDULE = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "prediction_type",
)
SECONDS_TO_END = 20


class WorkerError(RuntimeError):
    """The other Python ended; what it said last stands in the message."""


def why_not(compute: Compute) -> str | None:
    """Why it cannot be measured here; None: it can."""
    if compute.device.type != "cpu":
        return "it is compared on CPUs only"
    if not PYTHON.is_file():
        return (
            "it needs libraries of its time, in a Python of its own: run script/interop, or name"
            " one that has them in INTEROP_PYTHON"
        )
    return None


def prior(base: BaseModel) -> Variant:
    """`base` must be as it was loaded: its weights are written for the other process here."""
    folder = TemporaryFolder()
    write_weights(base, folder.path)

    @contextmanager
    def open_prior(lesson: Lesson) -> Iterator[TakeUpdates]:
        write_lesson(lesson, folder.path)
        worker = Worker(folder.path, PYTHON)
        try:
            yield worker.take_updates
        finally:
            worker.end()

    return Variant(name=PRIOR, weight_bytes=0, open=open_prior)


class TemporaryFolder:
    """Removed with the last that knows it; variants are not closed."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp())
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


class Worker:
    """The process. `take_updates` gives the loss of every picture."""

    def __init__(self, folder: Path, python: Path) -> None:
        """`folder`: as `write_weights` and `write_lesson` left it."""
        self.complaints = folder / "stderr"
        with self.complaints.open("wb") as complaints:
            self.process = subprocess.Popen(
                [str(python), "-I", str(WORKER), str(folder)],
                env=os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
            )

    def take_updates(self, num_updates: int, mark: Mark) -> Losses:
        """Raises: WorkerError, when the process ends instead."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(f"{num_updates}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended: the answer is empty
        answer = self.process.stdout.readline()
        if not answer:
            last = self.complaints.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise WorkerError(
                f"lora_diffusion's process ended with {self.process.wait()}. Run script/interop to"
                f" see whether its Python is complete. It said last:\n{last}"
            )
        told = json.loads(answer)
        for wall, cpu in told["moments"]:
            mark(Moment(wall=wall, cpu=cpu, peak_bytes=told["peak_bytes"]))
        losses: Losses = told["losses"]
        return losses

    def end(self) -> None:
        """It ends when nobody can ask any more."""
        try:
            self.process.communicate(timeout=SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()


def write_lesson(lesson: Lesson, folder: Path) -> None:
    """Numbers, and pictures as latents, without masks: those are all of ones but for faces."""
    pictures = lesson.pictures
    first = pictures.input_ids[pictures.prompt_choices[:, 0]]
    ends = first == lesson.base.tokenizer.eos_token_id
    tensors = {
        "latents": pictures.latent_means[:, 0],
        "input_ids": first,
        "lengths": ends.int().argmax(dim=1) + 1,  # up to the first end of a sentence
    }
    save_file(
        {name: tensor.cpu().contiguous() for name, tensor in tensors.items()},
        folder / "pictures.safetensors",
    )
    text = json.dumps(numbers_of(lesson))
    (folder / "lesson.json").write_text(text, encoding="utf-8")


def numbers_of(lesson: Lesson) -> dict[str, Any]:
    settings, tuning = lesson.settings, lesson.settings.tuning
    schedule = lesson.base.noise_scheduler.config
    return {
        "phase": lesson.phase,
        "passes_per_update": lesson.batch_size(),
        "placeholder_tokens": list(settings.placeholder_tokens),
        "initial_std": INITIAL_STD,
        "lr_scheduler": settings.lr_scheduler,
        "learning_rate": settings.inversion.learning_rate,
        "unet_learning_rate": tuning.unet_learning_rate,
        "text_learning_rate": tuning.text_learning_rate,
        "weight_decay": tuning.weight_decay,
        "lora_rank": tuning.rank,
        "noise_schedule": {name: schedule[name] for name in NOISE_SCHEDULE},
        "seed": lesson.seed,
        "threads": torch.get_num_threads(),
    }


def write_weights(base: BaseModel, folder: Path) -> None:
    base.unet.save_pretrained(folder / "unet")
    base.text_encoder.config.save_pretrained(folder / "text_encoder")
    tensors = {  # transformers 5 dropped the prefix
        f"text_model.{name.removeprefix('text_model.')}": tensor.contiguous()
        for name, tensor in base.text_encoder.state_dict().items()
    }
    save_file(tensors, folder / "text_encoder" / "model.safetensors", {"format": "pt"})
    shutil.copytree(TOKENIZER, folder / "tokenizer")
