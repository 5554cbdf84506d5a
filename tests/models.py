"""Stable Diffusions of random weights: the real ones' structure, in sizes a test can afford."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tests.conftest import REPOSITORY, TINY
from tests.lora_files import Layer
from training.trained_lora import TrainedLora, canonical_text_encoder_path
from weights.folder import read_json, write_json
from weights.original_layout import complete_configs

TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj")
TEXT_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")
CONFIGS = REPOSITORY / "weights" / "configs"
PARTS = ("text_encoder", "unet", "vae")
# A width of its own for the text, so that mixed-up layers also have the wrong shape.
TEXT_WIDTH = 48
FEW_TEXT_LAYERS = {"num_hidden_layers": 2}
NARROW_TEXT = {
    "hidden_size": TEXT_WIDTH,
    "intermediate_size": 4 * TEXT_WIDTH,
    "num_attention_heads": 4,
    "projection_dim": TEXT_WIDTH,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Kind:
    """A Stable Diffusion.

    Attributes:
        name: of its folder in weights/configs.
        changes: part -> what is otherwise than its config.json there says.
    """

    name: str
    changes: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def config(self, part: str) -> dict[str, object]:
        return read_json(CONFIGS / self.name / part / "config.json") | dict(
            self.changes.get(part, {})
        )


SD15 = Kind(name="stable-diffusion-v1-5")
SD21 = Kind(name="stable-diffusion-2-1")


def narrow(name: str, heads: object) -> Kind:
    """Every layer of the real one."""
    unet = {
        "block_out_channels": [32, 64, 96, 96],
        "attention_head_dim": heads,
        "cross_attention_dim": TEXT_WIDTH,
    }
    return Kind(name=name, changes={"unet": unet, "text_encoder": NARROW_TEXT})


def shallow(name: str, heads: object) -> Kind:
    """The real one's widths, in fewer layers."""
    unet = {
        "block_out_channels": [320],
        "down_block_types": ["CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D"],
        "attention_head_dim": heads,
    }
    return Kind(name=name, changes={"unet": unet, "text_encoder": FEW_TEXT_LAYERS})


def smallest(name: str) -> Kind:
    """The UNet's layers, each a few channels, and few layers of text."""
    unet = {
        "block_out_channels": [16, 32, 32, 32],
        "attention_head_dim": [2, 4, 4, 4] if name == SD21.name else 2,
        "cross_attention_dim": TEXT_WIDTH,
        "norm_num_groups": 8,
    }
    vae = {"block_out_channels": [16, 16, 32, 32], "norm_num_groups": 8}
    return Kind(
        name=name,
        changes={"unet": unet, "vae": vae, "text_encoder": NARROW_TEXT | FEW_TEXT_LAYERS},
    )


SMALL_KINDS = {
    "SD 1.5, narrow": narrow(SD15.name, heads=4),
    "SD 2.1, narrow": narrow(SD21.name, heads=[2, 4, 6, 6]),
    "SD 1.5, shallow": shallow(SD15.name, heads=8),
    "SD 2.1, shallow": shallow(SD21.name, heads=[5]),
}


def build_unet(kind: Kind) -> UNet2DConditionModel:
    return UNet2DConditionModel.from_config(kind.config("unet")).eval()


def build_text_encoder(kind: Kind, **changes: object) -> CLIPTextModel:
    return CLIPTextModel(CLIPTextConfig(**kind.config("text_encoder") | changes)).eval()


@dataclass(frozen=True, kw_only=True)
class SmallModel:
    """The parts with weights; `configs` is a folder like those in weights/configs."""

    text_encoder: CLIPTextModel
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    configs: Path


def build_small_model(name: str, folder: Path) -> SmallModel:
    """The smallest of what weights/configs/`name` describes; its configs go to `folder`.

    The weights are numbers that half precision can hold, so that saving them loses nothing.
    """
    torch.manual_seed(0)
    kind = smallest(name)
    complete_configs(CONFIGS / name, folder)
    for part in PARTS:
        write_json(folder / part / "config.json", kind.config(part))
    model = SmallModel(
        text_encoder=build_text_encoder(kind),
        unet=build_unet(kind),
        vae=AutoencoderKL.from_config(kind.config("vae")),
        configs=folder,
    )
    for part in PARTS:
        getattr(model, part).half().float().eval()
    return model


def save_small_model(model: SmallModel, folder: Path) -> None:
    """As a folder in diffusers format, in half precision."""
    complete_configs(model.configs, folder)
    for part in PARTS:
        getattr(model, part).half().save_pretrained(folder / part, safe_serialization=True)
        getattr(model, part).float()


def build_small_pipeline(kind: Kind) -> StableDiffusionPipeline:
    """Equal weights at every call. There is no VAE: these models are only asked for noise."""
    return copy.deepcopy(_build_small_pipeline(kind))


@cache  # drawing the weights takes longer than all else
def _build_small_pipeline(kind: Kind) -> StableDiffusionPipeline:
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(TINY / "tokenizer")
    return StableDiffusionPipeline(
        vae=None,
        text_encoder=build_text_encoder(kind, vocab_size=len(tokenizer)),
        tokenizer=tokenizer,
        unet=build_unet(kind),
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def layers_of(module: nn.Module, targets: tuple[str, ...]) -> list[Layer]:
    """Path, as files have it, and shape of every layer that gets a LoRA."""
    ends = tuple(f".{target}" for target in targets)
    is_text = targets == TEXT_TARGETS
    return [
        Layer(canonical_text_encoder_path(name) if is_text else name, *layer.weight.shape)
        for name, layer in module.named_modules()
        if name.endswith(ends)
    ]


def merge(pipeline: StableDiffusionPipeline, lora: TrainedLora) -> StableDiffusionPipeline:
    """An independent way to apply a LoRA: add up @ down to the weights, append the words' rows."""
    for part, pairs in (("unet", lora.unet), ("text_encoder", lora.text_encoder)):
        modules = dict(getattr(pipeline, part).named_modules())
        for path, pair in pairs.items():
            layer = modules.get(path) or modules[path.removeprefix("text_model.")]
            layer.weight.data += pair.up @ pair.down
    pipeline.tokenizer.add_tokens(list(lora.embeddings))
    table = pipeline.text_encoder.get_input_embeddings()
    rows = torch.cat([table.weight.data, *(row[None] for row in lora.embeddings.values())])
    pipeline.text_encoder.set_input_embeddings(nn.Embedding.from_pretrained(rows))
    return pipeline


@torch.no_grad()
def outputs(pipeline: StableDiffusionPipeline, prompt: str) -> tuple[Tensor, Tensor]:
    """The text encoder's (1, 16, width) for a prompt, and the UNet's (1, 4, 16, 16) for those."""
    ids = pipeline.tokenizer(
        pipeline.maybe_convert_prompt(prompt, pipeline.tokenizer),
        padding="max_length",
        max_length=16,
        return_tensors="pt",
    ).input_ids
    states = pipeline.text_encoder(ids)[0]
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    return states, pipeline.unet(latents, torch.tensor([500]), states).sample


def relative_error(found: Any, wanted: Any) -> float:
    """L2 norm of the difference, as a share of what is wanted; the worst of all outputs."""
    return max(float((f - w).norm() / w.norm()) for f, w in zip(found, wanted, strict=True))
