"""Each format, applied by the program that reads it, gives the trained model's outputs."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline

from tests.lora_files import contents, lora_for, recorded_order, write_raw
from tests.models import (
    SD15,
    SD21,
    SMALL_KINDS,
    TARGETS,
    TEXT_TARGETS,
    Kind,
    build_small_pipeline,
    build_text_encoder,
    build_unet,
    layers_of,
    merge,
    outputs,
    relative_error,
)
from training.formats import FORMATS, load, unload, write_lora
from training.formats.textual_inversion import write_embeddings
from training.trained_lora import LoraPair, TrainedLora

WORDS = "<s1><s2>"
PROMPT = f"a photo of {WORDS} in the snow"
TOLERANCE = {"fp16": 1e-3, "fp32": 1e-5}


def trained(pipeline: StableDiffusionPipeline) -> TrainedLora:
    """A LoRA whose numbers no half precision holds exactly, strong enough to be seen."""
    unet = layers_of(pipeline.unet, TARGETS)
    text_encoder = layers_of(pipeline.text_encoder, TEXT_TARGETS)
    return lora_for(unet, text_encoder, rank=4, dtype=torch.float32)


def load_as_diffusers_users_do(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    """The two calls of diffusers' own documentation."""
    pipeline.load_lora_weights(folder / "lora.safetensors")
    pipeline.load_textual_inversion(folder / "words.safetensors", token="s1s2")


@pytest.mark.slow
@pytest.mark.parametrize("kind", SMALL_KINDS)
@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("output_format", ["kohya", "diffusers"])
def test_diffusers_gives_the_trained_models_outputs(
    tmp_path: Path, kind: str, output_format: str, precision: str
) -> None:
    pipeline = build_small_pipeline(SMALL_KINDS[kind])
    lora = trained(pipeline)
    plain = outputs(pipeline, PROMPT)
    wanted = outputs(merge(build_small_pipeline(SMALL_KINDS[kind]), lora), PROMPT)
    assert relative_error(wanted, plain) > 0.1

    # As `script/convert --no-embeddings` writes it: diffusers refuses bundled words.
    write_lora(lora, tmp_path / "lora.safetensors", output_format, precision, bundle=False)
    write_embeddings(lora, tmp_path / "words.safetensors")
    load_as_diffusers_users_do(pipeline, tmp_path)

    found = outputs(pipeline, PROMPT.replace(WORDS, "s1s2"))
    assert relative_error(found, wanted) < TOLERANCE[precision]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["SD 1.5, narrow", "SD 2.1, narrow"])
@pytest.mark.parametrize("output_format", FORMATS)
def test_load_gives_the_trained_models_outputs_at_every_scale(
    tmp_path: Path, kind: str, output_format: str
) -> None:
    pipeline = build_small_pipeline(SMALL_KINDS[kind])
    lora = trained(pipeline)
    plain = outputs(pipeline, "a photo of a dog")
    write_lora(lora, tmp_path / "lora.safetensors", output_format, "fp32")

    for scale in (1.0, 0.5):
        assert load(pipeline, tmp_path / "lora.safetensors", scale) == WORDS
        scaled = scale_up(lora, scale)
        wanted = outputs(merge(build_small_pipeline(SMALL_KINDS[kind]), scaled), PROMPT)
        assert relative_error(outputs(pipeline, PROMPT), wanted) < 1e-5

    unload(pipeline)
    assert relative_error(outputs(pipeline, "a photo of a dog"), plain) == 0


def scale_up(lora: TrainedLora, scale: float) -> TrainedLora:
    return replace(
        lora,
        unet={path: LoraPair(pair.down, pair.up * scale) for path, pair in lora.unet.items()},
        text_encoder={
            path: LoraPair(pair.down, pair.up * scale) for path, pair in lora.text_encoder.items()
        },
    )


