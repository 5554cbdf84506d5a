"""Stable Diffusion 1.5 and 2.1: their real shapes without weights, and a run on small ones."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from cli.trainable import build_without_weights
from preprocessing.errors import PictureError
from preprocessing.example import Example
from service.job import Request, make_lora
from tests.conftest import noise_image
from tests.models import (
    CONFIGS,
    SMALL_KINDS,
    TEXT_WIDTH,
    build_small_model,
    build_text_encoder,
    build_unet,
    save_small_model,
)
from training.base_model import (
    FACTORS,
    BaseModel,
    keep_channels_last,
    load_base_model,
    skip_divisions,
)
from training.compute import pick_compute
from training.formats import FormatError
from training.loss import denoising_loss, denoising_target, uniform_weight
from training.phase import Progress
from training.pivotal import Trained, all_lora_layers, lora_without_numbers, train
from training.settings import TrainingInputs, TrainingSettings
from training.trained_lora import TEXT_ENCODER_TARGETS, UNET_TARGETS, LoraPair
from weights.folder import read_json
from weights.manifest import MODELS

Settings = Callable[..., TrainingSettings]

NUM_UNET_LAYERS = 144  # in both: 16 transformer blocks of 9
NUM_TEXT_LAYERS = {"stable-diffusion-v1-5": 12, "stable-diffusion-2-1": 23}


def ignore(progress: Progress) -> None:
    pass


@pytest.fixture(scope="module", params=sorted(MODELS))
def real_shapes(request: pytest.FixtureRequest) -> tuple[str, dict[str, nn.Module]]:
    return request.param, build_without_weights(CONFIGS / request.param)


@pytest.fixture(scope="module", params=sorted(MODELS))
def small_base(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, BaseModel]:
    folder = tmp_path_factory.mktemp("base")
    save_small_model(build_small_model(request.param, folder / "configs"), folder / "model")
    return request.param, load_base_model(folder / "model", pick_compute())


def layers(module: nn.Module, targets: tuple[str, ...]) -> dict[str, nn.Linear]:
    """As PEFT finds them: by the end of the name."""
    ends = tuple(f".{target}" for target in targets)
    return {
        name: layer
        for name, layer in module.named_modules()
        if name.endswith(ends) and isinstance(layer, nn.Linear)
    }


def test_our_configs_describe_the_pinned_weights(
    real_shapes: tuple[str, dict[str, nn.Module]],
) -> None:
    """Two bytes a number, and a header of less than a thousandth."""
    name, parts = real_shapes
    pinned = {file.path.split("/")[0]: file for file in MODELS[name].files.values()
              if file.path.endswith(".safetensors")}  # fmt: skip
    for part, module in parts.items():
        num_bytes = 2 * sum(parameter.numel() for parameter in module.parameters())
        assert num_bytes < pinned[part].size < 1.001 * num_bytes, part


def test_the_layers_that_learn(real_shapes: tuple[str, dict[str, nn.Module]]) -> None:
    name, parts = real_shapes

    unet = layers(parts["unet"], UNET_TARGETS)
    text_encoder = layers(parts["text_encoder"], TEXT_ENCODER_TARGETS)

    assert len(unet) == NUM_UNET_LAYERS
    assert len(text_encoder) == 4 * NUM_TEXT_LAYERS[name]
    width = MODELS[name].width
    assert {layer.in_features for layer in text_encoder.values()} == {width}
    keys = {n: layer for n, layer in unet.items() if n.endswith(("attn2.to_k", "attn2.to_v"))}
    assert {layer.in_features for layer in keys.values()} == {width}


@pytest.mark.slow
def test_each_family_trains_to_the_end(small_base: tuple[str, BaseModel], short: Settings) -> None:
    """At 128 pixels: at 64 the innermost block has one pixel, whose attention cannot learn."""
    _, base = small_base
    examples = [
        Example(image=noise_image(seed, 128), mask=None, prompts=("a photo of {}",))
        for seed in range(2)
    ]
    before = {n: t.clone() for n, t in base.unet.state_dict().items()}

    trained: Trained = train(base, examples, short(resolution=128), ignore)

    assert len(trained.lora.unet) == NUM_UNET_LAYERS
    assert len(trained.lora.text_encoder) == 2 * 4
    pairs = [*trained.lora.unet.values(), *trained.lora.text_encoder.values()]
    assert all(pair.up.abs().max() > 0 for pair in pairs)
    expected = lora_without_numbers(base)
    assert shapes_of(trained.lora.unet) == shapes_of(expected.unet)
    assert shapes_of(trained.lora.text_encoder) == shapes_of(expected.text_encoder)
    assert {len(row) for row in trained.lora.embeddings.values()} == {TEXT_WIDTH}
    assert all(torch.isfinite(torch.tensor(h.losses)).all() for h in trained.histories)
    assert all(torch.equal(before[n], t) for n, t in base.unet.state_dict().items())


def shapes_of(pairs: dict[str, LoraPair]) -> dict[str, tuple[int, int]]:
    """Path -> (out, in) of each layer."""
    return {path: (pair.up.shape[0], pair.down.shape[1]) for path, pair in pairs.items()}


def test_what_the_file_has_no_place_for_is_told_before_the_training(
    base: BaseModel, tmp_path: Path
) -> None:
    """Of 1.x there are smaller copies, with all its widths and fewer blocks."""
    kind = SMALL_KINDS["SD 1.5, shallow"]
    fewer = replace(base, unet=build_unet(kind), text_encoder=build_text_encoder(kind))

    def make(output_format: str) -> None:
        request = Request(
            instance_data=None,
            instance_data_urls=None,
            custom_prompts=None,
            inputs=TrainingInputs(resolution=64, output_format=output_format),  # type: ignore[arg-type]
            name="lora",
        )
        make_lora(fewer, request, tmp_path, ignore)

    with pytest.raises(FormatError, match="use kohya or diffusers"):
        make("lora_diffusion")
    for output_format in ("kohya", "diffusers"):  # only the pictures are missing
        with pytest.raises(PictureError):
            make(output_format)


def test_layers_that_a_cancelled_run_left_are_no_reason_to_refuse_the_next(base: BaseModel) -> None:
    """They are taken off when it begins to train."""
    expected = lora_without_numbers(base)

    with all_lora_layers(base, 4, base.compute.generator(0)):
        found = lora_without_numbers(base)

    assert shapes_of(found.unet) == shapes_of(expected.unet)
    assert shapes_of(found.text_encoder) == shapes_of(expected.text_encoder)


def test_each_family_learns_the_target_it_predicts(small_base: tuple[str, BaseModel]) -> None:
    """The noise in 1.x; in 2.1 the velocity, here by its definition: a * noise - s * latents."""
    name, base = small_base
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 4, 8, 8, generator=generator)
    noise = torch.randn(2, 4, 8, 8, generator=generator)
    timesteps = torch.tensor([10, 900])

    target = denoising_target(base, latents, noise, timesteps)

    kept = base.noise_scheduler.alphas_cumprod[timesteps].view(2, 1, 1, 1)
    velocity = kept.sqrt() * noise - (1 - kept).sqrt() * latents
    expected = velocity if name == "stable-diffusion-2-1" else noise
    torch.testing.assert_close(target, expected)
    ids = torch.full((2, 77), 320)
    loss = denoising_loss(base, latents, noise, timesteps, ids, uniform_weight(latents))
    assert loss.shape == ()
    assert torch.isfinite(loss)


def test_the_native_resolution_is_the_unets(
    real_shapes: tuple[str, dict[str, nn.Module]],
) -> None:
    name, _ = real_shapes
    resolution = MODELS[name].card["resolution"]
    assert isinstance(resolution, dict)
    unet_config = read_json(CONFIGS / name / "unet" / "config.json")
    assert resolution["native"] == 8 * unet_config["sample_size"]


def ask_unet(base: BaseModel) -> torch.Tensor:
    torch.manual_seed(0)
    latents, text = torch.randn(2, 4, 16, 16), torch.randn(2, 77, TEXT_WIDTH)
    with torch.no_grad():
        noise: torch.Tensor = base.unet(latents, torch.tensor([3, 500]), text).sample
    return noise


def test_only_divisions_by_one_are_left_out(small_base: tuple[str, BaseModel]) -> None:
    _, base = small_base
    base = replace(base, unet=copy.deepcopy(base.unet))
    divided = [(m, name) for m in base.unet.modules() for name in FACTORS if hasattr(m, name)]
    assert len(divided) == 54
    found = ask_unet(base)

    for module, name in divided:
        setattr(module, name, 1.0)
    assert torch.equal(ask_unet(base), found)

    for module, name in divided:
        setattr(module, name, 1.25)
    skip_divisions(base.unet)
    assert not torch.allclose(ask_unet(base), found)


def test_convolutions_are_given_the_layout_that_a_gpu_wants(
    small_base: tuple[str, BaseModel],
) -> None:
    _, base = small_base
    wanted = ask_unet(base)
    base = replace(base, unet=copy.deepcopy(base.unet))
    keep_channels_last(base.unet)
    given: list[torch.Tensor] = []
    convolutions = [m for m in base.unet.modules() if isinstance(m, nn.Conv2d)]
    for convolution in convolutions:
        convolution.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))

    torch.testing.assert_close(ask_unet(base), wanted)
    assert len(given) == len(convolutions) > 50
    assert all(one.is_contiguous(memory_format=torch.channels_last) for one in given)
