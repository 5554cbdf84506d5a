"""What an update may do, so that a GPU need not wait for it; and what it does."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook

from benchmarks.floor import on_meta
from preprocessing.example import Example
from tests.lessons import open_lesson
from tests.operations import Operations
from training.base_model import BaseModel
from training.batches import TrainingPictures
from training.loop import run_phase
from training.loss import denoising_loss
from training.phase import Phase, Progress
from training.pivotal import inversion_phase
from training.placeholders import new_words
from training.settings import TrainingSettings
from training.updates import draw, open_updates

Settings = Callable[..., TrainingSettings]
# Operations that ask the device for a number, or whose result's size depends on one; and the one
# that brings a number from Python, which a GPU would have to fetch.
WAITING = {
    "aten._local_scalar_dense",
    "aten.nonzero",
    "aten.masked_select",
    "aten._unique2",
    "aten.equal",
    "aten.is_nonzero",
    "aten.item",
    "aten.lift_fresh",
}


def ignore(progress: Progress) -> None:
    pass


def test_an_update_asks_the_device_for_nothing(
    base: BaseModel, lesson: tuple[Phase, TrainingPictures]
) -> None:
    """After the first two, in which libraries fill their tables."""
    phase, pictures = lesson
    with open_updates(phase, base, pictures, base.compute.generator(0)) as updates:
        updates.take()
        updates.take()
        with Operations() as operations:
            updates.take()

    assert len(operations.names) > 1000
    assert WAITING.isdisjoint(operations.names)


def test_asking_would_be_noticed() -> None:
    for ask in (
        lambda tensor: tensor.sum().item(),
        lambda tensor: tensor[tensor > 0],
        lambda tensor: tensor + torch.tensor(1.0),
        lambda tensor: bool(tensor.any()),
    ):
        with Operations() as operations:
            ask(torch.ones(3))
        assert not WAITING.isdisjoint(operations.names)


def test_nothing_comes_from_the_cpu(base: BaseModel) -> None:
    """On the device without numbers, everything that an update reads must lie there as well."""
    elsewhere = on_meta(base)
    elsewhere.text_encoder.get_input_embeddings().requires_grad_(True)
    latents = torch.empty(2, 4, 8, 8, device="meta")
    numbers = torch.zeros(2, dtype=torch.long, device="meta")
    input_ids = torch.zeros(2, 77, dtype=torch.long, device="meta")
    for _ in range(2):  # libraries may fetch a table the first time
        with Operations() as operations:
            weight = torch.empty_like(latents[:, :1])
            denoising_loss(elsewhere, latents, latents, numbers, input_ids, weight).backward()

    assert operations.devices == {"meta"}


def test_each_picture_of_an_update_has_noise_and_a_timestep_of_its_own(
    base: BaseModel, lesson: tuple[Phase, TrainingPictures]
) -> None:
    """Also where a picture comes twice; and each is a new sample of the latents."""
    phase, pictures = lesson
    chosen = torch.zeros(200, dtype=torch.long)
    latents, noise, timesteps, *_ = draw(phase, pictures, chosen, base.compute.generator(0))

    assert len(latents.unique(dim=0)) == len(noise.unique(dim=0)) == 200
    assert len(timesteps.unique()) > 150


def test_the_generator_goes_on_where_the_phase_ended(
    base: BaseModel, lesson: tuple[Phase, TrainingPictures]
) -> None:
    """Or the second phase would see the noise of the first."""
    phase, pictures = lesson
    generator = torch.Generator().manual_seed(0)
    with open_updates(phase, base, pictures, generator) as updates:
        updates.take()
        updates.take()
        wanted = torch.rand(3, generator=updates.generator.clone_state())

    assert torch.equal(torch.rand(3, generator=generator), wanted)
    assert not torch.equal(torch.rand(3, generator=torch.Generator().manual_seed(0)), wanted)


def test_a_phase_without_updates_is_none(
    base: BaseModel, lesson: tuple[Phase, TrainingPictures]
) -> None:
    phase, pictures = lesson

    history = run_phase(
        replace(phase, num_updates=0), base, pictures, base.compute.generator(0), ignore
    )
    assert history.losses == ()


def no_projection(learning_rate: Tensor) -> None:
    pass


def copies(phase: Phase) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in phase.parameters()]


def test_each_update_is_taken_at_the_rate_of_its_own(
    base: BaseModel, lesson: tuple[Phase, TrainingPictures]
) -> None:
    """Of 40 the first two warm up: at 0, then at half the rate."""
    phase, pictures = lesson
    phase = replace(phase, num_updates=40, lr_scheduler="constant_with_warmup")
    with open_updates(phase, base, pictures, base.compute.generator(0)) as updates:
        before = copies(phase)
        updates.take()
        after_first = copies(phase)
        updates.take()

    for parameter, first, moved in zip(before, after_first, copies(phase), strict=True):
        assert torch.equal(parameter, first)
        assert not torch.equal(first, moved)


def test_the_lora_decays_a_little_and_the_words_do_not(
    base: BaseModel, lesson: tuple[Phase, TrainingPictures]
) -> None:
    """Where no pixel counts all gradients are 0, and what still moves is the decay: 1e-3 x rate."""
    phase, pictures = lesson
    groups = [{**group, "lr": 0.1} for group in phase.parameter_groups]
    phase = replace(phase, parameter_groups=groups, project=no_projection)
    nothing_counts = replace(pictures, loss_weights=torch.zeros_like(pictures.loss_weights))
    before = copies(phase)
    with open_updates(phase, base, nothing_counts, base.compute.generator(0)) as updates:
        updates.take()

    kept = 1.0 if phase.name == "inversion" else 1 - 0.1 * 1e-3
    for parameter, old in zip(phase.parameters(), before, strict=True):
        torch.testing.assert_close(parameter.detach(), kept * old, rtol=1e-6, atol=0)


def test_tuning_clips_the_gradients_of_both_models_together_and_inversion_none(
    base: BaseModel, lesson: tuple[Phase, TrainingPictures]
) -> None:
    phase, pictures = lesson
    large = replace(pictures, loss_weights=1e6 * pictures.loss_weights)
    norms = []

    def note(optimizer: Optimizer, *_: object) -> None:
        gradients = [parameter.grad for parameter in phase.parameters()]
        norms.append(torch.cat([g.flatten() for g in gradients if g is not None]).norm().item())

    with open_updates(phase, base, large, base.compute.generator(0)) as updates:
        hook = register_optimizer_step_pre_hook(note)
        try:
            updates.take()
        finally:
            hook.remove()

    if phase.name == "tuning":
        assert norms == pytest.approx([1.0], rel=1e-3)
    else:
        assert norms[0] > 10


@pytest.mark.parametrize(("rate", "share"), [(1e-3, 0.1), (5e-3, 0.5), (0.01, 1.0), (1.0, 1.0)])
def test_the_norms_of_the_words_are_pulled_by_a_hundred_times_the_rate(
    base: BaseModel, short: Settings, rate: float, share: float
) -> None:
    """At most all the way: farther, a word would point to where it came from."""
    with new_words(base, ("<s1>", "<s2>"), base.compute.generator(0)) as words:
        rows, wanted = words.embedding.rows, base.card.placeholder_norm
        before = rows.detach().clone()
        inversion_phase(base, words, short()).project(torch.tensor(rate))

    norms, directions = before.norm(dim=-1), torch.cosine_similarity(before, rows.detach())
    torch.testing.assert_close(rows.detach().norm(dim=-1), norms + share * (wanted - norms))
    torch.testing.assert_close(directions, torch.ones(2))


def test_tuning_learns_each_model_at_the_rate_that_was_typed_for_it(
    base: BaseModel, examples: list[Example], short: Settings
) -> None:
    """AdamW's first update moves each number by its rate; 2 x what was typed."""
    settings = short(learning_rate_unet=1e-3, learning_rate_text=1e-4)
    with open_lesson(base, examples, settings, "tuning") as (phase, pictures):
        before = copies(phase)
        with open_updates(phase, base, pictures, base.compute.generator(0)) as updates:
            updates.take()
        moved = [
            (new - old).abs().max().item() for new, old in zip(copies(phase), before, strict=True)
        ]

    assert moved == pytest.approx([2e-3, 2e-4], rel=0.05)
