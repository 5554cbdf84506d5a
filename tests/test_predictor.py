"""predict.py without the server: names, coercion, and what is left on disk."""

import errno
import inspect
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from predict import COG_PREFIX, Predictor, max_training_seconds, output_name, whole
from preprocessing.errors import PictureError
from service.answers import InternalError, OutOfMemoryError, answered
from service.job import Request, make_lora
from service.workplace import StorageError, Workplace
from training.base_card import base_model_folder
from training.base_model import BaseModel
from training.forecast import TooLongError
from training.formats import read_lora
from training.phase import Progress
from training.settings import SettingsError, TrainingInputs

REPOSITORY = Path(__file__).parent.parent
SMALL = {"resolution": 64, "max_train_steps_ti": 2, "max_train_steps_tuning": 2, "lora_rank": 2}


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """One picture is enough of an archive for these tests."""
    path = tmp_path / "tmp1a2b3c4dmy cat.png"
    Image.new("RGB", (64, 64), "navy").save(path)
    return path


@pytest.fixture
def predictor(base: BaseModel, tmp_path: Path) -> Predictor:
    """As after setup(), with the base model that all tests share."""
    predictor = Predictor()
    predictor.workplace = Workplace(tmp_path)
    predictor.max_seconds = 1800
    predictor.base = base
    return predictor


def call(predictor: Predictor, **inputs: object) -> Path:
    """As the server does: every input is there, by name."""
    parameters = list(inspect.signature(Predictor.predict).parameters.values())[1:]
    form: dict[str, Any] = {field.name: field.default.default for field in parameters}
    path: Path = predictor.predict(**(form | SMALL | inputs))
    return path


@pytest.mark.parametrize(
    ("archive_name", "expected"),
    [
        ("photos.zip", "photos"),
        ("My Photos (2).ZIP", "My-Photos-2"),
        ("Fotos für Zoë.zip", "Fotos-fur-Zoe"),
        ("v1.5-cats.zip", "v1.5-cats"),
        ("cats.tar.gz", "cats"),
        ("../../etc/passwd", "passwd"),
        ("写真.zip", "lora"),
        ("file.zip", "lora"),
        (".zip", "zip"),
        ("", "lora"),
    ],
)
def test_the_file_is_named_after_the_zip(archive_name: str, expected: str) -> None:
    assert output_name(archive_name) == expected


