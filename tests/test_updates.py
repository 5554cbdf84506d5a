"""What an update may do, so that a GPU need not wait for it; and what it does."""

from collections.abc import Callable
from dataclasses import replace

import torch

from benchmarks.floor import on_meta
from tests.operations import Operations
from training.base_model import BaseModel
from training.batches import TrainingPictures
from training.loop import run_phase
from training.loss import denoising_loss
from training.phase import Phase, Progress
from training.settings import TrainingSettings
from training.updates import open_updates

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
