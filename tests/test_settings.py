import pytest

from training.settings import SettingsError, TrainingInputs, translate


def test_the_defaults_mean_what_they_meant_to_the_prior_service() -> None:
    """Its default job, read from its source: 350 updates of 2 pictures at 1e-3, then 700 of 1."""
    settings = translate(TrainingInputs())

    assert settings.inversion.num_updates == 350
    assert settings.inversion.batch_size == 2
    assert settings.inversion.learning_rate == pytest.approx(1e-3)
    assert settings.tuning.num_updates == 700
    assert settings.tuning.batch_size == 1
    assert settings.tuning.unet_learning_rate == pytest.approx(4e-4)
    assert settings.tuning.text_learning_rate == pytest.approx(2e-5)
    assert settings.tuning.weight_decay == 1e-3
    assert settings.tuning.max_timestep_fraction == 0.8
    assert settings.tuning.max_grad_norm == 1.0
    assert settings.placeholder_tokens == ("<s1>", "<s2>")


@pytest.mark.parametrize(("steps", "updates"), [(0, 0), (1, 1), (2, 1), (701, 351)])
def test_an_odd_number_of_inversion_steps_is_rounded_up(steps: int, updates: int) -> None:
    """The prior service stepped its optimiser at steps 0, 2, 4, ..."""
    assert translate(TrainingInputs(max_train_steps_ti=steps)).inversion.num_updates == updates


@pytest.mark.parametrize(
    ("task", "mirror"), [("face", False), ("location", False), ("object", True), ("style", True)]
)
def test_faces_and_places_are_never_mirrored(task: str, mirror: bool) -> None:
    assert translate(TrainingInputs(task=task)).mirror is mirror  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("task", "car"),
        ("lr_scheduler", "steps"),
        ("resolution", 32),
        ("resolution", 512.0),
        ("max_train_steps_tuning", -1),
        ("max_train_steps_ti", True),
        ("learning_rate_unet", float("nan")),
        ("learning_rate_text", -1e-5),
        ("learning_rate_ti", 2),
        ("lora_rank", 0),
        ("seed", 2**31),
    ],
)
def test_a_value_that_makes_no_sense_is_named_with_what_would(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=f"{name} must be .*; got {value!r}"):
        TrainingInputs(**{name: value})  # type: ignore[arg-type]


def test_a_run_of_no_steps_at_all_is_refused() -> None:
    with pytest.raises(SettingsError, match="both 0, so nothing would be learned"):
        TrainingInputs(max_train_steps_ti=0, max_train_steps_tuning=0)
