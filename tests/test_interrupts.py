"""Ctrl-C, whenever it comes: one word, the status that shells expect, and nothing left behind."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.pictures import encode, noise, write, zip_of
from training.formats import read_lora

pytestmark = pytest.mark.slow  # they wait for the moment


def test_after_the_training_it_is_said_that_the_lora_is_written(tmp_path: Path) -> None:
    steps = ["--max_train_steps_ti=4", "--max_train_steps_tuning=4"]
    process = subprocess.Popen(
        [str(REPOSITORY / "script" / "train"), *steps, "--out", "new/lora.safetensors"],
        cwd=tmp_path,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert any(line.startswith("drawing 8 samples") for line in process.stdout)
    os.killpg(process.pid, signal.SIGINT)

    _, errors = process.communicate(timeout=60)

    assert process.returncode == 130
    assert errors == "Stopped. new/lora.safetensors is written, and whole.\n"
    assert read_lora(tmp_path / "new/lora.safetensors").lora.embeddings


def interrupt(script: str, folder: Path, seconds: float) -> tuple[int, str]:
    """Status and errors of `script` with a hundred pictures, and Ctrl-C after so many seconds.

    As in a terminal, every process of its group gets the signal.
    """
    picture = encode(noise(1600, 1200))
    write(folder, zip_of(*((f"{number}.png", picture) for number in range(100))), "pictures.zip")
    command = [str(REPOSITORY / "script" / script), "pictures.zip"]
    command += [] if script == "convert" else ["--out", "out.safetensors"]
    process = subprocess.Popen(
        command,
        cwd=folder,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(folder)},
        text=True,
    )
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert "FakeTensor" not in output
    return process.returncode, errors


@pytest.mark.parametrize(
    ("script", "seconds"),
    [
        *(("train", 0.3), ("train", 0.9), ("train", 4.0)),
        *(("inspect", 0.3), ("inspect", 1.2), ("inspect", 2.5)),
        ("convert", 0.5),
    ],
)
def test_one_word_is_said_and_nothing_left(script: str, seconds: float, tmp_path: Path) -> None:
    status, errors = interrupt(script, tmp_path, seconds)

    assert (status, errors) == (130, "Stopped.\n")
    assert [path.name for path in tmp_path.iterdir()] == ["pictures.zip"]
