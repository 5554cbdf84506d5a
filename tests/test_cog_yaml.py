"""cog.yaml and what the image installs keep to Cog's rules: no build checks them here."""

import re
from pathlib import Path

import pytest
import yaml

from weights.manifest import MODELS

REPOSITORY = Path(__file__).parent.parent
CONFIG = yaml.safe_load((REPOSITORY / "cog.yaml").read_text(encoding="utf-8"))
REQUIREMENTS = [
    line
    for line in (REPOSITORY / "requirements.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]

# Current keys only: python_packages and pre_install, say, are deprecated.
TOP_LEVEL_KEYS = {"build", "image", "predict", "environment"}
BUILD_KEYS = {
    "gpu", "cuda", "cudnn", "python_version", "python_requirements", "system_packages", "run",
    "sdk_version",
}  # fmt: skip
# Cog refuses to set these, or anything that begins with these.
RESERVED_NAMES = {
    "PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "PYTHONUNBUFFERED", "LIBRARY_PATH",
    "HF_ENDPOINT", "HF_HUB_ENABLE_HF_TRANSFER",
}  # fmt: skip
RESERVED_PREFIXES = (
    "R8_", "REPLICATE_", "COG_", "OTEL_", "CUDA_", "NVIDIA_", "NV_", "PGET_", "KUBERNETES_",
)  # fmt: skip
# With another torch, or another CUDA for it, Cog does not know what to take, and refuses to build.
CUDA_FOR_TORCH = {
    "2.9.1": {"12.6", "12.8", "13.0"},
    "2.10.0": {"12.6", "12.8", "13.0"},
    "2.11.0": {"12.6", "12.8", "12.9", "13.0"},
}
PYTHON_FOR_TORCH = {"3.10", "3.11", "3.12", "3.13", "3.14"}  # the same for all of these


def environment() -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in CONFIG["environment"])


def test_only_keys_that_cog_knows_are_used() -> None:
    assert CONFIG.keys() <= TOP_LEVEL_KEYS
    assert CONFIG["build"].keys() <= BUILD_KEYS


def test_the_entry_point_exists() -> None:
    module, predictor = CONFIG["predict"].split(":")
    source = (REPOSITORY / module).read_text(encoding="utf-8")

    assert f"class {predictor}(" in source


@pytest.mark.parametrize("key", ["python_version", "cuda", "sdk_version"])
def test_versions_are_text(key: str) -> None:
    """Without quotes YAML reads 3.10 as 3.1."""
    assert isinstance(CONFIG["build"][key], str)


def test_the_image_gets_the_cog_that_the_tests_ran_with() -> None:
    pins = (REPOSITORY / "requirements-dev.txt").read_text(encoding="utf-8")

    assert f"cog=={CONFIG['build']['sdk_version']}\n" in pins


def test_no_name_in_the_environment_is_one_of_cogs_own() -> None:
    assert len(environment()) == len(CONFIG["environment"])  # each name once
    for name in environment():
        assert name not in RESERVED_NAMES
        assert not name.startswith(RESERVED_PREFIXES)


def test_the_image_never_asks_a_model_hub() -> None:
    assert environment()["HF_HUB_OFFLINE"] == "1"


@pytest.mark.parametrize("requirement", REQUIREMENTS)
def test_every_requirement_is_one_exact_version(requirement: str) -> None:
    """Cog drops what follows a semicolon, and gives a range of torch no CUDA index."""
    assert re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9a-z.]*", requirement)


def test_cog_has_this_torch_for_this_cuda_and_python() -> None:
    pins = dict(requirement.split("==") for requirement in REQUIREMENTS)
    build = CONFIG["build"]

    assert build["gpu"] is True
    assert build["cuda"] in CUDA_FOR_TORCH[pins["torch"]]
    assert build["python_version"] in PYTHON_FOR_TORCH


def test_cog_itself_is_pinned_in_one_place_only() -> None:
    assert not [requirement for requirement in REQUIREMENTS if requirement.startswith("cog")]


def test_the_base_model_is_one_that_the_script_fetches() -> None:
    """A path in the repository: the image has the same folders."""
    folder, _, name = environment()["BASE_MODEL"].rpartition("/")

    assert folder == "weights"
    assert name in MODELS


def test_the_image_calls_nobody_home() -> None:
    assert environment()["HF_HUB_DISABLE_TELEMETRY"] == "1"
