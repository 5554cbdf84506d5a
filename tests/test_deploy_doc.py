"""docs/deploy.md names scripts, options, variables and sizes that exist."""

import re
import subprocess

import pytest

from tests.conftest import REPOSITORY
from weights.manifest import MODELS, HubModel

TEXT = (REPOSITORY / "docs" / "deploy.md").read_text(encoding="utf-8")
COMMANDS = [
    line.split(" #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    for line in block.replace("\\\n", "").splitlines()
]


@pytest.mark.parametrize("script", sorted(set(re.findall(r"script/[a-z-]+", TEXT))))
def test_every_script_is_there(script: str) -> None:
    assert (REPOSITORY / script).is_file()


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\((?!http|#)([^)#]+)", TEXT):
        assert (REPOSITORY / "docs" / target).exists(), target
    headings = {
        heading.lower().replace(" ", "-")
        for heading in re.findall(r"^## (.+)$", TEXT, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= headings


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.name)
def test_the_sizes_are_the_manifests(model: HubModel) -> None:
    gigabytes = f"{model.num_bytes / 1e9:.1f} GB"

    assert gigabytes in TEXT


@pytest.mark.slow
def test_the_options_of_download_weights_are_real() -> None:
    usage = subprocess.run(
        [REPOSITORY / "script" / "download-weights", "--help"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    shown = [command for command in COMMANDS if command.startswith("script/download-weights")]

    assert len(shown) == 3
    for option in re.findall(r"--[a-z]+", " ".join(shown)):
        assert option in usage
    for name in re.findall(r"--model (\S+)", " ".join(shown)):
        assert name in usage


def test_the_inputs_in_the_commands_are_the_forms() -> None:
    form = (REPOSITORY / "predict.py").read_text(encoding="utf-8")
    named = set(re.findall(r"-i (\w+)=", TEXT)) | set(re.findall(r'"(\w+)": "', TEXT))

    assert named == {"instance_data", "task", "resolution"}
    for name in named:
        assert f"        {name}: " in form
