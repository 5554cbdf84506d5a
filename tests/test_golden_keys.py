"""Every tensor that is written has the name and shape that the format's own program gives it.

The lists in tests/data say how they were made, and with which versions.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.conftest import REPOSITORY
from tests.lora_files import Layer, contents, lora_for, recorded_order, sd15_lora, write_raw
from training.formats import FORMATS, read_lora, write_lora
from training.origin import Origin
from training.trained_lora import LoraPair, TrainedLora

RANK = 4
TEXT_ENCODER = "text_model.encoder.layers.{}.self_attn.{}"


def sd21_lora() -> TrainedLora:
    """SD 2.1 differs in its text encoder: 1024 wide, and 23 layers."""
    unet = [
        Layer(layer.path, layer.rows, 1024 if layer.columns == 768 else layer.columns)
        for layer in recorded_order("unet")
    ]
    text_encoder = [
        Layer(TEXT_ENCODER.format(index, name), 1024, 1024)
        for index in range(23)
        for name in ("k_proj", "v_proj", "q_proj", "out_proj")
    ]
    return lora_for(unet, text_encoder, RANK)


LORAS = {"sd15": (sd15_lora, 144 + 48), "sd21": (sd21_lora, 144 + 92)}


def recorded_layers(name: str) -> list[Layer]:
    text = (REPOSITORY / "tests" / "data" / f"{name}.txt").read_text(encoding="utf-8")
    lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
    return [Layer(path, int(rows), int(columns)) for path, rows, columns in lines]


@pytest.mark.parametrize("model", LORAS)
def test_kohyas_files_have_the_names_and_shapes_of_kohyas_own(model: str, tmp_path: Path) -> None:
    make, num_layers = LORAS[model]
    recorded = recorded_layers(f"kohya_{model}")
    assert len(recorded) == num_layers
    expected: dict[str, tuple[int, ...]] = {}
    for layer in recorded:
        expected[f"{layer.path}.lora_down.weight"] = (RANK, layer.columns)
        expected[f"{layer.path}.lora_up.weight"] = (layer.rows, RANK)
        expected[f"{layer.path}.alpha"] = ()
    lora = make()

    assert shapes(lora, tmp_path / "lora.safetensors", "kohya") == expected | {
        "bundle_emb.s1s2.string_to_param.*": (2, len(lora.embeddings["<s1>"]))
    }
    tensors, _ = contents(tmp_path / "lora.safetensors")
    assert {float(t) for name, t in tensors.items() if name.endswith(".alpha")} == {RANK}


@pytest.mark.parametrize("model", LORAS)
def test_diffusers_files_have_the_names_and_shapes_of_diffusers_own(
    model: str, tmp_path: Path
) -> None:
    make, num_layers = LORAS[model]
    recorded = recorded_layers(f"diffusers_{model}")
    assert len(recorded) == num_layers
    expected: dict[str, tuple[int, ...]] = {}
    for layer in recorded:
        expected[f"{layer.path}.lora_A.weight"] = (RANK, layer.columns)
        expected[f"{layer.path}.lora_B.weight"] = (layer.rows, RANK)

    assert shapes(make(), tmp_path / "lora.safetensors", "diffusers") == expected


@pytest.mark.parametrize("model", LORAS)
@pytest.mark.parametrize(
    ("output_format", "down", "up"),
    [("kohya", "lora_down", "lora_up"), ("diffusers", "lora_A", "lora_B")],
)
def test_each_of_their_names_is_read_as_the_layer_that_it_names(
    model: str, output_format: str, down: str, up: str, tmp_path: Path
) -> None:
    tensors = {}
    for layer in recorded_layers(f"{output_format}_{model}"):
        tensors[f"{layer.path}.{down}.weight"] = torch.zeros(RANK, layer.columns)
        tensors[f"{layer.path}.{up}.weight"] = torch.zeros(layer.rows, RANK)
    read = read_lora(write_raw(tmp_path / "lora.safetensors", tensors, {})).lora

    expected = LORAS[model][0]()
    assert layer_shapes(read.unet) == layer_shapes(expected.unet)
    assert layer_shapes(read.text_encoder) == layer_shapes(expected.text_encoder)


@pytest.mark.parametrize(
    ("prediction_type", "family", "architecture", "predicts"),
    [
        ("v_prediction", "sd_v2_v", "stable-diffusion-v2-768-v/lora", "v"),
        ("epsilon", "sd_v2", "stable-diffusion-v2-512/lora", "epsilon"),
    ],
)
def test_kohyas_metadata_say_which_stable_diffusion_2_it_is_for(
    prediction_type: str, family: str, architecture: str, predicts: str, tmp_path: Path
) -> None:
    """The two have the same shapes: programs that sort LoRAs know them by this alone.

    The families' names are those that kohya's trainer gives them.
    """
    lora = replace(sd21_lora(), origin=Origin(prediction_type=prediction_type))

    write_lora(lora, tmp_path / "lora.safetensors", "kohya")

    _, metadata = contents(tmp_path / "lora.safetensors")
    assert (metadata["ss_base_model_version"], metadata["ss_v2"]) == (family, "True")
    assert metadata["modelspec.architecture"] == architecture
    assert metadata["modelspec.prediction_type"] == predicts


def test_a_file_without_words_names_none(tmp_path: Path) -> None:
    write_lora(sd15_lora(embeddings={}), tmp_path / "lora.safetensors", "kohya")

    _, metadata = contents(tmp_path / "lora.safetensors")
    told = {"ss_tag_frequency", "modelspec.trigger_phrase", "modelspec.usage_hint", "vana.trigger"}
    assert not told & metadata.keys()


def shapes(lora: TrainedLora, path: Path, output_format: str) -> dict[str, tuple[int, ...]]:
    write_lora(lora, path, output_format)
    tensors, _ = contents(path)
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def layer_shapes(pairs: dict[str, LoraPair]) -> list[Layer]:
    """In the files' order."""
    return [Layer(path, len(pair.up), pair.down.shape[1]) for path, pair in pairs.items()]


@pytest.mark.parametrize(("name", "num_rows"), [("s1s2", 2), ("my_cat-7", 1)])
def test_a_bundled_embedding_keeps_its_name_through_every_format(
    tmp_path: Path, name: str, num_rows: int
) -> None:
    """It is what people write in their prompts; a program may have dropped our metadata."""
    path = tmp_path / "lora.safetensors"
    write_lora(sd15_lora(embeddings={}), path, "kohya")
    tensors, _ = contents(path)
    bundled = f"bundle_emb.{name}.string_to_param.*"
    rows = torch.randn(num_rows, 768, generator=torch.Generator().manual_seed(1))
    write_raw(path, {**tensors, bundled: rows}, {})

    for output_format in (*FORMATS, "kohya"):
        write_lora(read_lora(path).lora, path, output_format)

    found, metadata = contents(path)
    assert torch.equal(found[bundled], rows)
    assert metadata["modelspec.trigger_phrase"] == name