@given(st.text())
def test_every_name_makes_a_plain_download_name(archive_name: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", output_name(archive_name))


@pytest.mark.parametrize("name", ["tmpu5tjlof2my photos.zip", "tmp________my photos.zip"])
def test_cogs_own_part_of_a_name_is_dropped(name: str) -> None:
    assert COG_PREFIX.sub("", name) == "my photos.zip"


def test_json_writes_whole_numbers_in_two_ways() -> None:
    assert [whole(5), whole(5.0)] == [5, 5]
    assert isinstance(whole(5.0), int)


@pytest.mark.parametrize("value", [5.5, "5", True, None, float("nan")])
def test_what_is_no_whole_number_is_refused(predictor: Predictor, value: object) -> None:
    with pytest.raises(SettingsError, match="lora_rank must be a whole number"):
        call(predictor, lora_rank=value)


@pytest.mark.parametrize("text", ["/etc/hostname", "notaurl", "s3://bucket/photos.zip", " "])
def test_text_in_place_of_a_file_is_never_opened(predictor: Predictor, text: str) -> None:
    with pytest.raises(SettingsError, match="neither an uploaded file nor"):
        call(predictor, instance_data=text)


def test_the_base_model_is_the_one_that_base_model_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BASE_MODEL", raising=False)
    assert base_model_folder() == REPOSITORY / "weights/tiny"
    monkeypatch.setenv("BASE_MODEL", "weights/stable-diffusion-v1-5")
    assert base_model_folder() == REPOSITORY / "weights/stable-diffusion-v1-5"
    monkeypatch.setenv("BASE_MODEL", "/models/mine")
    assert base_model_folder() == Path("/models/mine")


@pytest.mark.slow
def test_a_file_stays_until_the_next_call_and_no_longer(predictor: Predictor, photo: Path) -> None:
    first = call(predictor, instance_data=photo)
    assert first.name == "my-cat.safetensors"
    assert first.stat().st_size > 10_000
    assert oct(first.parent.stat().st_mode & 0o777) == "0o700"

    second = call(predictor, instance_data=photo)
    assert not first.parent.exists()

    with pytest.raises(PictureError):
        call(predictor, instance_data=None)
    assert not second.parent.exists()
    assert list(predictor.workplace.folder.iterdir()) == []


@pytest.mark.parametrize("name", ["instance_data_urls", "custom_prompts"])
def test_a_list_that_is_no_text_is_refused(predictor: Predictor, photo: Path, name: str) -> None:
    with pytest.raises(PictureError, match=f"{name} must be a text"):
        call(predictor, instance_data=photo, **{name: ["a", "b"]})


@pytest.mark.slow
def test_a_run_that_cannot_end_in_time_is_refused_with_what_would_fit(
    predictor: Predictor, photo: Path, caplog: pytest.LogCaptureFixture
) -> None:
    predictor.max_seconds = 20
    with pytest.raises(TooLongError) as caught:
        call(
            predictor,
            instance_data=photo,
            max_train_steps_ti=20_000,
            max_train_steps_tuning=10_000,
        )
    found = re.search(r"would fit: (\d+) for inversion and (\d+) for tuning", str(caught.value))
    assert found
    inversion, tuning = map(int, found.groups())
    assert 0 < tuning < inversion < 20_000
    # What is suggested is accepted.
    steps = {"max_train_steps_ti": inversion, "max_train_steps_tuning": tuning}
    predictor.max_seconds = 40  # the machine may be busier by now
    with caplog.at_level("INFO"):
        assert call(predictor, instance_data=photo, **steps).exists()
    assert "expected time: about" in caplog.text


def test_a_time_that_is_used_up_by_the_pictures_is_told_so(
    predictor: Predictor, photo: Path
) -> None:
    predictor.max_seconds = 1e-9
    with pytest.raises(TooLongError, match="There is no time left to train"):
        call(predictor, instance_data=photo)


@pytest.mark.parametrize("text", ["abc", "nan", "0", "-1"])
def test_a_limit_that_is_none_is_told_at_the_start(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_TRAINING_MINUTES", text)
    with pytest.raises(SettingsError, match=f"must be a number above 0; got '{text}'"):
        max_training_seconds()


@pytest.mark.parametrize(("minutes", "seconds"), [("", 1800), ("0.5", 30), ("inf", float("inf"))])
def test_the_limit_is_given_in_minutes(
    minutes: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_TRAINING_MINUTES", minutes)
    assert max_training_seconds() == seconds


def test_a_date_that_is_none_is_told_before_the_training(
    predictor: Predictor, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000000")
    with pytest.raises(SettingsError, match="SOURCE_DATE_EPOCH must be a time in seconds"):
        call(predictor, instance_data=photo)


def test_a_long_value_is_not_repeated_whole(predictor: Predictor, photo: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        call(predictor, instance_data=photo, task="x" * 100_000)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        ExceptionGroup("several", [MemoryError()]),
    ],
    ids=str,
)
def test_all_ways_to_run_out_of_memory_are_told_as_that(error: Exception) -> None:
    with pytest.raises(OutOfMemoryError, match="Lower resolution"), answered(TrainingInputs()):
        raise error


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_takes_nothing_is_told_wherever_it_shows(number: int) -> None:
    with (
        pytest.raises(StorageError, match="A file could not be written") as caught,
        answered(TrainingInputs()),
    ):
        raise OSError(number, os.strerror(number), "/tmp/somebody")
    assert "somebody" not in str(caught.value)
    assert ("Free some disk space" in str(caught.value)) == (number == errno.ENOSPC)


def test_what_breaks_on_our_side_is_told_by_a_reference_only(
    predictor: Predictor, photo: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    del predictor.base  # something that should never happen

    with pytest.raises(InternalError, match=r"our side \(reference ([0-9a-f]{8})\)") as caught:
        call(predictor, instance_data=photo)

    reference = str(caught.value).split("reference ")[1][:8]
    logged = capfd.readouterr().err
    assert f"reference {reference}" in logged
    assert "builtins.AttributeError, raised in" in logged
    assert "predict.py" in logged
    assert "my cat" not in logged


def test_the_servers_log_quotes_no_message(capfd: pytest.CaptureFixture[str]) -> None:
    words = "_".join(("my", "cat"))  # (the log may quote this line of code)
    with pytest.raises(InternalError), answered(TrainingInputs()):
        raise RuntimeError(words)
    assert words not in capfd.readouterr().err


def test_a_run_writes_one_file_and_says_how_long_each_stage_took(
    base: BaseModel, photo: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    reported: list[Progress] = []
    request = Request(
        instance_data=photo,
        instance_data_urls=None,
        custom_prompts="a drawing of {}\nan icon of {}",
        inputs=TrainingInputs(resolution=64, max_train_steps_ti=2, max_train_steps_tuning=2),
        name="cat",
    )

    made = make_lora(base, request, folder, reported.append)

    assert list(folder.iterdir()) == [made.path] == [folder / "cat.safetensors"]
    assert made.prepared.examples[0].prompts == ("a drawing of {}", "an icon of {}")
    assert list(made.seconds) == ["pictures", "training", "writing"]
    assert [progress.phase for progress in reported] == ["inversion", "tuning"]


@pytest.mark.slow
def test_the_file_is_dated_only_where_a_date_is_asked_for(
    predictor: Predictor, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert read_lora(call(predictor, instance_data=photo)).lora.origin.date is None
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1763800000")
    dated = read_lora(call(predictor, instance_data=photo)).lora.origin
    assert dated.date == "2025-11-22T08:26:40+00:00"
    assert (dated.task, dated.learning_rate_unet, dated.inversion_steps) == ("face", 4e-4, 2)


def test_a_resolution_that_the_base_model_cannot_do_is_refused_before_pictures_are_read(
    base: BaseModel, tmp_path: Path
) -> None:
    request = Request(
        instance_data=tmp_path / "missing.zip",
        instance_data_urls=None,
        custom_prompts=None,
        inputs=TrainingInputs(resolution=512),
        name="cat",
    )

    with pytest.raises(SettingsError, match="nearest that works is 128"):
        make_lora(base, request, tmp_path, lambda progress: None)
