"""What is promised on a GPU; all but the last also run on a CPU, to be right when one comes.

`script/gpu-check` runs these with `-m gpu`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cli.sampling import build_pipeline, sample
from preprocessing.example import Example
from service.answers import OutOfMemoryError, answered, free_memory
from tests.conftest import TINY
from training import recording
from training.base_model import BaseModel, load_base_model
from training.batches import encode_pictures
from training.compute import Compute, pick_compute
from training.formats import FORMATS, load, unload, write_lora
from training.loop import run_phase
from training.phase import Progress
from training.pivotal import Trained, inversion_phase, train
from training.placeholders import new_words
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


@pytest.fixture
def on_gpu() -> BaseModel:
    return load_base_model(TINY, pick_compute())


def without_graphs(base: BaseModel, *, recordings: bool = False) -> BaseModel:
    compute = replace(base.compute, uses_graphs=False, uses_recordings=recordings)
    return replace(base, compute=compute)


def changes(trained: Trained) -> torch.Tensor:
    """up @ down of all layers, one after the other."""
    pairs = (*trained.lora.unet.values(), *trained.lora.text_encoder.values())
    return torch.cat([(pair.up @ pair.down).flatten() for pair in pairs])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("bf16", 2e-2)])
def test_a_graph_gives_what_launching_each_operation_gives(
    precision: str,
    tolerance: float,
    examples: list[Example],
    short: Settings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A GPU adds up in any order, and 50 updates of bfloat16 make more of that."""
    on_gpu = load_base_model(TINY, pick_compute(precision))
    assert on_gpu.compute.uses_graphs
    settings = short(max_train_steps_ti=100, max_train_steps_tuning=50)

    graph = train(on_gpu, examples, settings, ignore)
    eager = train(without_graphs(on_gpu), examples, settings, ignore)

    assert "no CUDA graph" not in caplog.text
    for one, other in zip(graph.histories, eager.histories, strict=True):
        assert len(one.losses) == 50
        assert one.losses == pytest.approx(other.losses, rel=tolerance)
    difference = (changes(graph) - changes(eager)).norm() / changes(eager).norm()
    assert difference < 0.05


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_recording_gives_what_python_gives(
    examples: list[Example], short: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a CPU, but that a GPU adds up in any order."""
    monkeypatch.setattr(recording, "MIN_UPDATES", 1)
    on_gpu = load_base_model(TINY, pick_compute("fp32"))
    settings = short(max_train_steps_ti=40, max_train_steps_tuning=20)

    recorded = train(without_graphs(on_gpu, recordings=True), examples, settings, ignore)
    eager = train(without_graphs(on_gpu), examples, settings, ignore)

    assert losses(recorded) == pytest.approx(losses(eager), rel=1e-3)


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
        Example(image=e.image.resize((512, 512)), mask=None, prompts=e.prompts) for e in examples
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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_what_cannot_be_captured_is_launched_and_this_is_said(
    on_gpu: BaseModel, examples: list[Example], short: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """Asking for a number cannot be captured. The run goes on with the draws it would have had.

    The last test: no graph is tried in this process any more.
    """

    def found(base: BaseModel, project: Callable[[torch.Tensor], None]) -> tuple[float, ...]:
        generator = base.compute.generator(0)
        with new_words(base, ("<s1>",), generator) as words:
            pictures = encode_pictures(base, examples, words.tokenize, mirror=False)
            phase = replace(inversion_phase(base, words, short()), num_updates=8, project=project)
            losses = run_phase(phase, base, pictures, generator, ignore).losses
        return (*losses, torch.rand((), generator=generator, device="cuda").item())

    def ask(rate: torch.Tensor) -> None:
        rate.item()

    asking = found(on_gpu, ask)
    assert "inversion: no CUDA graph, each operation is launched on its own" in caplog.text
    assert asking == pytest.approx(found(without_graphs(on_gpu), lambda rate: None), rel=2e-2)
    assert asking[-1] == found(on_gpu, ask)[-1]
    assert "an earlier attempt failed" in caplog.text
