"""What is promised on a GPU; all but the last also run on a CPU, to be right when one comes.

`script/gpu-check` runs these with `-m gpu`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from cli.sampling import build_pipeline, sample
from preprocessing.example import Example
from service.answers import OutOfMemoryError, answered, free_memory
from tests.conftest import TINY
from training.base_model import BaseModel, load_base_model
from training.compute import Compute, pick_compute
from training.formats import FORMATS, load, unload, write_lora
from training.loop import Progress
from training.pivotal import Trained, train
from training.settings import TrainingInputs, TrainingSettings, translate

Settings = Callable[..., TrainingSettings]

needs_gpu = (
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
)


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=needs_gpu)])
def there(request: pytest.FixtureRequest) -> BaseModel:
    """The small base model, on each device."""
    on_cpu = Compute(torch.device("cpu"), torch.float32, "asked for")
    return load_base_model(TINY, on_cpu if request.param == "cpu" else pick_compute())


def ignore(progress: Progress) -> None:
    pass


def is_on_gpu(base: BaseModel) -> bool:
    return base.compute.device.type == "cuda"


def matrices(trained: Trained) -> list[torch.Tensor]:
    pairs = (*trained.lora.unet.values(), *trained.lora.text_encoder.values())
    return [matrix for pair in pairs for matrix in (pair.down, pair.up)]


def losses(trained: Trained) -> list[float]:
    return [loss for history in trained.histories for loss in history.losses]


def allocated(base: BaseModel) -> int:
    """Bytes of the GPU's memory that tensors hold."""
    free_memory()
    return torch.cuda.memory_allocated() if is_on_gpu(base) else 0


def test_frozen_weights_are_half_as_large_on_a_gpu_and_what_learns_is_float32(
    there: BaseModel, examples: list[Example], short: Settings
) -> None:
    wanted = (torch.bfloat16, torch.float16) if is_on_gpu(there) else (torch.float32,)
    assert there.unet.dtype in wanted
    assert there.text_encoder.dtype in wanted
    before = there.unet.conv_in.weight.clone()

    trained = train(there, examples, short(), ignore)

    assert all(torch.tensor(losses(trained)).isfinite())
    assert {matrix.dtype for matrix in matrices(trained)} == {torch.float32}
    assert all(pair.up.abs().max() > 0 for pair in trained.lora.unet.values())  # all learned
    assert torch.equal(there.unet.conv_in.weight, before)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_losses_again(
    there: BaseModel, examples: list[Example], short: Settings
) -> None:
    """On a CPU to the bit. A GPU adds up in whatever order its threads arrive."""
    one, other = (losses(train(there, examples, short(seed=7), ignore)) for _ in range(2))

    assert other == (pytest.approx(one, rel=0.02) if is_on_gpu(there) else one)
    assert losses(train(there, examples, short(seed=8), ignore)) != one


@pytest.mark.slow
def test_a_run_leaves_no_memory_behind_and_the_next_needs_no_more(
    there: BaseModel, examples: list[Example], short: Settings
) -> None:
    train(there, examples, short(), ignore)  # libraries keep workspaces from their first use
    before, peaks = allocated(there), []
    for _ in range(2):
        if is_on_gpu(there):
            torch.cuda.reset_peak_memory_stats()
        train(there, examples, short(), ignore)
        peaks.append(torch.cuda.max_memory_allocated() if is_on_gpu(there) else 1)
        assert allocated(there) <= before + 2**20

    assert 0 < peaks[1] <= 1.05 * peaks[0]


@pytest.mark.slow
@pytest.mark.parametrize("output_format", FORMATS)
def test_the_files_load_and_draw(
    there: BaseModel,
    examples: list[Example],
    short: Settings,
    tmp_path: Path,
    output_format: str,
) -> None:
    path = tmp_path / "lora.safetensors"
    settings = short(learning_rate_unet=1e-2, max_train_steps_tuning=12)
    write_lora(train(there, examples, settings, ignore).lora, path, output_format)
    pipeline = build_pipeline(there)
    plain = sample(pipeline, there, ["a photo of a house"], [0], 64)[0]

    words = load(pipeline, path)
    with_lora = sample(pipeline, there, ["a photo of a house"], [0], 64)[0]
    with_words = sample(pipeline, there, [f"a photo of {words}"], [0], 64)[0]
    unload(pipeline)

    assert with_lora.tobytes() != plain.tobytes()
    assert with_words.tobytes() != with_lora.tobytes()
    assert sample(pipeline, there, ["a photo of a house"], [0], 64)[0].tobytes() == plain.tobytes()


@contextmanager
def hardly_any_memory_left() -> Iterator[None]:
    """Of the GPU's: what is in use now, and no more."""
    free_memory()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(torch.cuda.memory_reserved() / total)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_out_of_memory_says_what_to_lower_and_the_next_run_works(
    examples: list[Example], short: Settings
) -> None:
    base = load_base_model(TINY, pick_compute())
    large = [
        Example(image=e.image.resize((128, 128)), mask=None, prompts=e.prompts) for e in examples
    ]
    inputs = TrainingInputs(task="style", resolution=128, lora_rank=128)
    before = allocated(base)

    with (
        hardly_any_memory_left(),
        pytest.raises(OutOfMemoryError, match="with resolution 128, lora_rank 128"),
        answered(inputs),
    ):
        train(base, large, translate(inputs), ignore)

    # (A library may have taken its workspace, which it keeps.)
    assert allocated(base) <= before + 64 * 2**20
    assert all(torch.tensor(losses(train(base, examples, short(), ignore))).isfinite())
