"""The embedded base model, loaded once: every run must leave it as it was."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from preprocessing.example import Example
from tests.lessons import open_lesson
from training.base_model import BaseModel, load_base_model
from training.compute import pick_compute
from training.settings import TrainingInputs, TrainingSettings, translate

# A shell lets what it starts in the background (`script/test &`) ignore Ctrl-C, and that would be
# handed on to the processes that tests send it to.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).parent.parent
TINY = REPOSITORY / "weights" / "tiny"
# A run of seconds that is seen in what the model draws.
VISIBLE = TrainingInputs(
    resolution=64,
    max_train_steps_ti=10,
    max_train_steps_tuning=30,
    learning_rate_unet=2e-3,
    learning_rate_text=1e-3,
    lora_rank=4,
)


@pytest.fixture(scope="session")
def base() -> BaseModel:
    return load_base_model(TINY, pick_compute())


def noise_image(seed: int, side: int = 64) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def examples() -> list[Example]:
    """Three pictures of flat colours: easy to learn, different from each other."""
    colours = ("crimson", "seagreen", "navy")
    prompts = ("a photo of {}", "an icon of {}")
    return [
        Example(image=Image.new("RGB", (64, 64), colour), mask=None, prompts=prompts)
        for colour in colours
    ]


@pytest.fixture
def short() -> Callable[..., TrainingSettings]:
    """Settings of a run of seconds; keywords as on the form."""

    def settings(**inputs: object) -> TrainingSettings:
        defaults: dict[str, object] = {
            "task": "style",
            "resolution": 64,
            "max_train_steps_ti": 6,
            "max_train_steps_tuning": 6,
            "learning_rate_unet": 1e-3,
            "learning_rate_text": 1e-3,
            "lora_rank": 4,
        }
        return translate(TrainingInputs(**(defaults | inputs)))  # type: ignore[arg-type]

    return settings


@pytest.fixture(params=["inversion", "tuning"])
def lesson(
    request: pytest.FixtureRequest,
    base: BaseModel,
    examples: list[Example],
    short: Callable[..., TrainingSettings],
) -> Any:
    """(phase, pictures), with the model made ready for it."""
    with open_lesson(base, examples, short(), request.param) as opened:
        yield opened
