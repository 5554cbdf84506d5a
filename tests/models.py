"""Stable Diffusions of random weights: the real ones' structure, in sizes a test can afford."""

import copy
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tests.conftest import TINY
from tests.lora_files import Layer
from training.trained_lora import TrainedLora, canonical_text_encoder_path

TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj")
TEXT_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What makes one Stable Diffusion differ from another, as its published config.json says."""

    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    heads: int | tuple[int, ...] = 8
    text_width: int = 768
    num_text_layers: int = 12
    is_linear_projection: bool = False
    hidden_act: str = "quick_gelu"


SD15 = Kind()
SD21 = Kind(
    heads=(5, 10, 20, 20),
    text_width=1024,
    num_text_layers=23,
    is_linear_projection=True,
    hidden_act="gelu",
)
# Every layer of the real ones, narrow; and the real widths, in fewer layers.
SMALL_KINDS = {
    "SD 1.5, narrow": replace(SD15, channels=(32, 64, 96, 96), heads=4, text_width=48),
    "SD 2.1, narrow": replace(SD21, channels=(32, 64, 96, 96), heads=(2, 4, 6, 6), text_width=48),
    "SD 1.5, shallow": replace(SD15, channels=(320,), num_text_layers=2),
    "SD 2.1, shallow": replace(SD21, channels=(320,), heads=(5,), num_text_layers=2),
}


def build_unet(kind: Kind) -> UNet2DConditionModel:
    num_attending = max(1, len(kind.channels) - 1)
    down = ["CrossAttnDownBlock2D"] * num_attending
    up = ["CrossAttnUpBlock2D"] * num_attending
    without = len(kind.channels) - num_attending
    heads = kind.heads if isinstance(kind.heads, int) else list(kind.heads)
    return UNet2DConditionModel(
        block_out_channels=kind.channels,
        down_block_types=(*down, *["DownBlock2D"] * without),
        up_block_types=(*["UpBlock2D"] * without, *up),
        cross_attention_dim=kind.text_width,
        attention_head_dim=heads,
        use_linear_projection=kind.is_linear_projection,
    ).eval()


def build_text_encoder(kind: Kind, vocab_size: int) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=vocab_size,
        hidden_size=kind.text_width,
        intermediate_size=4 * kind.text_width,
        num_hidden_layers=kind.num_text_layers,
        num_attention_heads=kind.text_width // 16,
        hidden_act=kind.hidden_act,
        projection_dim=kind.text_width,
    )
    return CLIPTextModel(config).eval()


def build_small_pipeline(kind: Kind) -> StableDiffusionPipeline:
    """Equal weights at every call. There is no VAE: these models are only asked for noise."""
    return copy.deepcopy(_build_small_pipeline(kind))


@cache  # drawing the weights takes longer than all else
def _build_small_pipeline(kind: Kind) -> StableDiffusionPipeline:
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(TINY / "tokenizer")
    return StableDiffusionPipeline(
        vae=None,
        text_encoder=build_text_encoder(kind, len(tokenizer)),
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
