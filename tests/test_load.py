"""`load` and `unload` on a pipeline that others use too: what is not ours stays as it is."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from tests.lora_files import lora_for
from tests.models import (
    SD15,
    TARGETS,
    TEXT_TARGETS,
    TEXT_WIDTH,
    build_small_pipeline,
    layers_of,
    outputs,
    smallest,
)
from training.formats import FormatError, load, unload, write_lora
from training.trained_lora import LoraPair, TrainedLora

PROMPT = "a photo of <s1><s2> in the snow"
OTHERS_WORD = "<other>"


@pytest.fixture
def pipeline() -> StableDiffusionPipeline:
    return build_small_pipeline(smallest(SD15.name))


@pytest.fixture
def lora(pipeline: StableDiffusionPipeline) -> TrainedLora:
    """Of a few layers, which are put on faster than all."""
    unet, text_encoder = pipeline.unet, pipeline.text_encoder
    return lora_for(layers_of(unet, TARGETS)[:9], layers_of(text_encoder, TEXT_TARGETS)[:4])


@pytest.fixture
def path(lora: TrainedLora, tmp_path: Path) -> Path:
    write_lora(lora, tmp_path / "lora.safetensors", "kohya", "fp32")
    return tmp_path / "lora.safetensors"


def table_of(pipeline: StableDiffusionPipeline) -> Tensor:
    """The words' vectors, as they are now."""
    weight: Tensor = pipeline.text_encoder.get_input_embeddings().weight
    return weight.detach().clone()


@pytest.mark.filterwarnings(
    "ignore:Already found a `peft_config`", "ignore:Adapter vana was active"
)
def test_loras_and_words_of_others_stay_when_ours_are_taken_off(
    pipeline: StableDiffusionPipeline, path: Path
) -> None:
    pipeline.load_lora_weights(others_lora(pipeline), adapter_name="others")
    pipeline.load_textual_inversion({OTHERS_WORD: torch.ones(TEXT_WIDTH)})
    before, vectors = outputs(pipeline, f"a {OTHERS_WORD}"), table_of(pipeline)

    load(pipeline, path)
    unload(pipeline)

    assert pipeline.get_list_adapters() == {"unet": ["others"]}
    pipeline.set_adapters("others")
    assert torch.equal(table_of(pipeline), vectors)
    assert all(map(torch.equal, outputs(pipeline, f"a {OTHERS_WORD}"), before))


def others_lora(pipeline: StableDiffusionPipeline) -> dict[str, Tensor]:
    layer = layers_of(pipeline.unet, TARGETS)[0]
    return {
        f"unet.{layer.path}.lora_A.weight": torch.ones(2, layer.columns),
        f"unet.{layer.path}.lora_B.weight": torch.ones(layer.rows, 2),
    }


def test_a_word_of_others_is_not_overwritten(pipeline: StableDiffusionPipeline, path: Path) -> None:
    pipeline.load_textual_inversion({"<s2>": torch.ones(TEXT_WIDTH)})
    before = table_of(pipeline)

    with pytest.raises(FormatError, match="already knows a word '<s2>'"):
        load(pipeline, path)

    assert torch.equal(table_of(pipeline), before)
    assert pipeline.get_list_adapters() == {}


def test_words_that_were_loaded_do_not_learn(pipeline: StableDiffusionPipeline, path: Path) -> None:
    """diffusers makes a new table for them, and another when they are taken off."""
    pipeline.text_encoder.requires_grad_(False)
    load(pipeline, path)
    assert not pipeline.text_encoder.get_input_embeddings().weight.requires_grad
    unload(pipeline)
    assert not pipeline.text_encoder.get_input_embeddings().weight.requires_grad


def test_a_file_for_another_model_leaves_the_pipeline_as_it_was(
    pipeline: StableDiffusionPipeline, lora: TrainedLora, path: Path
) -> None:
    load(pipeline, path)
    before = outputs(pipeline, PROMPT)

    for part in ("unet", "text_encoder", "words"):
        write_lora(wider(lora, part), path, "diffusers")
        with pytest.raises(FormatError, match="made for another base model"):
            load(pipeline, path)

    assert all(map(torch.equal, outputs(pipeline, PROMPT), before))


def wider(lora: TrainedLora, part: str) -> TrainedLora:
    """One column more than the model has, in this part."""
    if part == "words":
        rows = {word: torch.cat([row, row[:1]]) for word, row in lora.embeddings.items()}
        return replace(lora, embeddings=rows)
    changes: dict[str, object] = {
        part: {
            layer: LoraPair(torch.cat([pair.down, pair.down[:, :1]], 1), pair.up)
            for layer, pair in getattr(lora, part).items()
        }
    }
    return replace(lora, **changes)  # type: ignore[arg-type]


def test_the_scale_is_that_of_every_layers_update(
    pipeline: StableDiffusionPipeline, lora: TrainedLora, path: Path
) -> None:
    assert load(pipeline, path, scale=0.5) == "<s1><s2>"

    for part, pairs in (("unet", lora.unet), ("text_encoder", lora.text_encoder)):
        modules = dict(getattr(pipeline, part).named_modules())
        for name, pair in pairs.items():
            layer = modules.get(name) or modules[name.removeprefix("text_model.")]
            put_on = layer.get_delta_weight("vana")
            torch.testing.assert_close(put_on, 0.5 * (pair.up @ pair.down))


def test_a_load_that_breaks_off_leaves_nothing_on(
    pipeline: StableDiffusionPipeline, path: Path
) -> None:
    """diffusers refuses `<s2>` when the LoRA and `<s1>` are on: it takes this for a part of it."""
    pipeline.tokenizer.add_tokens("<s2>_1")

    with pytest.raises(ValueError, match="Multi-vector"):
        load(pipeline, path)

    assert pipeline.get_list_adapters() == {}
    assert "<s1>" not in pipeline.tokenizer.get_vocab()
