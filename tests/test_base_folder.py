"""A base model's folder that is not whole: a sentence, and never a pickle in place of weights."""

import pickle
import shutil
from pathlib import Path

import pytest

from tests.conftest import TINY
from training.base_model import BaseModelError, load_base_model
from training.compute import pick_compute


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TINY, tmp_path / "model"))


@pytest.mark.parametrize(
    "missing",
    [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    ],
)
def test_what_is_missing_is_named_with_what_to_do(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(BaseModelError, match=f"{missing} not found. Run script/download-weights"):
        load_base_model(folder, pick_compute())


def test_weights_that_are_only_pickled_are_not_read(folder: Path) -> None:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.with_suffix(".bin").write_bytes(pickle.dumps({}))
    weights.unlink()
    with pytest.raises(
        BaseModelError, match=r"unet/diffusion_pytorch_model\.safetensors not found"
    ):
        load_base_model(folder, pick_compute())
