"""A machine that is too small, made by the kernel's own limits: a sentence, and then it goes on."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import REPOSITORY


def answers(tmp_path: Path, limit: str) -> tuple[list[Any], list[str]]:
    photo = tmp_path / "photo.png"
    Image.new("RGB", (128, 128), "navy").save(photo)
    told = subprocess.run(
        [sys.executable, "-m", "tests.small_machine", str(photo), limit],
        cwd=REPOSITORY,
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "ANSWERS" in told.stdout, told.stderr[-2000:]
    given, left = json.loads(told.stdout.split("ANSWERS")[1])
    return given, left


@pytest.mark.slow
def test_out_of_memory_says_what_to_lower_and_the_next_run_works(tmp_path: Path) -> None:
    (before, failed, after), left = answers(tmp_path, "RLIMIT_AS")

    assert failed[0] == "OutOfMemoryError"
    assert "with resolution 128, lora_rank 128" in failed[1]
    assert "Lower resolution" in failed[1]
    assert before[0] == "made"
    assert after == before
    assert len(left) == 2  # the last run's folder and file


@pytest.mark.slow
def test_a_full_disk_is_told_and_the_next_run_works(tmp_path: Path) -> None:
    (before, failed, after), left = answers(tmp_path, "RLIMIT_FSIZE")

    assert failed[0] == "StorageError"
    assert failed[1].startswith("The result could not be written: File too large.")
    assert "Free some disk space" in failed[1]
    assert after == before
    assert len(left) == 2
