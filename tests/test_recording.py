"""What is replayed is what was written down, and nothing of it stays when it is over."""

import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

import pytest
import torch
from torch import Tensor

from preprocessing.example import Example
from service.answers import is_out_of_memory
from tests.lessons import open_lesson
from training import lora_layer, recording
from training.base_model import BaseModel
from training.batches import TrainingPictures
from training.compute import choose_compute, suit_cpu
from training.loop import run_phase
from training.phase import Phase, Progress
from training.recording import MIN_UPDATES, record
from training.settings import TrainingSettings
from training.updates import open_updates

Settings = Callable[..., TrainingSettings]
LIBRARIES = ("diffusers", "transformers")
OURS = "lora_layer.py"


def ignore(progress: Progress) -> None:
    pass


def losses_and_result(
    base: BaseModel, phase: Phase, pictures: TrainingPictures
) -> tuple[tuple[float, ...], list[Tensor]]:
    """Of a whole run of the phase, which is taken back."""
    before = [parameter.detach().clone() for parameter in phase.parameters()]
    losses = run_phase(phase, base, pictures, base.compute.generator(0), ignore).losses
    learned = [parameter.detach().clone() for parameter in phase.parameters()]
    with torch.no_grad():
        for parameter, value in zip(phase.parameters(), before, strict=True):
            parameter.copy_(value)
    return losses, learned


def test_a_recording_trains_as_python_does(
    base: BaseModel, lesson: tuple[Phase, TrainingPictures]
) -> None:
    """To the last bit: it is the same operations in the same order."""
    phase, pictures = lesson
    called, learned = losses_and_result(base, phase, pictures)
    replayed, learned_again = losses_and_result(base, replace(phase, is_recorded=True), pictures)

    assert base.compute.uses_recordings
    assert replayed == called
    assert all(torch.equal(a, b) for a, b in zip(learned, learned_again, strict=True))


def test_large_layers_are_recorded_as_well(
    base: BaseModel, examples: list[Example], short: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their own way of computing is Python's, so a recording takes torch's."""
    monkeypatch.setattr(lora_layer, "SMALL_LAYER", 0)
    with open_lesson(base, examples, short(), "tuning") as (phase, pictures):
        called, learned = losses_and_result(base, phase, pictures)
        replayed, learned_again = losses_and_result(
            base, replace(phase, is_recorded=True), pictures
        )

    assert replayed == pytest.approx(called, rel=1e-5)
    for one, other in zip(learned, learned_again, strict=True):
        assert (one - other).norm() < 1e-4 * one.norm()


@contextmanager
def noting_callers(found: set[str]) -> Iterator[None]:
    """The packages whose functions Python runs meanwhile, the backward pass' included."""

    def note(frame: FrameType, event: str, argument: object) -> None:
        parts = Path(frame.f_code.co_filename).parts
        found.update(part for part in parts if part in (*LIBRARIES, OURS))

    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)


@pytest.mark.parametrize("small_layer", [0, 2**16])
def test_no_library_is_asked_again(
    base: BaseModel,
    examples: list[Example],
    short: Settings,
    monkeypatch: pytest.MonkeyPatch,
    small_layer: int,
) -> None:
    """A cancellation that came while a recording calls Python would be lost in it."""
    monkeypatch.setattr(lora_layer, "SMALL_LAYER", small_layer)
    called: set[str] = set()
    replayed: set[str] = set()
    eager: set[str] = set()
    with open_lesson(base, examples, short(), "tuning") as (phase, pictures):
        generator = base.compute.generator(0)
        with open_updates(phase, base, pictures, generator) as updates, noting_callers(called):
            updates.take()
        phase = replace(phase, is_recorded=True)
        with open_updates(phase, base, pictures, generator) as updates, noting_callers(replayed):
            updates.take()

        without = replace(base, compute=replace(base.compute, uses_recordings=False))
        with open_updates(phase, without, pictures, generator) as updates, noting_callers(eager):
            updates.take()

    assert called == eager == {*LIBRARIES, OURS}
    assert not replayed


def test_a_recording_is_freed() -> None:
    factor = torch.ones(3)
    held = weakref.ref(factor)
    replay = record(factor.mul, [], [torch.ones(3)])
    del factor
    gc.collect()
    assert torch.equal(replay(torch.full((3,), 2.0)), torch.full((3,), 2.0))
    assert held() is not None

    del replay
    gc.collect()
    assert held() is None


def test_what_stops_a_recording_arrives_as_it_is() -> None:
    class Cancelled(BaseException):
        pass

    def cancel(tensor: Tensor) -> Tensor:
        raise Cancelled

    with pytest.raises(Cancelled):
        record(cancel, [], [torch.ones(3)])

    double = record(lambda tensor: 2 * tensor, [], [torch.ones(3)])
    assert torch.equal(double(torch.ones(3)), torch.full((3,), 2.0))


def test_only_the_function_runs_python_while_it_is_recorded() -> None:
    """A cancellation comes where Python runs; torch cleans up only after the function itself."""
    called: list[str] = []

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_filename == recording.__file__:
            called.append(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        recording.record(torch.square, [], [torch.ones(3)])
    finally:
        sys.setprofile(None)
    assert called == ["record", "of_all"]


def test_memory_that_is_missing_while_replaying_is_told_as_such() -> None:
    outer = record(lambda tensor: tensor[:, None] * tensor, [], [torch.ones(3)])

    with pytest.raises(RuntimeError) as caught:
        outer(torch.ones(2**24))  # 2^50 bytes
    assert is_out_of_memory(caught.value)


def test_a_large_model_is_not_recorded() -> None:
    """It would gain nothing. Stable Diffusion 1.5's UNet has 860 million weights."""
    num_threads = torch.get_num_threads()
    compute = choose_compute(None, None, None)
    try:
        assert suit_cpu(compute, 5_000_000).uses_recordings
        assert not suit_cpu(compute, 860_000_000).uses_recordings
    finally:
        torch.set_num_threads(num_threads)


def test_gradients_flow_to_what_learns_and_follow_its_changes() -> None:
    weight = torch.ones(3, requires_grad=True)
    square = record(lambda tensor: (weight * tensor).square().sum(), [weight], [torch.ones(3)])

    square(torch.ones(3)).backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [2.0, 2.0, 2.0]
    with torch.no_grad():
        weight.fill_(3.0)
    assert square(torch.full((3,), 2.0)).item() == 3 * 36


def test_only_what_pays_is_recorded(
    base: BaseModel, examples: list[Example], short: Settings
) -> None:
    """Two pictures make an update of inversion."""
    for steps, wanted in ((MIN_UPDATES - 1, False), (MIN_UPDATES, True)):
        settings = short(max_train_steps_ti=2 * steps, max_train_steps_tuning=steps)
        for name in ("inversion", "tuning"):
            with open_lesson(base, examples, settings, name) as (phase, _):
                assert (phase.num_updates, phase.is_recorded) == (steps, wanted)
