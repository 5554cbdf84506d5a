"""Figures are only worth what they are compared with: the plain loop trains the same, in turns."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import doctor, gpu_check
from benchmarks.floor import count_flops
from benchmarks.steps import Block, Stopwatch, ratios, summarize
from benchmarks.sweep import encode, noise_examples, resolutions, sweep
from benchmarks.variants import OURS, PLAIN, VARIANTS, Lesson
from tests.conftest import REPOSITORY, TINY
from training.base_model import BaseModel, load_base_model
from training.compute import Compute
from training.settings import TrainingInputs, translate

PENGUIN = REPOSITORY / "examples" / "penguin.zip"
SHORT = ("--zip", str(PENGUIN), "--steps", "1", "--rounds", "1", "--job-seconds", "1")


@pytest.fixture(scope="module")
def on_cpu() -> BaseModel:
    """Draws are only the same where both are made on the CPU."""
    return load_base_model(TINY, Compute(torch.device("cpu"), torch.float32, "asked for"))


def make_lesson(base: BaseModel, phase: str, task: str) -> Lesson:
    settings = translate(TrainingInputs(task=task, resolution=64, lora_rank=4))  # type: ignore[arg-type]
    settings = replace(settings, inversion=replace(settings.inversion, batch_size=1))
    pictures = encode(base, settings, noise_examples(3, 64))
    return Lesson(phase=phase, base=base, pictures=pictures, settings=settings, seed=3)


@pytest.mark.parametrize("phase", ["inversion", "tuning"])
def test_the_plain_loop_trains_as_ours_does(on_cpu: BaseModel, phase: str) -> None:
    """One picture an update and the same seed: the same draws, so the same losses."""
    lesson = make_lesson(on_cpu, phase, "style")
    found = {}
    for name, variant in {name: make(on_cpu) for name, make in VARIANTS.items()}.items():
        marks: list[int] = []
        with variant.open(lesson) as take_updates:
            found[name] = take_updates(6, lambda marks=marks: marks.append(1))  # type: ignore[misc]
        assert len(marks) == 6
    assert found[PLAIN] == pytest.approx(found[OURS], rel=1e-4)
    assert len(set(found[OURS])) == 6


def test_a_phase_can_be_opened_again_and_begins_anew(on_cpu: BaseModel) -> None:
    lesson = make_lesson(on_cpu, "tuning", "object")
    for make in VARIANTS.values():
        variant, found = make(on_cpu), []
        for _ in range(2):
            with variant.open(lesson) as take_updates:
                found.append(take_updates(2, lambda: None))
        assert found[0] == found[1]


@pytest.mark.slow
def test_the_floor_grows_with_the_work(on_cpu: BaseModel) -> None:
    one = count_flops(on_cpu, "tuning", 64, 1, 16)
    assert count_flops(on_cpu, "tuning", 64, 2, 16) == 2 * one
    assert count_flops(on_cpu, "tuning", 128, 1, 16) > 3 * one
    assert one < count_flops(on_cpu, "tuning", 64, 1, 128) < 2 * one
    assert count_flops(on_cpu, "inversion", 64, 1, 16) < one


def test_counting_leaves_the_base_model_as_it_was(on_cpu: BaseModel) -> None:
    count_flops(on_cpu, "tuning", 64, 1, 16)
    assert {p.device.type for p in on_cpu.unet.parameters()} == {"cpu"}
    assert on_cpu.noise_scheduler.alphas_cumprod.device.type == "cpu"
    assert not hasattr(on_cpu.unet, "peft_config")


def block(*milliseconds: float) -> Block:
    return Block(
        wall_ms=milliseconds,
        cpu_ms=tuple(ms / 2 for ms in milliseconds),
        set_up_seconds=1.0,
        is_whole=False,
        peak_bytes=0,
    )


def test_medians_spreads_and_ratios() -> None:
    summary = summarize([block(10, 20, 30), block(20, 20, 1000)], batch_size=2)
    assert (summary.ms_per_update, summary.pictures_per_second) == (20, 100)
    assert summary.cpu_ms_per_picture == 5
    assert summary.num_updates == 6

    slow, fast = [block(30, 30), block(50, 50)], [block(10, 10), block(10, 10)]
    assert ratios(slow, fast) == {"median": 4.0, "least": 3.0, "most": 5.0}


def test_the_warm_up_is_not_counted() -> None:
    watch = Stopwatch(torch.device("cpu"))
    watch.wall, watch.cpu = [0.0, 5.0, 6.0, 8.0], [0.0, 4.0, 4.5, 5.0]
    assert watch.intervals() == ([1000.0, 2000.0], [500.0, 500.0])


def test_only_resolutions_that_the_model_can_do_are_swept(on_cpu: BaseModel) -> None:
    assert resolutions(on_cpu) == (64, 80, 96, 128)


@pytest.mark.slow
def test_what_grows_is_measured_and_drawn(on_cpu: BaseModel, tmp_path: Path) -> None:
    inputs = TrainingInputs(task="object", resolution=64)
    found = sweep(on_cpu, inputs, 1, tmp_path / "bench.png")

    assert [point["value"] for point in found["pictures"]] == [1, 5, 20, 50, 100, 200]
    assert found["resolution"][-1]["work"] > 3 * found["resolution"][0]["work"]
    assert found["batch_size"][-1]["work"] == 8 * found["batch_size"][0]["work"]
    assert all(point["milliseconds"] > 0 for points in found.values() for point in points)
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def run_module(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=REPOSITORY,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


@pytest.mark.slow
def test_the_benchmark_prints_a_table_and_writes_the_same_as_json(tmp_path: Path) -> None:
    told = run_module("benchmarks.bench", *SHORT, "--out", str(tmp_path))

    assert told.returncode == 0, told.stderr[-2000:]
    assert "whole job, 6 pictures" in told.stdout
    assert told.stdout.count("plain loop takes") == 2
    (path,) = tmp_path.glob("bench-tiny-*.json")
    report = json.loads(path.read_text(encoding="utf-8"))
    assert {"command", "machine", "phases", "whole_job", "set_up_seconds"} <= report.keys()
    assert {"device", "commit", "packages", "threads"} <= report["machine"].keys()
    for phase in ("inversion", "tuning"):
        found = report["phases"][phase]
        assert found["variants"].keys() == {OURS, PLAIN}
        for variant in found["variants"].values():
            assert 0 < variant["share_of_floor"] < 1
            assert variant["peak_bytes"] > 10**8
            assert not variant["is_whole"]


def test_without_a_gpu_the_check_says_so_and_all_is_well(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert gpu_check.main(["--out", str(tmp_path)]) == 0

    told = capsys.readouterr().err
    assert told.startswith("gpu-check runs the tests that need a GPU")
    assert "It needs a CUDA device with 10 GiB" in told
    assert "No CUDA device was found" in told
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_check_goes_through_on_a_cpu(tmp_path: Path) -> None:
    told = run_module("benchmarks.gpu_check", "--on-cpu", "--out", str(tmp_path))

    assert told.returncode == 0, told.stderr[-2000:]
    assert "SD 1.5     fits" in told.stdout
    (path,) = tmp_path.iterdir()
    report = json.loads(path.read_text(encoding="utf-8"))
    assert report["benchmarks"].keys() == {"tiny", "sd15-narrow-random"}
    assert report["doctor"]["default_job_seconds"] > 0
    assert all(stage["problem"] is None for stage in report["stages"].values())


def test_a_stage_that_fails_or_hangs_is_told_and_costs_no_other(
    tmp_path: Path,
) -> None:
    broken = gpu_check.Stage(name="broken", arguments=("-c", "raise SystemExit(3)"), seconds=60)
    hanging = gpu_check.Stage(name="hanging", arguments=("-c", "input()"), seconds=0.2)

    assert gpu_check.run_stage(broken, tmp_path).problem == "ended with 3"
    assert gpu_check.run_stage(hanging, tmp_path).problem is not None


def test_all_stages_together_take_less_than_nine_minutes(tmp_path: Path) -> None:
    assert sum(stage.seconds for stage in gpu_check.stages(tmp_path, on_cpu=False)) < 9 * 60


def machine_of(memory_bytes: int) -> dict[str, Any]:
    return {
        "device": "Some GPU",
        "driver": "1.2",
        "cuda": "12.8",
        "precision": "bfloat16",
        "because": "it can",
        "memory_bytes": memory_bytes,
        "python": "3.12",
        "packages": {"torch": "2.11.0"},
    }


def test_the_doctor_says_whether_it_fits() -> None:
    large = {
        "model": "sd15-random",
        "resolution": 512,
        "phases": {"tuning": {"variants": {"ours": {"peak_bytes": 8 * 2**30}}}},
        "whole_job": {"default_seconds": 33.0},
    }
    fits = doctor.lines(doctor.diagnose(machine_of(16 * 2**30), large))
    assert fits[3] == "SD 1.5     fits: 8.0 GiB at most (sd15-random at 512 pixels)"
    assert fits[4] == "a job      with default inputs takes about 33 s"
    assert "does NOT fit" in doctor.lines(doctor.diagnose(machine_of(8 * 2**30), large))[3]
    assert "unknown" in doctor.lines(doctor.diagnose(machine_of(8 * 2**30), None))[3]
