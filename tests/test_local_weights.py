"""--from PATH: a folder or a checkpoint becomes a base model, or a sentence says why not."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from cli.download_weights import main
from cli.trainable import check_trainable
from tests.conftest import REPOSITORY, TINY
from tests.models import (
    PARTS,
    TEXT_WIDTH,
    SmallModel,
    build_small_model,
    save_small_model,
)
from tests.original_names import original_checkpoint
from training.base_model import BaseModel, load_base_model
from training.compute import pick_compute
from weights.folder import CHECKSUMS, WeightsError, check_complete
from weights.local import import_model
from weights.manifest import MODELS
from weights.original_layout import convert_checkpoint


def assert_same_model(ours: SmallModel, theirs: BaseModel) -> None:
    """The same weights, to the bit; and what each part makes of an input, but for rounding."""
    for part in PARTS:
        state = getattr(theirs, part).state_dict()
        for name, tensor in getattr(ours, part).state_dict().items():
            assert torch.equal(state[name], tensor), f"{part}.{name}"
    for one, other in zip(outputs(ours), outputs(theirs), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def outputs(model: SmallModel | BaseModel) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1000, 49000, (1, 77), generator=generator)
    latents = torch.randn(1, 4, 16, 16, generator=generator)
    picture = torch.rand(1, 3, 32, 32, generator=generator)
    with torch.no_grad():
        hidden = model.text_encoder(ids).last_hidden_state
        noise = model.unet(latents, torch.tensor([500]), hidden).sample
        return hidden, noise, model.vae.encode(picture).latent_dist.mean, model.vae(picture).sample


@pytest.fixture(params=sorted(MODELS), scope="module")
def small(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SmallModel:
    folder = tmp_path_factory.mktemp("configs") / str(request.param)
    return build_small_model(str(request.param), folder)


@pytest.fixture
def small_1_5(tmp_path: Path) -> SmallModel:
    return build_small_model("stable-diffusion-v1-5", tmp_path / "stable-diffusion-v1-5")


def write_checkpoint(small: SmallModel, path: Path) -> dict[str, Tensor]:
    is_version_2 = small.configs.name == "stable-diffusion-2-1"
    checkpoint = original_checkpoint(small, is_version_2=is_version_2)
    save_file(checkpoint, path)
    return checkpoint


@pytest.mark.slow
def test_a_checkpoint_in_one_file_gives_the_same_model_as_a_folder(
    small: SmallModel, tmp_path: Path
) -> None:
    write_checkpoint(small, tmp_path / "checkpoint.safetensors")

    convert_checkpoint(tmp_path / "checkpoint.safetensors", small.configs, tmp_path / "model")

    check_trainable(tmp_path / "model")
    base = load_base_model(tmp_path / "model", pick_compute())
    assert_same_model(small, base)
    prompt = base.tokenizer("a photo of a cat").input_ids
    assert prompt == [49406, 320, 1125, 539, 320, 2368, 49407]  # as CLIP reads it


def test_a_folder_gives_the_same_model(small_1_5: SmallModel, tmp_path: Path) -> None:
    save_small_model(small_1_5, tmp_path / "own")
    model, folder = MODELS["stable-diffusion-v1-5"], tmp_path / "weights"

    import_model(model, tmp_path / "own", folder, check_trainable)

    base = load_base_model(folder, pick_compute())
    assert_same_model(small_1_5, base)
    assert base.card.name == "own"
    assert base.card.resolution.native == 512
    check_complete(folder)
    assert sorted(path.name for path in tmp_path.iterdir() if "weights" in path.name) == ["weights"]


def test_half_precision_is_taken_where_there_is_a_choice(tmp_path: Path) -> None:
    source = tmp_path / "own"
    for path in (path for path in TINY.rglob("*") if path.is_file()):
        (source / path.relative_to(TINY)).parent.mkdir(parents=True, exist_ok=True)
        (source / path.relative_to(TINY)).write_bytes(path.read_bytes())
    half = load_file(TINY / "vae/diffusion_pytorch_model.safetensors")
    full = {name: tensor.float() for name, tensor in half.items()}
    for ending, tensors in ((".fp16.safetensors", half), (".safetensors", full)):
        save_file(tensors, source / f"vae/diffusion_pytorch_model{ending}")

    import_model(MODELS["stable-diffusion-v1-5"], source, tmp_path / "weights", check_trainable)

    taken = load_file(tmp_path / "weights/vae/diffusion_pytorch_model.safetensors")
    assert {tensor.dtype for tensor in taken.values()} == {torch.float16}
    names = {
        str(path.relative_to(tmp_path / "weights")) for path in (tmp_path / "weights").rglob("*")
    }
    assert not [name for name in names if name.endswith((".png", ".md"))]


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin"])
def test_a_pickled_checkpoint_is_refused_unread(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(pickle.dumps({"state_dict": {}}))

    assert main(["--from", str(path)], tmp_path / "weights") == 1

    message = capsys.readouterr().err
    assert "pickled, and can run any program" in message
    assert message.count("\n") == 1
    assert not (tmp_path / "weights").exists() or not list((tmp_path / "weights").iterdir())


def wide(name: str, width: int) -> dict[str, Tensor]:
    """Just the layers by which a checkpoint is known."""
    unet = "model.diffusion_model.input_blocks"
    return {
        f"{unet}.0.0.weight": torch.zeros(320, 4, 3, 3),
        f"{unet}.1.1.transformer_blocks.0.attn2.to_k.weight": torch.zeros(320, width),
        name: torch.zeros(1),
    }


FIRST = "model.diffusion_model.input_blocks.0.0.weight"
CLIP = "cond_stage_model.transformer.text_model.final_layer_norm.weight"
WRONG_CHECKPOINTS = {
    "xl": ({"conditioner.embedders.0.x": torch.zeros(1)}, "is a Stable Diffusion XL"),
    "lora": ({"lora_unet_mid.lora_up.weight": torch.zeros(1)}, "lacks the UNet or the text"),
    "unet-only": (wide("other", 768), "lacks the UNet or the text"),
    "2.x": (wide(CLIP, 1024), "needs --model stable-diffusion-v1-5, 2.x (1024) --model"),
    "inpainting": (wide(CLIP, 768) | {FIRST: torch.zeros(320, 9, 3, 3)}, "reads 9 channels"),
}


@pytest.mark.parametrize("kind", WRONG_CHECKPOINTS)
def test_a_file_that_is_no_such_checkpoint_is_named_for_what_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    tensors, expected = WRONG_CHECKPOINTS[kind]
    save_file(tensors, tmp_path / "model.safetensors")

    assert main(["--from", str(tmp_path / "model.safetensors")], tmp_path / "weights") == 1

    message = capsys.readouterr().err
    assert expected in message
    assert message.count("\n") == 1
    assert not list((tmp_path / "weights").iterdir())


def test_half_a_checkpoint_is_refused(small_1_5: SmallModel, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_checkpoint(small_1_5, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    with pytest.raises(WeightsError, match="only a part of one"):
        convert_checkpoint(path, small_1_5.configs, tmp_path / "model")


@pytest.mark.slow
@pytest.mark.parametrize("part", ["model.diffusion_model", "first_stage_model", "cond_stage_model"])
def test_a_checkpoint_that_lacks_a_layer_is_refused(
    small_1_5: SmallModel, tmp_path: Path, part: str
) -> None:
    path = tmp_path / "model.safetensors"
    checkpoint = write_checkpoint(small_1_5, path)
    bias = next(
        n
        for n in checkpoint
        if (n.startswith(part) and n.endswith("norm1.bias"))
        or (n.startswith(part) and n.endswith("in_layers.0.bias"))
    )
    save_file({n: t for n, t in checkpoint.items() if n != bias}, path)

    with pytest.raises(WeightsError, match="layers are missing, or have other shapes"):
        convert_checkpoint(path, small_1_5.configs, tmp_path / "model")


@pytest.mark.slow
def test_a_disk_that_is_full_is_a_sentence(small_1_5: SmallModel, tmp_path: Path) -> None:
    """The system refuses to write past 2 MB in one file, as it does when no block is left."""
    write_checkpoint(small_1_5, tmp_path / "model.safetensors")
    code = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from weights.folder import WeightsError\n"
        "from weights.local import import_model\n"
        "from weights.manifest import STABLE_DIFFUSION_1_5\n"
        "from weights.original_layout import convert_checkpoint\n"
        "checkpoint, configs, folder, own, weights = map(Path, sys.argv[1:])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000,) * 2)\n"
        "try: convert_checkpoint(checkpoint, configs, folder)\n"
        "except WeightsError as error: print(error)\n"
        "try: import_model(STABLE_DIFFUSION_1_5, own, weights, print)\n"
        "except WeightsError as error: print(error)\n"
    )
    checkpoint, folder = tmp_path / "model.safetensors", tmp_path / "model"
    paths = (checkpoint, small_1_5.configs, folder, TINY, tmp_path / "weights")
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, paths)],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip

    messages = result.stdout.splitlines()
    assert "half-precision weights could not be written" in messages[0]
    assert "weights could not be made: File too large. Mend that" in messages[-1]
    assert not list(tmp_path.glob("weights*"))


def test_a_folder_that_lacks_a_layer_or_a_part_is_refused(
    small_1_5: SmallModel, tmp_path: Path
) -> None:
    source, model = tmp_path / "own", MODELS["stable-diffusion-v1-5"]
    save_small_model(small_1_5, source)
    unet = source / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(unet)
    save_file({n: t for n, t in weights.items() if n != "conv_out.bias"}, unet)

    with pytest.raises(WeightsError, match=r"The unet is not whole: conv_out\.bias should"):
        import_model(model, source, tmp_path / "weights", check_trainable)
    unet.rename(unet.with_suffix(".bin"))
    with pytest.raises(WeightsError, match=r"unet/diffusion_pytorch_model.safetensors not found"):
        import_model(model, source, tmp_path / "weights", check_trainable)
    assert not (tmp_path / "weights").exists()
    assert not list(tmp_path.glob("weights*"))


def test_a_model_that_is_not_known_is_told_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--model", "foo"], tmp_path / "weights") == 1

    told = capsys.readouterr().err
    assert "invalid choice: 'foo'" in told
    assert told.count("\n") == 1


def test_a_folder_is_called_by_its_name_also_from_within(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own").mkdir()
    monkeypatch.chdir(tmp_path / "own")

    assert main(["--from", "."], tmp_path / "weights") == 1

    assert capsys.readouterr().err.startswith("own is not a whole Stable Diffusion")


def test_a_folder_of_the_other_family_is_told_apart(small_1_5: SmallModel, tmp_path: Path) -> None:
    save_small_model(small_1_5, tmp_path / "own")
    config = tmp_path / "own" / "text_encoder" / "config.json"
    config.write_text(
        config.read_text().replace(f'"hidden_size": {TEXT_WIDTH}', '"hidden_size": 1024')
    )

    with pytest.raises(WeightsError, match="with --model stable-diffusion-2-1"):
        import_model(
            MODELS["stable-diffusion-v1-5"], tmp_path / "own", tmp_path / "w", check_trainable
        )


def test_what_is_there_is_checked_and_never_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "weights"
    folder = weights / "stable-diffusion-v1-5"

    assert main(["--from", str(TINY)], weights) == 0
    assert main([], weights) == 0  # no hub is needed any more
    assert main(["--from", str(TINY)], weights) == 1
    assert "Move it away first" in capsys.readouterr().err
    merges = folder / "tokenizer" / "merges.txt"
    merges.write_bytes(merges.read_bytes().replace(b"e", b"a", 1))
    assert main([], weights) == 1
    assert "tokenizer/merges.txt has changed" in capsys.readouterr().err
    merges.unlink()
    assert main([], weights) == 1
    assert "tokenizer/merges.txt is missing" in capsys.readouterr().err
    (folder / CHECKSUMS).unlink()
    assert main([], weights) == 1
    assert "nothing says whether it is whole" in capsys.readouterr().err
