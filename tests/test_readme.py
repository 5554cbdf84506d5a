"""What the README tells people to type works."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from cli.arguments import parse_command
from preprocessing.example import Example
from tests.conftest import REPOSITORY
from training.base_model import BaseModel
from training.formats import write_lora
from training.pivotal import train
from training.settings import TrainingInputs

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_readmes_python_draws_a_picture_with_the_file(
    base: BaseModel, examples: list[Example], short, tmp_path: Path
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (lora,) = re.findall(r'"(output/[^"]+\.safetensors)"', code)
    made = parse_command([]).out  # what the README's first command writes
    assert REPOSITORY / lora == made.resolve()
    (tmp_path / "output").mkdir()
    (tmp_path / "weights").symlink_to(REPOSITORY / "weights")
    write_lora(train(base, examples, short(), lambda progress: None).lora, tmp_path / lora)

    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", code]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)

    (picture,) = (tmp_path / "output").glob("*.png")
    with Image.open(picture) as image:
        assert image.size == (64, 64)


def test_every_script_the_readme_names_exists_and_can_be_run() -> None:
    names = set(re.findall(r"script/[a-z-]+", README))
    assert {"script/train", "script/test", "script/serve"} <= names
    for name in names:
        assert os.access(REPOSITORY / name, os.X_OK), name


def test_every_link_leads_somewhere() -> None:
    for page in (REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_inputs_table_says_what_the_form_says() -> None:
    for name, default in vars(TrainingInputs()).items():
        (row,) = [line for line in README.splitlines() if line.startswith(f"| `{name}` |")]
        told = row.split("|")[2].strip()
        assert (float(told) == default) if isinstance(default, float) else told == str(default)
