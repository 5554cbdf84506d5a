"""LoRA layers while they learn: put into a model, read out, and gone again."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import LoraConfig, LoraModel
from peft.tuners.lora import LoraLayer as PeftLoraLayer
from torch import Tensor, nn

from training.lora_layer import LeanLinear, Siblings
from training.trained_lora import LoraPair

ADAPTER = "default"
# Layers that are given the same input. The UNet's second attentions look at the text, so their keys
# and values are computed from the same in all blocks.
OF_THE_TEXT = ("attn2.to_k", "attn2.to_v")
OF_ONE_ATTENTION = (
    *("attn1.to_q", "attn1.to_k", "attn1.to_v"),
    *OF_THE_TEXT,
    *("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
)


class LoraLayers:
    """All LoRA layers of one model; alpha is the rank, so their scale is 1.

    Their matrices lie one after the other in one float32 parameter: one tensor to clip, to update
    and to cast, where there would be hundreds. Each forward pass of the model hands them out.

    Attributes:
        flat: the parameter, one-dimensional.
        by_path: module path -> the layer.
    """

    def __init__(
        self, by_path: dict[str, LeanLinear], generator: torch.Generator, *, across_blocks: bool
    ) -> None:
        """Initialised as the prior service did: down ~ N(0, 1/rank^2), up = 0."""
        self.by_path = by_path
        groups = siblings(by_path, across_blocks=across_blocks)
        self._siblings = [Siblings(layers) for layers in groups]
        self._shapes = [shape for group in self._siblings for shape in shapes(group)]
        self._sizes = [shape.numel() for shape in self._shapes]
        device = next(iter(by_path.values())).get_base_layer().weight.device
        self.flat = nn.Parameter(torch.zeros(sum(self._sizes), device=device))
        matrices = self._by_layer(self.flat.detach())
        for layer in by_path.values():
            down, up = matrices[layer]
            down.normal_(std=1 / len(down), generator=generator)
            # The same memory.
            layer.lora_A[ADAPTER].weight = nn.Parameter(down, requires_grad=False)
            layer.lora_B[ADAPTER].weight = nn.Parameter(up, requires_grad=False)

    def hand_out(self, *_: object) -> None:
        """Give every layer its matrices, in the precision that it works in; a forward pre-hook."""
        parts = self._split(self.flat.to(self._siblings[0].weight.dtype))
        for group, down, up_t in zip(self._siblings, parts[::2], parts[1::2], strict=True):
            group.hand_out(down, up_t)

    def pairs(self) -> dict[str, LoraPair]:
        """A copy of all matrices, on the CPU, by module path."""
        matrices = self._by_layer(self.flat.detach().cpu())
        pairs = ((path, matrices[layer]) for path, layer in self.by_path.items())
        how = {"memory_format": torch.contiguous_format}
        return {path: LoraPair(down.clone(**how), up.clone(**how)) for path, (down, up) in pairs}

    def _by_layer(self, flat: Tensor) -> dict[LeanLinear, tuple[Tensor, Tensor]]:
        """Its down and up; views."""
        parts = self._split(flat)
        groups = zip(self._siblings, parts[::2], parts[1::2], strict=True)
        return {
            layer: (down, up)
            for group, downs, ups_t in groups
            for layer, down, up in zip(group.layers, downs, ups_t.mT, strict=True)
        }

    def _split(self, flat: Tensor) -> list[Tensor]:
        """down, up^T, down, up^T ... of the siblings in order; views."""
        parts = zip(flat.split(self._sizes), self._shapes, strict=True)
        return [part.view(shape) for part, shape in parts]


def siblings(by_path: dict[str, LeanLinear], *, across_blocks: bool) -> list[list[LeanLinear]]:
    """Those together that are given the same input and have the same shape."""
    groups: dict[tuple[str, torch.Size], list[LeanLinear]] = {}
    for path, layer in by_path.items():
        given = path
        if path.endswith(OF_ONE_ATTENTION):
            given = path.rpartition(".")[0]
        if across_blocks and path.endswith(OF_THE_TEXT):
            given = "text"
        groups.setdefault((given, layer.get_base_layer().weight.shape), []).append(layer)
    return list(groups.values())


def shapes(group: Siblings) -> tuple[torch.Size, torch.Size]:
    """Of their matrices down and up^T."""
    layer, num = group.layers[0], len(group.layers)
    down, up_t = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight.mT
    return torch.Size((num, *down.shape)), torch.Size((num, *up_t.shape))


@contextmanager
def lora_layers(
    module: nn.Module,
    targets: tuple[str, ...],
    rank: int,
    generator: torch.Generator,
    *,
    across_blocks: bool = True,
) -> Iterator[LoraLayers]:
    """Put trainable LoRA layers into `module`; they are gone afterwards.

    Weights of layers that are given the same input lie side by side from then on; same values.

    `across_blocks`: a block may compute what others will ask for. Not with checkpoints: when a
    block is computed a second time, it must compute what it did the first time.
    """
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(targets))
    config._register_custom_module({nn.Linear: LeanLinear})
    try:  # before the change: a cancellation can come at any moment
        LoraModel(module, config, ADAPTER)
        layers = LoraLayers(dict(_peft_layers(module)), generator, across_blocks=across_blocks)
        module.register_forward_pre_hook(layers.hand_out)
        yield layers
    finally:
        remove_lora_layers(module)


def remove_lora_layers(module: nn.Module) -> None:
    """All there are: also what was left where a cancellation came in this very function."""
    for number, hook in list(module._forward_pre_hooks.items()):
        if isinstance(getattr(hook, "__self__", None), LoraLayers):
            del module._forward_pre_hooks[number]
    for name, layer in _peft_layers(module):
        vars(layer).pop("siblings", None)  # which refer to it, so that it would stay a while
        parent, _, child = name.rpartition(".")
        setattr(module.get_submodule(parent), child, layer.get_base_layer())
    vars(module).pop("peft_config", None)  # PEFT's note on what it did
    module.requires_grad_(False)


def _peft_layers(module: nn.Module) -> list[tuple[str, Any]]:
    return [(n, layer) for n, layer in module.named_modules() if isinstance(layer, PeftLoraLayer)]
