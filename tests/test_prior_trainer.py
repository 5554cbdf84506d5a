"""lora_diffusion's own trainer, measured beside ours: `script/interop` installs it."""

from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
import torch

from benchmarks.lesson import Lesson, Moment
from benchmarks.prior_trainer import PRIOR, PYTHON, Worker, WorkerError
from benchmarks.sweep import encode, noise_examples
from benchmarks.variants import OURS, VARIANTS
from tests.conftest import TINY
from training.base_model import BaseModel, load_base_model
from training.compute import Compute
from training.settings import TrainingInputs, translate


@pytest.fixture(scope="module")
def on_cpu() -> BaseModel:
    return load_base_model(TINY, Compute(torch.device("cpu"), torch.float32, "asked for"))


@pytest.mark.slow
@pytest.mark.skipif(
    not PYTHON.is_file(),
    reason="lora_diffusion and the diffusers of its time are not installed: run script/interop",
)
@pytest.mark.parametrize(("phase", "batch_size"), [("inversion", 2), ("tuning", 1)])
def test_lora_diffusion_itself_takes_updates_when_it_is_its_turn(
    on_cpu: BaseModel, phase: str, batch_size: int
) -> None:
    settings = translate(TrainingInputs(task="object", resolution=64, lora_rank=4))
    settings = replace(settings, inversion=replace(settings.inversion, batch_size=batch_size))
    pictures = encode(on_cpu, settings, noise_examples(3, 64))
    lesson = Lesson(phase=phase, base=on_cpu, pictures=pictures, settings=settings)
    moments: list[Moment] = []
    with VARIANTS[PRIOR].make(on_cpu).open(lesson) as take_updates:
        first = take_updates(4, moments.append)  # type: ignore[arg-type]
        second = take_updates(30, moments.append)  # type: ignore[arg-type]

    assert len(moments) == 34
    assert [m.wall for m in moments] == sorted(m.wall for m in moments)
    assert all(moment.peak_bytes > 10**8 for moment in moments)
    # It updates after the first picture, and then after every `batch_size`.
    assert len(first) == 1 + 3 * batch_size
    assert len(second) == 30 * batch_size
    with VARIANTS[OURS].make(on_cpu).open(lesson) as take_updates:
        ours = take_updates(30, lambda told=None: None)
    assert fmean(second) == pytest.approx(fmean(ours), rel=0.5)


def test_when_lora_diffusion_ends_it_is_said_what_it_said_last(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'No module named torch' >&2\nexit 3\n", encoding="utf-8")
    python.chmod(0o755)
    worker = Worker(tmp_path, python)
    with pytest.raises(WorkerError, match=r"ended with 3. Run script/interop(.|\n)*named torch"):
        worker.take_updates(1, lambda told=None: None)
    worker.end()
