"""cog.yaml and what the image installs keep to Cog's rules: no build checks them here."""

import re
from pathlib import Path

import pytest
import yaml

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
# With another torch Cog does not know which CUDA to take, and refuses to build.
KNOWN_TORCH_VERSIONS = {"2.9.0", "2.9.1", "2.10.0", "2.11.0"}


def environment() -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in CONFIG["environment"])


def test_only_keys_that_cog_knows_are_used() -> None:
    assert CONFIG.keys() <= TOP_LEVEL_KEYS
    assert CONFIG["build"].keys() <= BUILD_KEYS


def test_the_entry_point_exists() -> None:
    module, predictor = CONFIG["predict"].split(":")
    source = (REPOSITORY / module).read_text(encoding="utf-8")

    assert f"class {predictor}(" in source


@pytest.mark.parametrize("key", ["python_version", "sdk_version"])
def test_versions_are_text(key: str) -> None:
    """Without quotes YAML reads 3.10 as 3.1."""
    assert isinstance(CONFIG["build"][key], str)


def test_the_image_gets_the_cog_that_the_tests_ran_with() -> None:
    pins = (REPOSITORY / "requirements-dev.txt").read_text(encoding="utf-8")

    assert f"cog=={CONFIG['build']['sdk_version']}\n" in pins


def test_no_name_in_the_environment_is_one_of_cogs_own() -> None:
    for name in environment():
        assert name not in RESERVED_NAMES
        assert not name.startswith(RESERVED_PREFIXES)


def test_the_image_never_asks_a_model_hub() -> None:
    assert environment()["HF_HUB_OFFLINE"] == "1"


@pytest.mark.parametrize("requirement", REQUIREMENTS)
def test_every_requirement_is_one_exact_version(requirement: str) -> None:
    """Cog drops what follows a semicolon, and gives a range of torch no CUDA index."""
    assert re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9a-z.]*", requirement)


def test_cog_knows_which_cuda_goes_with_torch() -> None:
    pins = dict(requirement.split("==") for requirement in REQUIREMENTS)

    assert pins["torch"] in KNOWN_TORCH_VERSIONS


def test_cog_itself_is_pinned_in_one_place_only() -> None:
    assert not [requirement for requirement in REQUIREMENTS if requirement.startswith("cog")]


def test_the_image_holds_the_code_and_the_weights() -> None:
    ignored = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").split()

    for needed in ("predict.py", "preprocessing", "training", "weights", "requirements.txt"):
        assert needed not in ignored
    assert not [pattern for pattern in ignored if pattern.startswith("weights/stable")]