@pytest.mark.slow
def test_the_numbered_file_means_what_the_old_stack_took_it_to_mean(tmp_path: Path) -> None:
    """Its numbers are read here by the recorded list, without a line of ours."""
    pipeline = build_small_pipeline(SMALL_KINDS["SD 1.5, narrow"])
    lora = trained(pipeline)
    write_lora(lora, tmp_path / "lora.safetensors", "lora_diffusion", "fp32")
    tensors, _ = contents(tmp_path / "lora.safetensors")

    def numbered(part: str) -> dict[str, LoraPair]:
        return {
            layer.path: LoraPair(tensors[f"{part}:{i}:down"], tensors[f"{part}:{i}:up"])
            for i, layer in enumerate(recorded_order(part))
        }

    read = replace(lora, unet=numbered("unet"), text_encoder=numbered("text_encoder"))
    wanted = outputs(merge(build_small_pipeline(SMALL_KINDS["SD 1.5, narrow"]), lora), PROMPT)
    assert relative_error(outputs(merge(pipeline, read), PROMPT), wanted) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("was", "becomes"),
    [("to_q", "to_k"), ("self_attn_k_proj", "self_attn_q_proj"), ("down_blocks_0", "up_blocks_3")],
)
def test_layers_that_change_places_would_be_noticed(tmp_path: Path, was: str, becomes: str) -> None:
    pipeline = build_small_pipeline(SMALL_KINDS["SD 1.5, narrow"])
    lora = trained(pipeline)
    wanted = outputs(merge(build_small_pipeline(SMALL_KINDS["SD 1.5, narrow"]), lora), PROMPT)
    write_lora(lora, tmp_path / "lora.safetensors", "kohya", "fp32", bundle=False)
    tensors, metadata = contents(tmp_path / "lora.safetensors")
    swapped = dict(tensors)
    for name, tensor in tensors.items():
        other = name.replace(was, becomes)
        if other != name and other in tensors and tensors[other].shape == tensor.shape:
            swapped[name], swapped[other] = tensors[other], tensor
    write_raw(tmp_path / "lora.safetensors", swapped, metadata)
    write_embeddings(lora, tmp_path / "words.safetensors")

    load_as_diffusers_users_do(pipeline, tmp_path)

    assert relative_error(outputs(pipeline, PROMPT.replace(WORDS, "s1s2")), wanted) > 1e-2


@pytest.mark.slow
def test_a_wrong_alpha_would_be_noticed(tmp_path: Path) -> None:
    """With no alpha readers take the rank, as we do; with another they scale, and so it shows."""
    lora = trained(build_small_pipeline(SMALL_KINDS["SD 1.5, narrow"]))
    wanted = outputs(merge(build_small_pipeline(SMALL_KINDS["SD 1.5, narrow"]), lora), PROMPT)
    write_lora(lora, tmp_path / "right.safetensors", "kohya", "fp32", bundle=False)
    write_embeddings(lora, tmp_path / "words.safetensors")
    tensors, metadata = contents(tmp_path / "right.safetensors")
    missing = {n: t for n, t in tensors.items() if not n.endswith(".alpha")}
    ones = {n: torch.ones(()) if n.endswith(".alpha") else t for n, t in tensors.items()}

    errors = []
    for variant in (missing, ones):
        pipeline = build_small_pipeline(SMALL_KINDS["SD 1.5, narrow"])
        write_raw(tmp_path / "lora.safetensors", variant, metadata)
        load_as_diffusers_users_do(pipeline, tmp_path)
        found = outputs(pipeline, PROMPT.replace(WORDS, "s1s2"))
        errors.append(relative_error(found, wanted))
    assert errors[0] < 1e-5
    assert errors[1] > 1e-2


@pytest.mark.parametrize(("kind", "num_text_layers"), [(SD15, 12), (SD21, 23)])
def test_the_real_models_have_the_layers_that_the_files_name(
    kind: Kind, num_text_layers: int
) -> None:
    with torch.device("meta"):
        unet = build_unet(kind)
        text_encoder = build_text_encoder(kind)
    layers = {layer.path: layer for layer in layers_of(unet, TARGETS)}
    text_layers = layers_of(text_encoder, TEXT_TARGETS)

    assert layers.keys() == {layer.path for layer in recorded_order("unet")}
    assert len(text_layers) == 4 * num_text_layers
    if kind == SD15:
        assert set(layers.values()) == set(recorded_order("unet"))
        assert set(text_layers) == set(recorded_order("text_encoder"))
