"""A run on the embedded base model: what learns, what must not, and that it can be repeated."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from preprocessing.example import Example
from tests.conftest import REPOSITORY
from training.base_model import BaseModel
from training.formats import write_lora
from training.loop import TrainingDivergedError
from training.phase import Progress
from training.pivotal import Trained, inversion_phase, train, tuning_phase
from training.placeholders import new_words
from training.schedule import learning_rates
from training.settings import TrainingInputs, TrainingSettings, translate
from training.updates import draw_timesteps

Settings = Callable[..., TrainingSettings]


def ignore(progress: Progress) -> None:
    pass


def state_of(base: BaseModel) -> dict[str, Tensor]:
    return {
        f"{part}.{name}": tensor.clone()
        for part in ("text_encoder", "vae", "unet")
        for name, tensor in getattr(base, part).state_dict().items()
    }


def assert_same_lora(one: Trained, other: Trained) -> None:
    for part in ("unet", "text_encoder"):
        ones, others = getattr(one.lora, part), getattr(other.lora, part)
        assert ones.keys() == others.keys()
        for name in ones:
            assert torch.equal(ones[name].down, others[name].down), name
            assert torch.equal(ones[name].up, others[name].up), name
    for token, row in one.lora.embeddings.items():
        assert torch.equal(row, other.lora.embeddings[token])


def test_a_run_learns_every_layer_and_word_and_leaves_the_base_model_as_it_was(
    base: BaseModel, examples: list[Example], short: Settings
) -> None:
    before, vocabulary = state_of(base), len(base.tokenizer)

    trained = train(base, examples, short(), ignore)

    after = state_of(base)
    assert after.keys() == before.keys()
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name
    assert len(base.tokenizer) == vocabulary
    for part in (base.text_encoder, base.unet, base.vae):
        assert not any(p.requires_grad or p.grad is not None for p in part.parameters())
    pairs = [*trained.lora.unet.values(), *trained.lora.text_encoder.values()]
    assert all(pair.up.abs().max() > 0 for pair in pairs)
    assert trained.lora.embeddings.keys() == {"<s1>", "<s2>"}


def test_the_layers_are_the_prior_services_kinds(
    base: BaseModel, examples: list[Example], short: Settings
) -> None:
    lora = train(base, examples, short(), ignore).lora

    # The tiny UNet has 7 transformer blocks of 9 layers each, SD 1.5's 16; its text encoder has 2
    # layers of 4, SD 1.5's 12: 144 + 48 there.
    assert len(lora.unet) == 7 * 9
    assert len(lora.text_encoder) == 2 * 4
    ends = {name.split("transformer_blocks.0.")[1] for name in lora.unet}
    assert ends == {
        *(
            f"{attn}.{x}"
            for attn in ("attn1", "attn2")
            for x in ("to_q", "to_k", "to_v", "to_out.0")
        ),
        "ff.net.0.proj",
    }


def test_every_word_keeps_its_own_row_and_the_seed_draws_it(
    base: BaseModel, examples: list[Example], short: Settings
) -> None:
    settings = short(max_train_steps_ti=0, max_train_steps_tuning=1, seed=3)
    trained = train(base, examples, settings, ignore)

    with new_words(base, ("<s1>", "<s2>"), base.compute.generator(3)) as words:
        rows = words.embedding.rows.detach()
    assert torch.equal(trained.lora.embeddings["<s1>"], rows[0])
    assert torch.equal(trained.lora.embeddings["<s2>"], rows[1])


@pytest.mark.slow
def test_inversion_moves_the_words_and_tuning_leaves_them(
    base: BaseModel, examples: list[Example], short: Settings
) -> None:
    untouched = train(base, examples, short(max_train_steps_ti=0), ignore)
    inverted = train(base, examples, short(max_train_steps_tuning=0), ignore)
    both = train(base, examples, short(), ignore)

    for token, row in inverted.lora.embeddings.items():
        assert not torch.equal(row, untouched.lora.embeddings[token])
        assert torch.equal(row, both.lora.embeddings[token])
    assert all(pair.up.abs().max() == 0 for pair in inverted.lora.unet.values())


@pytest.mark.slow
def test_two_runs_of_one_seed_in_one_process_are_equal(
    base: BaseModel, examples: list[Example], short: Settings
) -> None:
    one = train(base, examples, short(seed=3), ignore)
    torch.rand(17)  # somebody else draws a number in between
    other = train(base, examples, short(seed=3), ignore)
    different = train(base, examples, short(seed=4), ignore)

    assert_same_lora(one, other)
    assert one.histories[1].losses == other.histories[1].losses
    assert one.histories[1].losses != different.histories[1].losses


FRESH_PROCESS = """
import sys
from pathlib import Path
from PIL import Image
from preprocessing.example import Example
from training.base_model import load_base_model
from training.compute import pick_compute
from training.formats import write_lora
from training.pivotal import train
from training.settings import TrainingInputs, translate

