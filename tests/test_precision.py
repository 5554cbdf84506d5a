"""What an operator may choose for small or old cards, what is chosen for him, and what it does."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.amp.grad_scaler import GradScaler
from torch.autograd.graph import saved_tensors_hooks
from transformers.modeling_layers import GradientCheckpointingLayer

from cli.arguments import parse_command
from preprocessing.example import Example
from tests.conftest import TINY
from tests.lessons import open_lesson
from training.base_model import BaseModel, load_base_model
from training.compute import Compute, Gpu, choose_compute, find_gpu, pick_compute
from training.loop import run_phase
from training.loss import denoising_loss
from training.phase import Progress
from training.pivotal import Trained, train
from training.settings import SettingsError, TrainingSettings
from training.updates import draw, open_updates

Settings = Callable[..., TrainingSettings]
CPU = torch.device("cpu")

A100 = Gpu(name="A100", has_bfloat16=True, num_bytes=40 * 2**30)
LAPTOP = Gpu(name="RTX 3070", has_bfloat16=True, num_bytes=8 * 2**30)
T4 = Gpu(name="T4", has_bfloat16=False, num_bytes=15 * 2**30)
OLD = Gpu(name="GTX 1080", has_bfloat16=False, num_bytes=8 * 2**30)


def ignore(progress: Progress) -> None:
    pass


@pytest.mark.parametrize(
    ("gpu", "precision", "checkpoints", "chosen", "why"),
    [
        (None, None, None, (torch.float32, False, False), "no CUDA device found"),
        (A100, None, None, (torch.bfloat16, True, False), "A100 computes in bfloat16"),
        (A100, "fp32", None, (torch.float32, True, False), "fp32 was asked for"),
        (A100, None, True, (torch.bfloat16, False, True), "checkpointing was asked for"),
        (LAPTOP, None, None, (torch.bfloat16, False, True), "8.0 GiB it needs gradient check"),
        (LAPTOP, None, False, (torch.bfloat16, True, False), "RTX 3070 computes in bfloat16"),
        (T4, None, None, (torch.float16, False, False), "T4 has no bfloat16"),
        (OLD, None, None, (torch.float16, False, True), "8.0 GiB it needs gradient check"),
        (None, "fp16", True, (torch.float16, False, True), "fp16 was asked for"),
    ],
)
def test_what_is_chosen_and_why(
    gpu: Gpu | None,
    precision: str | None,
    checkpoints: bool | None,
    chosen: tuple[torch.dtype, bool, bool],
    why: str,
) -> None:
    compute = choose_compute(gpu, precision, checkpoints)

    assert (compute.dtype, compute.uses_graphs, compute.uses_checkpoints) == chosen
    assert compute.uses_recordings == (gpu is None and not compute.uses_checkpoints)
    assert compute.device.type == ("cuda" if gpu else "cpu")
    assert why in compute.reason


def test_a_card_is_not_asked_for_what_it_has_not() -> None:
    with pytest.raises(SettingsError, match=r"T4 has no bfloat16\. Ask for fp16 or fp32"):
        choose_compute(T4, "bf16", None)


def test_the_environment_chooses_and_what_is_typed_comes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PRECISION", "fp16")
    monkeypatch.setenv("GRADIENT_CHECKPOINTING", "1")
    of_environment, typed = pick_compute(), pick_compute("fp32", False)

    assert (of_environment.dtype, of_environment.uses_checkpoints) == (torch.float16, True)
    assert (typed.dtype, typed.uses_checkpoints) == (torch.float32, False)


@pytest.mark.parametrize(
    ("name", "value"), [("PRECISION", "half"), ("GRADIENT_CHECKPOINTING", "y")]
)
def test_the_environment_must_name_a_choice(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError, match=f"{name} must be one of .*; got '{value}'"):
        pick_compute()


def test_the_choices_can_be_typed(tmp_path: Path) -> None:
    archive = tmp_path / "discs.zip"
    archive.touch()
    nothing = parse_command([str(archive)])
    both = parse_command([str(archive), "--precision", "fp16", "--gradient-checkpointing"])
    neither = parse_command([str(archive), "--no-gradient-checkpointing"])

    assert (nothing.precision, nothing.gradient_checkpointing) == (None, None)
    assert (both.precision, both.gradient_checkpointing) == ("fp16", True)
    assert neither.gradient_checkpointing is False


@pytest.fixture(scope="module")
def recomputing() -> BaseModel:
    return load_base_model(TINY, Compute(CPU, torch.float32, "asked for", uses_checkpoints=True))


def bytes_kept(base: BaseModel, examples: list[Example], settings: TrainingSettings) -> int:
    """Of what one update of tuning computes, what waits for the backward pass."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with open_lesson(base, examples, settings, "tuning") as (phase, pictures):
        lasting = (*base.unet.parameters(), *base.text_encoder.parameters(), *phase.parameters())
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            drawn = draw(phase, pictures, torch.tensor([0, 1]), base.compute.generator(0))
            loss = denoising_loss(base, *drawn)
        for tensor in lasting:
            kept.pop(tensor.untyped_storage().data_ptr(), None)
    assert loss.requires_grad
    return sum(kept.values())


