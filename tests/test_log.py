"""What the log says of a run before it begins."""

import pytest

from service.job import log_settings
from training.settings import TrainingInputs, translate

NO_RATES = {"learning_rate_ti": 0.0, "learning_rate_unet": 0.0, "learning_rate_text": 0.0}


def lines_for(caplog: pytest.LogCaptureFixture, **inputs: object) -> list[str]:
    caplog.set_level("INFO")
    log_settings(translate(TrainingInputs(**inputs)))  # type: ignore[arg-type]
    return [record.getMessage() for record in caplog.records]


def test_settings_are_told_in_words_with_the_rates_that_are_used(caplog) -> None:
    assert lines_for(caplog, task="object", lr_scheduler="cosine", seed=3) == [
        "updates: 350 for the words, with 2 pictures each; 700 for the LoRA of rank 16, with 1",
        "learning rates: words 0.001, UNet 0.0004, text encoder 2e-05; schedule cosine,"
        " mirror yes, seed 3",
    ]


@pytest.mark.parametrize(
    "inputs",
    [
        NO_RATES,
        {"max_train_steps_tuning": 0, "learning_rate_ti": 0.0},
        {"max_train_steps_ti": 0, "learning_rate_unet": 0.0, "learning_rate_text": 0.0},
    ],
)
def test_who_trains_with_rates_of_0_is_warned(caplog, inputs: dict[str, float]) -> None:
    assert lines_for(caplog, **inputs)[-1].startswith("nothing will be learned")
    assert caplog.records[-1].levelname == "WARNING"


@pytest.mark.parametrize("name", NO_RATES)
def test_one_rate_is_enough_to_learn(caplog, name: str) -> None:
    assert len(lines_for(caplog, **NO_RATES | {name: 1e-5})) == 2
