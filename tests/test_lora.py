"""LoRA layers while they learn, against PEFT's own."""

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, LoraModel
from torch import Tensor, nn

from tests.models import SMALL_KINDS, TARGETS, build_unet
from training.lora import SMALL_LAYER, LoraFunction, LoraLayers, lora_layers

RANK = 4


class Two(nn.Module):
    """A layer that is small and one that is not, with and without bias."""

    def __init__(self) -> None:
        super().__init__()
        self.small = nn.Linear(8, 32)
        self.large = nn.Linear(32, SMALL_LAYER // 32 + 1, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.large(self.small(inputs).tanh())


@pytest.fixture
def two() -> Two:
    torch.manual_seed(0)
    return Two().requires_grad_(False)


def learn_something(layers: LoraLayers) -> None:
    """So that no matrix is zero any more."""
    with torch.no_grad():
        layers.flat.normal_(std=0.3, generator=torch.Generator().manual_seed(1))


def through_peft(module: nn.Module, layers: LoraLayers, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """What PEFT makes of the same matrices: outputs, and gradients in the order of `flat`."""
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=["small", "large"])
    peft = LoraModel(module, config, "default")
    matrices = []
    for path, pair in layers.pairs().items():
        layer: Any = module.get_submodule(path)
        for linear, value in ((layer.lora_A, pair.down), (layer.lora_B, pair.up)):
            matrices.append(linear["default"].weight)
            matrices[-1].data.copy_(value)
    outputs = peft(inputs)
    outputs.square().mean().backward()
    return outputs.detach(), torch.cat([matrix.grad.flatten() for matrix in matrices])


def test_outputs_and_gradients_are_those_of_pefts_layers(two: Two) -> None:
    inputs = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(2))
    other = copy.deepcopy(two)
    with lora_layers(two, ("small", "large"), RANK, torch.Generator()) as layers:
        learn_something(layers)
        outputs = two(inputs)
        outputs.square().mean().backward()

        wanted, wanted_grad = through_peft(other, layers, inputs)

    torch.testing.assert_close(outputs, wanted, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(layers.flat.grad, wanted_grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("has_bias", [True, False])
def test_the_gradients_are_the_derivatives(has_bias: bool) -> None:
    """Numerical differences, in float64."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        drawn = torch.randn(*shape, dtype=torch.float64, generator=generator)
        return drawn.requires_grad_()

    weight, bias = draw(6, 5).detach(), draw(6).detach() if has_bias else None
    inputs, down, up = draw(2, 3, 5), draw(RANK, 5), draw(6, RANK)
    assert torch.autograd.gradcheck(
        lambda *learned: LoraFunction.apply(learned[0], weight, bias, *learned[1:]),
        (inputs, down, up),
    )


def test_a_model_in_half_the_bits_learns_in_all_of_them(two: Two) -> None:
    two.bfloat16()
    inputs = torch.ones(2, 8, dtype=torch.bfloat16)
    with lora_layers(two, ("small", "large"), RANK, torch.Generator()) as layers:
        outputs = two(inputs)
        outputs.float().square().mean().backward()

    assert outputs.dtype == torch.bfloat16
    grad = layers.flat.grad
    assert grad is not None
    assert layers.flat.dtype == grad.dtype == torch.float32
    assert grad.abs().max() > 0


def test_new_layers_change_nothing_and_are_gone_afterwards(two: Two) -> None:
    """Down is drawn with the prior service's spread, up is zero."""
    inputs = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    before, names = two(inputs), dict(two.named_parameters()).keys()

    with lora_layers(two, ("small", "large"), RANK, torch.Generator().manual_seed(0)) as layers:
        assert torch.equal(two(inputs), before)
        pairs = layers.pairs()

    assert pairs.keys() == {"small", "large"}
    assert pairs["large"].down.std() == pytest.approx(1 / RANK, rel=0.2)
    assert all(not pair.up.any() for pair in pairs.values())
    assert torch.equal(two(inputs), before)
    assert dict(two.named_parameters()).keys() == names
    assert not two._forward_pre_hooks


def test_the_layers_are_found_that_peft_finds() -> None:
    unet = build_unet(SMALL_KINDS["SD 1.5, narrow"])
    wanted = [
        name
        for name, module in unet.named_modules()
        if isinstance(module, nn.Linear) and name.endswith(TARGETS)
    ]
    with lora_layers(unet, TARGETS, RANK, torch.Generator()) as layers:
        assert list(layers.by_path) == wanted
        assert len(wanted) == 144
        assert sum(pair.down.numel() + pair.up.numel() for pair in layers.pairs().values()) == (
            layers.flat.numel()
        )
