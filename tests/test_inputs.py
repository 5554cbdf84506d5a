"""Each input of the form does what its name says: none is lost or mistaken for another."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import training
from predict import Predictor
from preprocessing.templates import TEMPLATES
from service.job import Request, make_lora
from service.workplace import Workplace
from training.base_model import BaseModel
from training.formats import read_lora
from training.origin import Origin
from training.settings import Task, TrainingInputs

# None has its default, and no two numbers are alike.
TYPED: dict[str, Any] = {
    "instance_data_urls": None,
    "custom_prompts": None,
    "task": "style",
    "resolution": 64,
    "max_train_steps_ti": 4,
    "max_train_steps_tuning": 3,
    "learning_rate_text": 1e-5,
    "learning_rate_ti": 3e-4,
    "learning_rate_unet": 1e-4,
    "lr_scheduler": "linear",
    "lora_rank": 2,
    "seed": 7,
    "output_format": "kohya",
    "save_precision": "bf16",
}


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "cat.png"
    Image.new("RGB", (64, 64), "navy").save(path)
    return path


def test_every_input_of_the_form_reaches_the_file(
    base: BaseModel, photo: Path, tmp_path: Path
) -> None:
    """The rates are doubled, as the prior service did."""
    predictor = Predictor()
    predictor.workplace = Workplace(tmp_path)
    predictor.max_seconds = 1800
    predictor.base = base

    stored = read_lora(predictor.predict(instance_data=photo, **TYPED))

    assert (stored.output_format, stored.save_precision) == ("kohya", "bf16")
    assert stored.lora.rank == 2
    assert stored.lora.origin == Origin(
        base_model="weights/tiny",
        prediction_type="epsilon",
        task="style",
        resolution=64,
        num_pictures=1,
        inversion_steps=4,
        tuning_steps=3,
        learning_rate_ti=6e-4,
        learning_rate_unet=2e-4,
        learning_rate_text=2e-5,
        lr_scheduler="linear",
        seed=7,
        version=training.__version__,
    )


@pytest.mark.parametrize("task", ["face", "object", "style", "location"])
def test_each_task_trains_on_prompts_of_its_own(
    base: BaseModel, photo: Path, tmp_path: Path, task: Task
) -> None:
    request = Request(
        instance_data=photo,
        instance_data_urls=None,
        custom_prompts=None,
        inputs=TrainingInputs(
            task=task, resolution=64, max_train_steps_ti=0, max_train_steps_tuning=1
        ),
        name="cat",
    )
    made = make_lora(base, request, tmp_path, lambda progress: None)

    assert made.prepared.examples[0].prompts == TEMPLATES[task]
    assert sum(templates == TEMPLATES[task] for templates in TEMPLATES.values()) == 1
