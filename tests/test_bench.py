"""Figures are only worth what they are compared with: the plain loop trains the same, in turns."""

import copy
import subprocess
import sys
from dataclasses import replace
from typing import NoReturn

import pytest
import torch

from benchmarks.floor import count_flops, flop_counter
from benchmarks.lesson import Lesson, Moment
from benchmarks.machine import peak_of_this_process
from benchmarks.plain_loop import copy_for_plain_loop
from benchmarks.prior_trainer import PRIOR
from benchmarks.steps import Block, Stopwatch, Turns, measure_phase, ratios, summarize
from benchmarks.sweep import encode, noise_examples, resolutions
from benchmarks.variants import OURS, PLAIN, VARIANTS, only_on_cuda, variants_for
from tests.conftest import REPOSITORY, TINY
from training.base_model import FACTORS, BaseModel, keep_channels_last, load_base_model
from training.compute import Compute
from training.lora_layer import LoraFunction
from training.settings import TrainingInputs, translate


@pytest.fixture(scope="module")
def on_cpu() -> BaseModel:
    """Draws are only the same where both are made on the CPU."""
    compute = Compute(torch.device("cpu"), torch.float32, "asked for", uses_recordings=True)
    return load_base_model(TINY, compute)


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
    for name, variant in {name: VARIANTS[name].make(on_cpu) for name in (OURS, PLAIN)}.items():
        marks: list[int] = []
        with variant.open(lesson) as take_updates:
            found[name] = take_updates(6, lambda told=None, marks=marks: marks.append(1))
        assert len(marks) == 6
    assert found[PLAIN] == pytest.approx(found[OURS], rel=1e-4)
    assert len(set(found[OURS])) == 6


def test_the_plain_loop_has_none_of_our_changes(on_cpu: BaseModel) -> None:
    """Also none of those that are made for a GPU only."""
    base = replace(on_cpu, unet=copy.deepcopy(on_cpu.unet))
    keep_channels_last(base.unet)

    unet = copy_for_plain_loop(base).unet

    assert not any(module._forward_pre_hooks for module in unet.modules())
    factors = [getattr(m, name) for m in unet.modules() for name in FACTORS if hasattr(m, name)]
    assert factors
    assert all(type(factor) is float for factor in factors)
    assert unet.conv_in.weight.is_contiguous()
    assert not base.unet.conv_in.weight.is_contiguous()


def test_a_variant_that_fails_costs_no_other(on_cpu: BaseModel) -> None:
    """A compiler may be missing. What is judged must work, or there is nothing to compare."""

    def fail(lesson: Lesson) -> NoReturn:
        raise RuntimeError("no compiler")

    lesson = make_lesson(on_cpu, "inversion", "object")
    ours, plain = (VARIANTS[name].make(on_cpu) for name in (OURS, PLAIN))
    broken = replace(plain, name="broken", open=fail)

    turns, failed = measure_phase(lesson, [ours, broken, plain], 1, 1)

    assert turns.keys() == {OURS, PLAIN}
    assert failed == {"broken": "RuntimeError: no compiler"}
    with pytest.raises(RuntimeError, match="no compiler"):
        measure_phase(lesson, [broken, plain], 1, 1)


def test_a_phase_can_be_opened_again_and_begins_anew(on_cpu: BaseModel) -> None:
    lesson = make_lesson(on_cpu, "tuning", "object")
    for name in (OURS, PLAIN):
        variant, found = VARIANTS[name].make(on_cpu), []
        for _ in range(2):
            with variant.open(lesson) as take_updates:
                found.append(take_updates(2, lambda told=None: None))
        assert found[0] == found[1]


@pytest.mark.slow
def test_the_floor_grows_with_the_work(on_cpu: BaseModel) -> None:
    one = count_flops(on_cpu, "tuning", 64, 1, 16)
    assert count_flops(on_cpu, "tuning", 64, 2, 16) == 2 * one
    assert count_flops(on_cpu, "tuning", 128, 1, 16) > 3 * one
    assert one < count_flops(on_cpu, "tuning", 64, 1, 128) < 2 * one
    assert count_flops(on_cpu, "inversion", 64, 1, 16) < one