def test_checkpoints_keep_less(
    base: BaseModel, recomputing: BaseModel, examples: list[Example], short: Settings
) -> None:
    """Less than a quarter: only if both the UNet and the text encoder do."""
    assert bytes_kept(recomputing, examples, short()) < bytes_kept(base, examples, short()) / 4


@pytest.mark.slow
def test_checkpoints_change_nothing_of_what_is_learned(
    base: BaseModel, recomputing: BaseModel, examples: list[Example], short: Settings
) -> None:
    plain = train(base, examples, short(), ignore)
    again = train(recomputing, examples, short(), ignore)
    assert losses(again) == pytest.approx(losses(plain), rel=1e-5)
    assert effect(again) == pytest.approx(effect(plain), abs=1e-5 * float(effect(plain).norm()))


def test_checkpoints_switch_on_nothing_that_is_random(recomputing: BaseModel) -> None:
    """transformers' layers act only in training mode; what is inside them must not be in it."""
    in_training = [m for m in recomputing.text_encoder.modules() if m.training]

    assert in_training
    assert all(isinstance(module, GradientCheckpointingLayer) for module in in_training)
    assert not any(module.training for module in recomputing.unet.modules())


def losses(trained: Trained) -> list[float]:
    return [loss for history in trained.histories for loss in history.losses]


def effect(trained: Trained) -> torch.Tensor:
    """What the LoRA adds to all weights of the UNet."""
    return torch.cat([(pair.up @ pair.down).flatten() for pair in trained.lora.unet.values()])


class QuicklyMended(Compute):
    """float16 whose first factor is far too large, and whose second is right."""

    def grad_scaler(self) -> GradScaler:
        return GradScaler("cpu", init_scale=2.0**40, backoff_factor=2.0**-30)


@pytest.fixture(scope="module")
def overflowing() -> BaseModel:
    return load_base_model(TINY, QuicklyMended(CPU, torch.float16, "asked for"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["inversion", "tuning"])
def test_an_update_that_overflows_leaves_all_as_it_was(
    overflowing: BaseModel, examples: list[Example], short: Settings, name: str
) -> None:
    """The words' lengths too; and the next is a first one: AdamW's moves each number by its rate.

    (Had the optimiser counted the one before, it would be three quarters of it.)
    """
    settings = short(lr_scheduler="constant", learning_rate_unet=1e-3)
    with open_lesson(overflowing, examples, settings, name) as (phase, pictures):
        learning = phase.parameters()[0]
        before = learning.detach().clone()
        generator = overflowing.compute.generator(0)
        with open_updates(phase, overflowing, pictures, generator) as updates:
            updates.take()
            assert torch.equal(learning, before)
            updates.take()

    moved = (learning - before).abs().max().item()
    assert updates.losses[:2].isfinite().all()
    if name == "tuning":  # nothing pulls the numbers elsewhere
        assert moved == pytest.approx(2e-3, rel=1e-2)
    assert moved > 0


@pytest.mark.slow
def test_how_many_updates_changed_nothing_is_told_once(
    overflowing: BaseModel,
    examples: list[Example],
    short: Settings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="training")
    with open_lesson(overflowing, examples, short(), "inversion") as (phase, pictures):
        generator = overflowing.compute.generator(0)
        history = run_phase(phase, overflowing, pictures, generator, ignore)

    assert len(history.losses) == 3  # its pictures were seen all the same
    told = [r.getMessage() for r in caplog.records if "changed nothing" in r.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("inversion: 1 of 3 updates changed nothing")
    assert "learned nothing" not in caplog.text


@pytest.mark.slow
def test_a_phase_of_which_no_update_changed_anything_is_warned_of(
    overflowing: BaseModel,
    examples: list[Example],
    short: Settings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = short(max_train_steps_ti=2)  # one update
    with open_lesson(overflowing, examples, settings, "inversion") as (phase, pictures):
        generator = overflowing.compute.generator(0)
        run_phase(phase, overflowing, pictures, generator, ignore)

    warned = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "inversion learned nothing: take more steps, or set PRECISION=fp32" in warned


needs_gpu = (
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
)


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=needs_gpu)])
def exact(request: pytest.FixtureRequest) -> tuple[Gpu | None, BaseModel]:
    """On each device: the small base model in 32 bits."""
    gpu = find_gpu() if request.param == "cuda" else None
    return gpu, load_base_model(TINY, choose_compute(gpu, "fp32", False))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "checkpoints", "tolerance"),
    [("fp16", False, 0.05), ("fp16", True, 0.05), ("bf16", True, 0.25)],
)
def test_every_choice_learns_what_float32_learns(
    exact: tuple[Gpu | None, BaseModel],
    examples: list[Example],
    short: Settings,
    precision: str,
    checkpoints: bool,
    tolerance: float,
) -> None:
    """A CPU, too, has all of float16's operations: 0.015 was measured there, 0.13 in bfloat16."""
    gpu, base = exact
    chosen = load_base_model(TINY, choose_compute(gpu, precision, checkpoints))
    wanted, found = (train(model, examples, short(), ignore) for model in (base, chosen))

    assert losses(found) == pytest.approx(losses(wanted), rel=tolerance)
    difference = (effect(found) - effect(wanted)).norm() / effect(wanted).norm()
    assert 0 < difference < tolerance
