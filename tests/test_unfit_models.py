"""--from PATH, where it is nearly a Stable Diffusion: each is refused with a sentence."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cli.download_weights import main
from tests.conftest import TINY
from tests.models import build_small_model
from tests.original_names import original_checkpoint
from weights.folder import WeightsError
from weights.local import convert
from weights.manifest import MODELS
from weights.original_layout import convert_checkpoint

UNFIT_CONFIGS = {
    "inpainting": ("unet", {"in_channels": 9}, "reads 9 channels (for inpainting, perhaps)"),
    "XL's width": ("unet", {"cross_attention_dim": 2048}, "(a Stable Diffusion XL, perhaps)"),
    "XL": ("unet", {"addition_embed_type": "text_time"}, "(a Stable Diffusion XL, perhaps)"),
    "unCLIP": ("unet", {"class_embed_type": "projection"}, "more than the text of one encoder"),
    "image": ("unet", {"encoder_hid_dim_type": "image_proj"}, "more than the text of one encoder"),
    "no scheduler": ("scheduler", {"_class_name": None}, "does not say which scheduler it is for"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TINY, tmp_path / "own.model-v1.5"))


def config_of(part: str, folder: Path) -> Path:
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    return folder / part / name


def refusal(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    weights = folder.with_name("weights")
    assert main(["--from", str(folder)], weights) == 1
    assert not list(weights.iterdir())
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    return message


@pytest.mark.parametrize("kind", UNFIT_CONFIGS)
def test_a_folder_that_would_load_and_could_not_be_trained_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    part, changes, expected = UNFIT_CONFIGS[kind]
    config = config_of(part, folder)
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))

    assert expected in refusal(folder, capsys)


@pytest.mark.parametrize("part", ["scheduler", "text_encoder", "unet"])
@pytest.mark.parametrize("contents", [b"{", b"[]", b"\xff\xfe", b""])
def test_a_config_that_is_damaged_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], part: str, contents: bytes
) -> None:
    config = config_of(part, folder)
    config.write_bytes(contents)

    assert refusal(folder, capsys).startswith(f"{part}/{config.name} is damaged: it holds no JSON")


@pytest.mark.parametrize("contents", ["{", "[]", "{}", '{"name": "own"}'])
def test_a_card_that_lacks_what_training_asks_for_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], contents: str
) -> None:
    (folder / "training.json").write_text(contents)

    assert refusal(folder, capsys).startswith("The model cannot be trained (")


def test_a_folder_with_a_dot_in_its_name_keeps_all_of_it(folder: Path) -> None:
    (folder / "training.json").unlink()

    assert main(["--from", str(folder)], folder.with_name("weights")) == 0

    (card,) = folder.with_name("weights").glob("*/training.json")
    assert json.loads(card.read_text())["name"] == "own.model-v1.5"


def test_a_checkpoint_that_reads_more_than_text_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unet = "model.diffusion_model"
    tensors = {
        f"{unet}.input_blocks.0.0.weight": torch.zeros(320, 4, 3, 3),
        f"{unet}.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": torch.zeros(320, 768),
        f"{unet}.label_emb.0.0.weight": torch.zeros(1280, 2048),
        "cond_stage_model.model.ln_final.weight": torch.zeros(768),
    }
    save_file(tensors, tmp_path / "unclip.safetensors")

    assert "unclip.safetensors's UNet reads more" in refusal(
        tmp_path / "unclip.safetensors", capsys
    )


@pytest.mark.slow
@pytest.mark.parametrize("part", ["first_stage_model", "cond_stage_model.transformer"])
def test_a_checkpoint_that_lacks_a_whole_part_is_refused(tmp_path: Path, part: str) -> None:
    """Many of 1.x are passed on without a VAE."""
    small = build_small_model("stable-diffusion-v1-5", tmp_path / "stable-diffusion-v1-5")
    checkpoint = original_checkpoint(small, is_version_2=False)
    others = {name: tensor for name, tensor in checkpoint.items() if not name.startswith(part)}
    others["cond_stage_model.other"] = torch.zeros(1)
    save_file(others, tmp_path / "model.safetensors")

    with pytest.raises(WeightsError, match="get a whole checkpoint"):
        convert_checkpoint(tmp_path / "model.safetensors", small.configs, tmp_path / "model")


@pytest.mark.parametrize(("model", "is_told"), [("2-1", True), ("v1-5", False)])
def test_what_a_single_file_of_2_is_taken_for_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, model: str, is_told: bool
) -> None:
    """It does not say it, and a training to predict the wrong thing would look like any other."""
    save_file({"a": torch.zeros(1)}, tmp_path / "own.safetensors")

    with pytest.raises(WeightsError):
        convert(MODELS[f"stable-diffusion-{model}"], tmp_path / "own.safetensors", tmp_path)

    assert ("v is assumed" in caplog.text) is is_told
