"""LoRA layers while they learn, against PEFT's own."""

import copy
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from peft import LoraConfig, LoraModel
from torch import Tensor, nn

from tests.models import (
    SD15,
    SMALL_KINDS,
    TARGETS,
    TEXT_TARGETS,
    TEXT_WIDTH,
    build_text_encoder,
    build_unet,
    smallest,
)
from tests.operations import Operations
from training import lora_layer
from training.lora import LoraLayers, lora_layers
from training.lora_layer import SMALL_LAYER, LoraFunction
from training.trained_lora import LoraPair

Forward = Callable[[Any], Tensor]
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


def of_unet() -> tuple[nn.Module, Forward]:
    torch.manual_seed(0)
    unet = build_unet(smallest(SD15.name))
    latents, text = torch.randn(2, 4, 16, 16), torch.randn(2, 7, TEXT_WIDTH)
    return unet, lambda model: model(latents, torch.tensor([3, 500]), text).sample


def of_text_encoder() -> tuple[nn.Module, Forward]:
    torch.manual_seed(0)
    input_ids = torch.randint(1000, (2, 77))
    encoder = build_text_encoder(smallest(SD15.name))
    return encoder, lambda model: model(input_ids).last_hidden_state


def of_two() -> tuple[nn.Module, Forward]:
    torch.manual_seed(0)
    inputs = torch.randn(3, 5, 8)
    return Two(), lambda model: model(inputs)


def some_loss(outputs: Tensor) -> Tensor:
    """(The mean square of what comes out of a norm would always be the same.)"""
    return outputs.cumsum(-1).square().mean()


def through_peft(
    module: nn.Module, targets: tuple[str, ...], pairs: dict[str, LoraPair], forward: Forward
) -> tuple[Tensor, dict[str, LoraPair]]:
    """What PEFT makes of the same matrices: outputs, and gradients by path."""
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(targets))
    peft = LoraModel(module, config, "default")
    layers: dict[str, Any] = {path: module.get_submodule(path) for path in pairs}
    for path, pair in pairs.items():
        layers[path].lora_A["default"].weight.data.copy_(pair.down)
        layers[path].lora_B["default"].weight.data.copy_(pair.up)
    outputs = forward(peft.model)
    some_loss(outputs).backward()
    grads = {
        path: LoraPair(layer.lora_A["default"].weight.grad, layer.lora_B["default"].weight.grad)
        for path, layer in layers.items()
    }
    return outputs.detach(), grads