def test_every_product_of_a_lora_layer_counts() -> None:
    rows, ins, outs, rank = 5, 7, 3, 2
    inputs, weight, down, up_t = (
        torch.zeros(*shape, device="meta", requires_grad=True)
        for shape in ((rows, ins), (outs, ins), (1, rank, ins), (1, rank, outs))
    )
    with flop_counter() as counter:
        LoraFunction.apply(inputs, weight, None, down, up_t).sum().backward()

    # Forward, the input's gradient, and that of what learns, which W does not.
    assert counter.get_total_flops() == 2 * rows * (2 * ins * outs + 3 * rank * (ins + outs))


def test_counting_leaves_the_base_model_as_it_was(on_cpu: BaseModel) -> None:
    count_flops(on_cpu, "tuning", 64, 1, 16)
    assert {p.device.type for p in on_cpu.unet.parameters()} == {"cpu"}
    assert on_cpu.noise_scheduler.alphas_cumprod.device.type == "cpu"
    assert not hasattr(on_cpu.unet, "peft_config")


def turns(*blocks: tuple[float, ...]) -> Turns:
    return Turns(
        first_seconds=3.0,
        peak_bytes=0,
        blocks=[
            Block(
                wall_ms=milliseconds,
                cpu_ms=tuple(ms / 2 for ms in milliseconds),
                set_up_seconds=1.0,
                is_whole=False,
                told_peak_bytes=0,
            )
            for milliseconds in blocks
        ],
    )


def test_medians_spreads_and_ratios() -> None:
    summary = summarize(turns((10, 20, 30), (20, 20, 1000)), batch_size=2)
    assert (summary.ms_per_update, summary.pictures_per_second) == (20, 100)
    assert summary.cpu_ms_per_picture == 5
    assert summary.num_updates == 6

    slow, fast = turns((30, 30), (50, 50)), turns((10, 10), (10, 10))
    assert ratios(slow, fast) == {"median": 4.0, "least": 3.0, "most": 5.0}


def test_the_peak_of_a_process_is_its_own_and_not_that_of_who_started_it() -> None:
    ballast = bytearray(300 * 2**20)
    ballast[:: 2**12] = b"x" * len(ballast[:: 2**12])  # written to, so that it is there
    reader = "from benchmarks.machine import peak_of_this_process; print(peak_of_this_process())"
    told = subprocess.run(
        [sys.executable, "-c", reader], cwd=REPOSITORY, capture_output=True, check=True
    )
    assert int(told.stdout) < peak_of_this_process() - len(ballast) / 2


def test_the_warm_up_is_not_counted() -> None:
    watch = Stopwatch(torch.device("cpu"))
    watch.wall, watch.cpu = [0.0, 5.0, 6.0, 8.0], [0.0, 4.0, 4.5, 5.0]
    assert watch.intervals() == ([1000.0, 2000.0], [500.0, 500.0])


def test_what_another_process_tells_counts_as_if_it_were_here() -> None:
    watch = Stopwatch(torch.device("cpu"))
    for wall, cpu in ((10.0, 1.0), (12.0, 1.5), (15.0, 2.0)):
        watch.mark(Moment(wall=wall, cpu=cpu, peak_bytes=7))
    assert watch.intervals() == ([3000.0], [500.0])
    assert watch.told_peak_bytes == 7


def test_only_resolutions_that_the_model_can_do_are_swept(on_cpu: BaseModel) -> None:
    assert resolutions(on_cpu) == (64, 80, 96, 128)


def test_variants_that_a_device_cannot_run_are_left_out_with_the_reason() -> None:
    on_cpu = Compute(torch.device("cpu"), torch.float32, "asked for")
    on_gpu = Compute(torch.device("cuda"), torch.bfloat16, "asked for")
    assert not only_on_cuda(on_gpu)
    assert only_on_cuda(on_cpu) == "it needs a CUDA device"

    chosen, left_out = variants_for(on_gpu, ())
    assert {OURS, PLAIN} <= chosen.keys()
    assert left_out[PRIOR] == "it is compared on CPUs only"
    chosen, left_out = variants_for(on_cpu, [PLAIN])
    assert list(chosen) == [OURS, PLAIN]
    assert left_out.keys() == VARIANTS.keys() - {OURS, PLAIN}