base = load_base_model(Path("weights/tiny"), pick_compute())
examples = [
    Example(image=Image.new("RGB", (64, 64), c), mask=None, prompts=("a photo of {}",))
    for c in ("crimson", "seagreen")
]
inputs = TrainingInputs(
    resolution=64, max_train_steps_ti=6, max_train_steps_tuning=6, lora_rank=4, seed=5
)
write_lora(train(base, examples, translate(inputs), lambda p: None).lora, Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_fresh_processes_give_the_same_file_as_this_one(base: BaseModel, tmp_path: Path) -> None:
    colours = ("crimson", "seagreen")
    examples = [
        Example(image=Image.new("RGB", (64, 64), c), mask=None, prompts=("a photo of {}",))
        for c in colours
    ]
    inputs = TrainingInputs(
        resolution=64, max_train_steps_ti=6, max_train_steps_tuning=6, lora_rank=4, seed=5
    )
    write_lora(train(base, examples, translate(inputs), ignore).lora, tmp_path / "here")
    digests = {hashlib.sha256((tmp_path / "here").read_bytes()).hexdigest()}
    for name in ("one.safetensors", "other.safetensors"):
        command = [sys.executable, "-c", FRESH_PROCESS, str(tmp_path / name)]
        subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
        digests.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(digests) == 1


def test_a_loss_that_is_no_number_stops_the_run_and_says_what_to_lower(
    base: BaseModel, examples: list[Example], short: Settings
) -> None:
    before = state_of(base)
    settings = short(learning_rate_unet=1.0, learning_rate_text=1.0, max_train_steps_tuning=60)

    with pytest.raises(TrainingDivergedError, match=r"at step \d+ of tuning\. Lower learn"):
        train(base, examples, settings, ignore)

    after = state_of(base)
    assert after.keys() == before.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_each_phase_draws_its_own_timesteps(base: BaseModel, short: Settings) -> None:
    """As the prior service: inversion from all 1000, tuning from the 800 that are less noisy."""
    settings, generator = short(), torch.Generator().manual_seed(0)
    nothing = torch.nn.Parameter(torch.zeros(1))
    tuning = tuning_phase(base, settings.tuning, "constant", nothing, nothing)
    with new_words(base, ("<s1>", "<s2>"), generator) as words:
        inversion = inversion_phase(base, words, settings)

    for phase, last in ((inversion, 999), (tuning, 799)):
        timesteps = draw_timesteps(phase, 20_000, generator)
        assert (int(timesteps.min()), int(timesteps.max())) == (0, last)
        assert abs(timesteps.double().mean().item() - last / 2) < 10


def test_progress_counts_the_pictures_seen_and_ends_at_the_number_asked_for(
    base: BaseModel, examples: list[Example], short: Settings
) -> None:
    seen: list[Progress] = []
    train(base, examples, short(), seen.append)

    ends = [(p.phase, p.step, p.num_steps) for p in seen if p.step == p.num_steps]
    assert ends == [("inversion", 6, 6), ("tuning", 6, 6)]
    assert seen[0].line().startswith("inversion     6/6  loss 0.")
    assert seen[0].line().endswith("steps/s  eta 0m00s")


SCHEDULES = {
    "constant": (1.0, 1.0, 1.0),
    "linear": (1.0, 0.5, 0.05),
    "cosine": (1.0, 0.5, 0.006156),
    "cosine_with_restarts": (1.0, 0.5, 0.006156),
    "polynomial": (1.0, 0.5, 0.05),
    "constant_with_warmup": (0.0, 1.0, 1.0),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_learning_rate_follows_the_schedule(
    base: BaseModel, examples: list[Example], short: Settings, schedule: str
) -> None:
    """Share of the given rate at the first, the middle and the last of 20 updates."""
    settings = short(
        lr_scheduler=schedule,
        max_train_steps_ti=0,
        max_train_steps_tuning=20,
        learning_rate_unet=1e-3,
    )
    history = train(base, examples, settings, ignore).histories[1]
    shares = [history.learning_rates[update] / 2e-3 for update in (0, 10, 19)]
    assert shares == pytest.approx(SCHEDULES[schedule], abs=1e-4)


def test_both_phases_follow_the_schedule_each_from_its_own_rate(
    base: BaseModel, examples: list[Example], short: Settings
) -> None:
    settings = short(lr_scheduler="linear", learning_rate_ti=3e-4, learning_rate_unet=1e-3)
    inversion, tuning = train(base, examples, settings, ignore).histories

    assert inversion.learning_rates == pytest.approx([6e-4 * left / 3 for left in (3, 2, 1)])
    assert tuning.learning_rates == pytest.approx([2e-3 * left / 6 for left in (6, 5, 4, 3, 2, 1)])


def test_the_rate_warms_up_in_a_twentieth_of_the_updates(base: BaseModel, short: Settings) -> None:
    settings = short(max_train_steps_tuning=100, learning_rate_unet=1e-3, learning_rate_text=1e-4)
    nothing = torch.nn.Parameter(torch.zeros(1))
    phase = tuning_phase(base, settings.tuning, "constant_with_warmup", nothing, nothing)

    shares = [0.0, 0.2, 0.4, 0.6, 0.8] + 95 * [1.0]
    unet, text_encoder = learning_rates(phase).T.tolist()
    assert unet == pytest.approx([2e-3 * share for share in shares])
    assert text_encoder == pytest.approx([2e-4 * share for share in shares])


def test_the_same_lora_gives_the_same_bytes(
    base: BaseModel, examples: list[Example], short: Settings, tmp_path: Path
) -> None:
    lora = train(base, examples, short(), ignore).lora
    for name in ("one", "other"):
        write_lora(lora, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