@pytest.mark.parametrize("small_layer", [0, SMALL_LAYER])
@pytest.mark.parametrize("across_blocks", [True, False])
@pytest.mark.parametrize(
    ("build", "targets"),
    [
        (of_two, ("small", "large")),
        (of_unet, TARGETS),
        (of_text_encoder, TEXT_TARGETS),
    ],
)
def test_outputs_and_gradients_are_those_of_pefts_layers(
    build: Callable[[], tuple[nn.Module, Forward]],
    targets: tuple[str, ...],
    across_blocks: bool,
    small_layer: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether layers are computed one by one or together, as one product or as several."""
    monkeypatch.setattr(lora_layer, "SMALL_LAYER", small_layer)
    module, forward = build()
    module.requires_grad_(False)
    other = copy.deepcopy(module)
    draws = torch.Generator().manual_seed(0)
    with lora_layers(module, targets, RANK, draws, across_blocks=across_blocks) as layers:
        learn_something(layers)
        pairs = layers.pairs()
        outputs = forward(module)
        some_loss(outputs).backward()
        assert layers.flat.grad is not None
        layers.flat.data.copy_(layers.flat.grad)
        grads = layers.pairs()

    wanted, wanted_grads = through_peft(other, targets, pairs, forward)

    torch.testing.assert_close(outputs, wanted, rtol=1e-4, atol=1e-5)
    assert grads.keys() == wanted_grads.keys()
    for path, grad in grads.items():
        for found, peft in ((grad.down, wanted_grads[path].down), (grad.up, wanted_grads[path].up)):
            assert (found - peft).norm() <= 1e-4 * peft.norm() + 1e-9, path


@pytest.mark.parametrize(
    ("across_blocks", "products"),
    [
        # 16 times: the first attention, the second's queries, both their outputs, feed-forward; and
        # keys and values, of all blocks of a width, of which there are two, ...
        (True, 16 * 5 + 2),
        (False, 16 * 6),  # ... or of each block.
    ],
)
def test_layers_of_one_input_are_one_product(across_blocks: bool, products: int) -> None:
    unet, forward = of_unet()
    layers = lora_layers(unet, TARGETS, RANK, torch.Generator(), across_blocks=across_blocks)
    with layers, Operations() as operations, torch.no_grad():
        forward(unet)

    assert operations.names.count("aten.baddbmm") == products


@pytest.fixture
def attention() -> Iterator[tuple[Any, LoraLayers]]:
    """CLIP's first, with LoRA layers; and those."""
    torch.manual_seed(0)
    encoder = build_text_encoder(smallest(SD15.name)).requires_grad_(False)
    with lora_layers(encoder, TEXT_TARGETS, RANK, torch.Generator()) as layers:
        layers.hand_out()
        yield encoder.get_submodule("encoder.layers.0.self_attn"), layers


def test_layers_asked_in_any_way_answer_each(attention: tuple[Any, LoraLayers]) -> None:
    """As when queries look at something else, or a pass is broken off and another begins."""
    module, layers = attention
    one, other = torch.randn(2, 1, 5, TEXT_WIDTH)
    asked = [(module.q_proj, other), (module.q_proj, other), (module.k_proj, one)]
    asked.append((module.v_proj, other))  # leaves the others' answers, which nobody fetches
    for spread in (0.3, 0.6):
        layers.flat.data.normal_(std=spread)
        layers.hand_out()
        pairs = {layer: layers.pairs()[path] for path, layer in layers.by_path.items()}
        for layer, inputs in asked:
            weight = layer.weight + pairs[layer].up @ pairs[layer].down
            wanted = nn.functional.linear(inputs, weight, layer.bias)
            torch.testing.assert_close(layer(inputs), wanted)


def test_what_was_computed_together_is_not_kept(attention: tuple[Any, LoraLayers]) -> None:
    """Neither what went in and came out, nor the base model's weights a second time."""
    module, _ = attention
    inputs = torch.randn(1, 5, TEXT_WIDTH)
    held = weakref.ref(inputs)
    for layer in (module.q_proj, module.k_proj, module.v_proj):
        layer(inputs)
    del inputs

    assert held() is None
    layers = (module.q_proj, module.k_proj, module.v_proj)
    assert len({layer.weight.untyped_storage().data_ptr() for layer in layers}) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # whatever a compiler warns of
def test_a_compiler_can_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the whole UNet, forward and back, so that compiling can be measured on a GPU."""
    monkeypatch.setattr(lora_layer, "SMALL_LAYER", 0)
    unet, forward = of_unet()
    with lora_layers(unet, TARGETS, RANK, torch.Generator()) as layers:
        learn_something(layers)
        wanted = forward(unet).detach()
        compiled = forward(torch.compile(unet, backend="aot_eager", fullgraph=True))
        compiled.mean().backward()

        torch.testing.assert_close(compiled.detach(), wanted)
        assert layers.flat.grad is not None


def test_layers_that_are_gone_leave_nothing() -> None:
    """At once, not only when Python looks for circles: it could be a gigabyte."""
    encoder, forward = of_text_encoder()
    gc.collect()
    gc.disable()
    try:
        with lora_layers(encoder, TEXT_TARGETS, RANK, torch.Generator()) as layers:
            forward(encoder).mean().backward()
            flat = weakref.ref(layers.flat)
            layer = weakref.ref(layers.by_path["encoder.layers.1.self_attn.k_proj"])
        del layers
        assert flat() is None
        assert layer() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("has_bias", [True, False])
def test_the_gradients_are_the_derivatives(has_bias: bool, num_layers: int) -> None:
    """Numerical differences, in float64."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        drawn = torch.randn(*shape, dtype=torch.float64, generator=generator)
        return drawn.requires_grad_()

    num_outputs = 6 * num_layers
    weight, bias = draw(num_outputs, 5).detach(), draw(num_outputs).detach() if has_bias else None
    inputs, down, up_t = draw(2, 3, 5), draw(num_layers, RANK, 5), draw(num_layers, RANK, 6)
    assert torch.autograd.gradcheck(
        lambda *learned: LoraFunction.apply(learned[0], weight, bias, *learned[1:]),
        (inputs, down, up_t),
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
