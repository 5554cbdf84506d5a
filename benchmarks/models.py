"""What the benchmarks train: a folder with a base model, or one with random weights made here.

Random weights cost as much to train as real ones, and need no download and no model hub.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel
from transformers.utils import logging

from benchmarks.machine import REPOSITORY, say, wait_for
from training.base_model import BaseModel, load_base_model
from training.compute import Compute
from weights.folder import read_json, write_json
from weights.original_layout import complete_configs

SD15_CONFIGS = REPOSITORY / "weights" / "configs" / "stable-diffusion-v1-5"
# The same layers, each a few channels wide: for trying the benchmarks themselves.
NARROW: dict[str, dict[str, Any]] = {
    "unet": {
        "block_out_channels": [32, 32, 32, 32],
        "cross_attention_dim": 48,
        "attention_head_dim": 2,
        "norm_num_groups": 8,
        "sample_size": 8,  # 64 pixels
    },
    "vae": {"block_out_channels": [8, 8, 16, 16], "norm_num_groups": 8},
    "text_encoder": {
        "hidden_size": 48,
        "intermediate_size": 192,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
    },
}
RANDOM_MODELS: dict[str, dict[str, dict[str, Any]]] = {
    "sd15-random": {},
    "sd15-narrow-random": NARROW,
}


@dataclass(frozen=True, kw_only=True)
class OpenedModel:
    """`seconds`: what loading took, the files being in the system's cache."""

    name: str
    base: BaseModel
    seconds: float


@contextmanager
def open_model(name: str, compute: Compute) -> Iterator[OpenedModel]:
    """One of RANDOM_MODELS, or a folder with a base model."""
    if name not in RANDOM_MODELS:
        folder = Path(name)
        yield _load(folder.name, folder, compute)
        return
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as temporary:
        folder = Path(temporary) / name
        if compute.device.type == "cpu" and name == "sd15-random":
            say("sd15-random on a CPU: 5 to 10 GB of memory, and minutes for every update.")
        say(f"making {name}: half-precision files of random weights ...")
        write_random_model(folder, RANDOM_MODELS[name], compute.device)
        yield _load(name, folder, compute)


def _load(name: str, folder: Path, compute: Compute) -> OpenedModel:
    start = time.perf_counter()
    base = load_base_model(folder, compute)
    wait_for(compute.device)
    return OpenedModel(name=name, base=base, seconds=time.perf_counter() - start)


def write_random_model(
    folder: Path, changes: dict[str, dict[str, Any]], device: torch.device
) -> None:
    """A diffusers folder of Stable Diffusion 1.5's layout in half precision.

    Args:
        changes: part -> what its config says otherwise.
    """
    complete_configs(SD15_CONFIGS, folder)
    for part, values in changes.items():
        path = folder / part / "config.json"
        write_json(path, read_json(path) | values)
    torch.manual_seed(0)
    logging.disable_progress_bar()
    with torch.device(device):  # a billion numbers are drawn fastest where they are multiplied
        parts = {
            "text_encoder": CLIPTextModel(CLIPTextConfig.from_pretrained(folder / "text_encoder")),
            "unet": UNet2DConditionModel.from_config(read_json(folder / "unet" / "config.json")),
            "vae": AutoencoderKL.from_config(read_json(folder / "vae" / "config.json")),
        }
    for name, part in parts.items():
        part.half().save_pretrained(folder / name, safe_serialization=True)


def num_bytes(*modules: nn.Module) -> int:
    """Of all weights."""
    return sum(p.numel() * p.element_size() for module in modules for p in module.parameters())
