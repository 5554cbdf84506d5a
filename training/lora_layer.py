"""What a LoRA layer computes while it learns, in as few operations as can be."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from peft.tuners.lora import Linear as PeftLinear
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from training.recording import is_recording

# Layers of so few weights each are cheaper as one product with W + up down, though the gradient of
# all of W is then computed: calling an operation takes longer than its arithmetic. In float32 only;
# bfloat16's eight bits would round a small update of W away.
SMALL_LAYER = 2**16


class LoraFunction(torch.autograd.Function):
    """x W^T + bias + (x down^T) up^T (Hu et al. 2021, eq. 3), W and bias frozen.

    For one layer or several of one input, as three matrix products forward and five back. PEFT's
    own forward is the same in a dozen operations a layer: it scales, drops out and casts as well,
    which on small layers is most of the time.
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up_t: Tensor
    ) -> Tensor:
        """inputs (..., in), weight (layers out, in), bias (layers out,), down (layers, rank, in),
        up^T (layers, rank, out), of one dtype -> (..., layers out).
        """
        rows = inputs.reshape(-1, inputs.shape[-1])
        hidden = rows @ down.flatten(0, 1).t()
        outputs = rows @ weight.t() if bias is None else torch.addmm(bias, rows, weight.t())
        by_layer(outputs, len(up_t)).baddbmm_(by_layer(hidden, len(up_t)), up_t)
        ctx.save_for_backward(rows, hidden, weight, down, up_t)
        return outputs.view(*inputs.shape[:-1], len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, hidden, weight, down, up_t = ctx.saved_tensors
        grad_rows = grad.reshape(-1, len(weight))
        grad_outputs = by_layer(grad_rows, len(up_t))
        grad_hidden = torch.empty_like(hidden)
        torch.bmm(grad_outputs, up_t.mT, out=by_layer(grad_hidden, len(up_t)))
        grad_inputs = None
        if ctx.needs_input_grad[0]:
            grad_inputs = (grad_rows @ weight).addmm_(grad_hidden, down.flatten(0, 1))
            grad_inputs = grad_inputs.view(*grad.shape[:-1], weight.shape[1])
        grad_down = (grad_hidden.t() @ rows).view_as(down)
        grad_up_t = by_layer(hidden, len(up_t)).mT @ grad_outputs
        return grad_inputs, None, None, grad_down, grad_up_t


def by_layer(rows: Tensor, num_layers: int) -> Tensor:
    """(n, layers width) -> (layers, n, width); the same memory."""
    return rows.view(len(rows), num_layers, -1).transpose(0, 1)


class LeanLinear(PeftLinear):  # type: ignore[misc]
    """PEFT's layer, computed together with those that are given the same input."""

    siblings: "Siblings"

    def forward(self, inputs: Tensor) -> Tensor:
        return self.siblings.output_of(self, inputs)


class Siblings:
    """LoRA layers of one shape that are given the same input; or one layer on its own.

    The first that is asked computes for all; the others find what it left for them.

    Attributes:
        down, up_t: (layers, rank, in) and (layers, rank, out), in the precision of the weights.
    """

    down: Tensor
    up_t: Tensor

    def __init__(self, layers: Sequence[LeanLinear]) -> None:
        self.layers = layers
        linears = [layer.get_base_layer() for layer in layers]
        self.weight, self.bias = linears[0].weight, linears[0].bias
        if len(linears) > 1:
            self.weight = torch.cat([linear.weight for linear in linears])
            if self.bias is not None:
                self.bias = torch.cat([linear.bias for linear in linears])
            for linear, part in zip(linears, self.weight.chunk(len(linears)), strict=True):
                linear.weight.data = part  # not a second time in memory
        for layer in layers:
            layer.siblings = self
        self._inputs: Tensor | None = None
        self._outputs: dict[LeanLinear, Tensor] = {}

    def hand_out(self, down: Tensor, up_t: Tensor) -> None:
        self.down, self.up_t = down, up_t
        self._inputs, self._outputs = None, {}

    def output_of(self, layer: LeanLinear, inputs: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        if len(self.layers) == 1:
            return self._project(inputs)
        if inputs is not self._inputs or layer not in self._outputs:
            outputs = self._project(inputs).unflatten(-1, (len(self.layers), -1)).unbind(-2)
            self._inputs, self._outputs = inputs, dict(zip(self.layers, outputs, strict=True))
        output = self._outputs.pop(layer)
        if not self._outputs:
            self._inputs = None
        return output

    def _project(self, inputs: Tensor) -> Tensor:
        """(..., in) -> (..., layers out)."""
        weight, bias, down, up_t = self.weight, self.bias, self.down, self.up_t
        num = len(self.layers)
        if weight.dtype == torch.float32 and weight.numel() <= SMALL_LAYER * num:
            merged = torch.baddbmm(weight.view(num, -1, weight.shape[1]), up_t.mT, down)
            return F.linear(inputs, merged.flatten(0, 1), bias)
        inputs = inputs.to(weight.dtype)
        if is_recording() or torch.compiler.is_compiling():  # they know torch's operations only
            hidden = F.linear(inputs, down.flatten(0, 1)).flatten(0, -2)
            outputs = F.linear(inputs, weight, bias).flatten(0, -2)
            outputs = torch.baddbmm(by_layer(outputs, num), by_layer(hidden, num), up_t)
            return outputs.transpose(0, 1).reshape(*inputs.shape[:-1], len(weight))
        apply: Callable[..., Tensor] = LoraFunction.apply
        return apply(inputs, weight, bias, down, up_t)
