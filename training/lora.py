"""LoRA layers while they learn: put into a model, read out, and gone again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import LoraConfig, LoraModel
from peft.tuners.lora import Linear as PeftLinear
from peft.tuners.lora import LoraLayer as PeftLoraLayer
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from training.recording import is_recording
from training.trained_lora import LoraPair

ADAPTER = "default"
# A layer of so few weights is cheaper as one product with W + up down, though the gradient of all
# of W is then computed: calling an operation takes longer than its arithmetic. In float32 only;
# bfloat16's eight bits would round a small update of W away.
SMALL_LAYER = 2**16


class LoraFunction(torch.autograd.Function):
    """x W^T + bias + (x down^T) up^T (Hu et al. 2021, eq. 3), W and bias frozen.

    As three matrix products forward and five back. PEFT's own forward is the same in a dozen
    operations: it scales, drops out and casts as well, which on small layers is most of the time.
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor
    ) -> Tensor:
        """inputs (..., in), weight (out, in), down (rank, in), up (out, rank), of one dtype."""
        rows = inputs.reshape(-1, inputs.shape[-1])
        hidden = rows @ down.t()
        outputs = rows @ weight.t() if bias is None else torch.addmm(bias, rows, weight.t())
        outputs.addmm_(hidden, up.t())
        ctx.save_for_backward(rows, hidden, weight, down, up)
        return outputs.view(*inputs.shape[:-1], len(up))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, hidden, weight, down, up = ctx.saved_tensors
        grad_rows = grad.reshape(-1, len(up))
        grad_hidden = grad_rows @ up
        grad_inputs = None
        if ctx.needs_input_grad[0]:
            grad_inputs = (grad_rows @ weight).addmm_(grad_hidden, down)
            grad_inputs = grad_inputs.view(*grad.shape[:-1], weight.shape[1])
        return grad_inputs, None, None, grad_hidden.t() @ rows, grad_rows.t() @ hidden


class LeanLinear(PeftLinear):  # type: ignore[misc]
    """PEFT's layer in fewer operations, with matrices that are handed to it; see LoraLayers."""

    down: Tensor
    up: Tensor

    def forward(self, inputs: Tensor) -> Tensor:
        linear = self.get_base_layer()
        weight, bias = linear.weight, linear.bias
        if weight.dtype == torch.float32 and weight.numel() <= SMALL_LAYER:
            return F.linear(inputs, torch.addmm(weight, self.up, self.down), bias)
        inputs = inputs.to(weight.dtype)
        if is_recording():  # which can hold no Python
            return F.linear(inputs, weight, bias) + F.linear(F.linear(inputs, self.down), self.up)
        apply: Callable[..., Tensor] = LoraFunction.apply
        return apply(inputs, weight, bias, self.down, self.up)


class LoraLayers:
    """All LoRA layers of one model; alpha is the rank, so their scale is 1.

    Their matrices lie one after the other in one float32 parameter: one tensor to clip, to update
    and to cast, where there would be hundreds. Each forward pass of the model hands them out.

    Attributes:
        flat: the parameter, one-dimensional.
        by_path: module path -> the layer.
    """

    def __init__(self, by_path: dict[str, LeanLinear], generator: torch.Generator) -> None:
        """Initialised as the prior service did: down ~ N(0, 1/rank^2), up = 0."""
        self.by_path = by_path
        pairs = [(layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]) for layer in by_path.values()]
        matrices = [linear for pair in pairs for linear in pair]
        self._shapes = [linear.weight.shape for linear in matrices]
        self._sizes = [shape.numel() for shape in self._shapes]
        device = matrices[0].weight.device
        self.flat = nn.Parameter(torch.zeros(sum(self._sizes), device=device))
        parts = self._split(self.flat.detach())
        for linear, part in zip(matrices, parts, strict=True):
            linear.weight = nn.Parameter(part, requires_grad=False)  # the same memory
        for down in parts[::2]:
            down.normal_(std=1 / len(down), generator=generator)

    def hand_out(self, *_: object) -> None:
        """Give every layer its matrices, in the precision that it works in; a forward pre-hook."""
        dtype = next(iter(self.by_path.values())).get_base_layer().weight.dtype
        parts = self._split(self.flat.to(dtype))
        for layer, down, up in zip(self.by_path.values(), parts[::2], parts[1::2], strict=True):
            layer.down, layer.up = down, up

    def pairs(self) -> dict[str, LoraPair]:
        """A copy of all matrices, on the CPU, by module path."""
        parts = self._split(self.flat.detach().cpu())
        pairs = zip(self.by_path, parts[::2], parts[1::2], strict=True)
        return {path: LoraPair(down.clone(), up.clone()) for path, down, up in pairs}

    def _split(self, flat: Tensor) -> list[Tensor]:
        """down, up, down, up ... of the layers in order; views."""
        parts = zip(flat.split(self._sizes), self._shapes, strict=True)
        return [part.view(shape) for part, shape in parts]


@contextmanager
def lora_layers(
    module: nn.Module, targets: tuple[str, ...], rank: int, generator: torch.Generator
) -> Iterator[LoraLayers]:
    """Put trainable LoRA layers into `module`; they are gone afterwards."""
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(targets))
    config._register_custom_module({nn.Linear: LeanLinear})
    hook = None
    try:  # before the change: a cancellation can come at any moment
        LoraModel(module, config, ADAPTER)
        layers = LoraLayers(dict(_peft_layers(module)), generator)
        hook = module.register_forward_pre_hook(layers.hand_out)
        yield layers
    finally:
        if hook:
            hook.remove()
        for name, layer in _peft_layers(module):
            parent, _, child = name.rpartition(".")
            setattr(module.get_submodule(parent), child, layer.get_base_layer())
        vars(module).pop("peft_config", None)  # PEFT's note on what it did
        module.requires_grad_(False)


def _peft_layers(module: nn.Module) -> list[tuple[str, Any]]:
    return [(n, layer) for n, layer in module.named_modules() if isinstance(layer, PeftLoraLayer)]
