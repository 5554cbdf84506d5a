"""The prior service's format: its numbering, its contents, and the picture it gives."""

import copy
import json
import random
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from torch import Tensor

from cli.sampling import build_pipeline
from preprocessing.example import Example
from tests.conftest import TINY, VISIBLE
from tests.lora_files import Layer, assert_same, contents, lora_for, recorded_order
from tests.models import merge
from training.base_model import BaseModel
from training.formats import load, read_lora, unload, write_lora
from training.formats.layers import STABLE_DIFFUSION_UNET, sort_paths, text_encoder_paths
from training.phase import Progress
from training.pivotal import train
from training.settings import translate
from training.trained_lora import UNET_TARGETS, LoraPair, TrainedLora

PROMPT = "a photo of <s1><s2>"

SD15_UNET = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}


def fresh_pipeline() -> StableDiffusionPipeline:
    """A pipeline of its own, so that loading into it cannot touch the shared base model."""
    pipeline = StableDiffusionPipeline.from_pretrained(TINY, dtype=torch.float32)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def picture(pipeline: StableDiffusionPipeline, prompt: str) -> Tensor:
    return pipeline(
        prompt,
        num_inference_steps=6,
        guidance_scale=3.0,
        width=64,
        height=64,
        generator=torch.Generator().manual_seed(1),
        output_type="pt",
    ).images


@dataclass(frozen=True)
class Run:
    """What was learned, and what the model drew while it still had it on."""

    lora: TrainedLora
    picture: Tensor


@pytest.fixture(scope="module")
def run(base: BaseModel) -> Run:
    colours = [Image.new("RGB", (64, 64), c) for c in ("crimson", "seagreen", "navy")]
    examples = [Example(image=i, mask=None, prompts=("a photo of {}",)) for i in colours]
    pictures: list[Tensor] = []

    def look_at_the_end(progress: Progress) -> None:
        if (progress.phase, progress.step) == ("tuning", 30):
            pictures.append(picture(live_pipeline(base), PROMPT))

    trained = train(base, examples, translate(VISIBLE), look_at_the_end)
    return Run(lora=trained.lora, picture=pictures[0])


def live_pipeline(base: BaseModel) -> StableDiffusionPipeline:
    """The very modules that are being trained, LoRA layers, placeholder rows and all."""
    tokenizer = copy.deepcopy(base.tokenizer)
    tokenizer.add_tokens(["<s1>", "<s2>"])
    pipeline = build_pipeline(base)
    pipeline.register_modules(tokenizer=tokenizer)
    return pipeline


@pytest.fixture
def lora(run: Run) -> TrainedLora:
    return run.lora


def test_all_192_layers_of_sd15_get_the_numbers_that_the_old_stack_gave_them() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(**SD15_UNET)
    shapes = {name: tuple(p.shape) for name, p in unet.named_parameters()}

    ends = tuple(f".{target}" for target in UNET_TARGETS)
    paths = [name for name, _ in unet.named_modules() if name.endswith(ends)]
    random.Random(0).shuffle(paths)
    numbered = [Layer(path, *shapes[f"{path}.weight"]) for path in sort_paths("unet", paths)]

    assert numbered == recorded_order("unet")
    assert tuple(layer.path for layer in numbered) == STABLE_DIFFUSION_UNET
    text_paths = [layer.path for layer in recorded_order("text_encoder")]
    shuffled = random.Random(0).sample(text_paths, len(text_paths))
    assert sort_paths("text_encoder", shuffled) == text_paths == list(text_encoder_paths(12))
    assert (len(paths), len(text_paths)) == (144, 48)


def test_words_keep_the_order_in_which_they_are_written(tmp_path: Path) -> None:
    rows = {token: torch.full((768,), float(i)) for i, token in enumerate(("<s2>", "<s10>", "<a>"))}
    lora = lora_for(recorded_order("unet"), recorded_order("text_encoder"), 1, embeddings=rows)
    write_lora(lora, tmp_path / "lora.safetensors")

    assert_same(read_lora(tmp_path / "lora.safetensors").lora, lora)
    ranks = {v for n, v in contents(tmp_path / "lora.safetensors")[1].items() if n[-5:] == ":rank"}
    assert ranks == {"1"}


@pytest.mark.slow
def test_the_file_holds_what_the_old_reader_asks_for(lora: TrainedLora, tmp_path: Path) -> None:
    write_lora(lora, tmp_path / "lora.safetensors")

    tensors, metadata = contents(tmp_path / "lora.safetensors")
    names = set(tensors)
    ours = {name for name in metadata if name.startswith("vana.")}
    numbers = [f"unet:{i}" for i in range(63)] + [f"text_encoder:{i}" for i in range(8)]
    assert names == {f"{n}:{side}" for n in numbers for side in ("up", "down")} | {"<s1>", "<s2>"}
    # parse_safeloras takes the metadata entry of every tensor's name up to the first colon.
    assert metadata.keys() - ours == {f"{n}:rank" for n in numbers} | {
        "unet",
        "text_encoder",
        "<s1>",
        "<s2>",
    }
    assert all(metadata[f"{n}:rank"] == "4" for n in numbers)
    # It takes other entries for ranks if their names end so, and for words if they say <embed>.
    assert not any(n.endswith("rank") or metadata[n] == "<embed>" for n in ours)
    assert metadata["<s1>"] == metadata["<s2>"] == "<embed>"
    assert set(json.loads(metadata["unet"])) == {"CrossAttention", "Attention", "GEGLU"}
    assert json.loads(metadata["text_encoder"]) == ["CLIPAttention"]
    assert tensors["unet:0:up"].dtype == torch.float16
    assert tensors["<s1>"].dtype == torch.float32
    assert tensors["<s1>"].shape == (128,)
    # ff comes fifth: its GEGLU has 8 rows for each of attn1.to_q's.
    assert len(tensors["unet:4:up"]) == 8 * len(tensors["unet:0:up"])


@pytest.mark.slow
def test_the_written_file_gives_a_diffusers_pipeline_the_trained_models_picture(
    run: Run, tmp_path: Path
) -> None:
    write_lora(run.lora, tmp_path / "lora.safetensors")
    loaded = fresh_pipeline()
    plain = picture(loaded, "a photo of a dog")

    for _ in range(2):  # a second load takes the first one's place
        load(loaded, tmp_path / "lora.safetensors")
        assert (picture(loaded, PROMPT) - run.picture).abs().max() < 1e-3

    unload(loaded)
    assert torch.equal(picture(loaded, "a photo of a dog"), plain)
    assert (picture(loaded, PROMPT) - run.picture).abs().max() > 0.1


@pytest.mark.slow
def test_half_the_scale_is_half_the_update(lora: TrainedLora, tmp_path: Path) -> None:
    write_lora(lora, tmp_path / "lora.safetensors")
    stored = read_lora(tmp_path / "lora.safetensors").lora
    halved = TrainedLora(
        embeddings=stored.embeddings,
        unet={k: LoraPair(p.down, p.up / 2) for k, p in stored.unet.items()},
        text_encoder={k: LoraPair(p.down, p.up / 2) for k, p in stored.text_encoder.items()},
        rank=stored.rank,
    )
    loaded, merged = fresh_pipeline(), fresh_pipeline()
    load(loaded, tmp_path / "lora.safetensors", scale=0.5)
    merge(merged, halved)
    assert (picture(loaded, PROMPT) - picture(merged, PROMPT)).abs().max() < 1e-3
