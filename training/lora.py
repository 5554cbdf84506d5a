"""LoRA layers while they learn: put into a model, read out, and gone again."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, LoraModel
from peft.tuners.lora import LoraLayer as PeftLoraLayer
from torch import nn

from training.trained_lora import LoraPair

ADAPTER = "default"


@dataclass(frozen=True)
class LoraLayer:
    """The two matrices of a layer while they learn: down (rank, in), up (out, rank); float32."""

    down: nn.Parameter
    up: nn.Parameter


@contextmanager
def lora_layers(
    module: nn.Module, targets: tuple[str, ...], rank: int, generator: torch.Generator
) -> Iterator[dict[str, LoraLayer]]:
    """Put trainable LoRA layers into `module`; they are gone afterwards.

    Initialised as the prior service did: down ~ N(0, 1/rank^2), up = 0.

    Yields:
        module path -> the layer's matrices.
    """
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(targets))
    try:  # before the change: a cancellation can come at any moment
        LoraModel(module, config, ADAPTER)
        yield {name: _trainable(layer, generator) for name, layer in _peft_layers(module)}
    finally:
        for name, layer in _peft_layers(module):
            parent, _, child = name.rpartition(".")
            setattr(module.get_submodule(parent), child, layer.get_base_layer())
        vars(module).pop("peft_config", None)  # PEFT's note on what it did
        module.requires_grad_(False)


def _peft_layers(module: nn.Module) -> list[tuple[str, Any]]:
    return [(n, layer) for n, layer in module.named_modules() if isinstance(layer, PeftLoraLayer)]


def _trainable(layer: Any, generator: torch.Generator) -> LoraLayer:
    down, up = layer.lora_A[ADAPTER].float().weight, layer.lora_B[ADAPTER].float().weight
    with torch.no_grad():
        down.normal_(std=1 / len(down), generator=generator)
        up.zero_()
    return LoraLayer(down, up)


def parameters_of(layers: dict[str, LoraLayer]) -> list[nn.Parameter]:
    return [matrix for layer in layers.values() for matrix in (layer.down, layer.up)]


def read_pairs(layers: dict[str, LoraLayer]) -> dict[str, LoraPair]:
    """A copy of what the layers hold, on the CPU, by module path."""
    return {
        name: LoraPair(down=layer.down.detach().cpu().clone(), up=layer.up.detach().cpu().clone())
        for name, layer in layers.items()
    }
