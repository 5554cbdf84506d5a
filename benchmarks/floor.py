"""How much arithmetic an update needs, counted on tensors that have shapes but no numbers."""

import copy
from contextlib import ExitStack
from dataclasses import replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from training.base_model import BaseModel
from training.compute import Compute
from training.loss import denoising_loss
from training.pivotal import all_lora_layers

META = torch.device("meta")
# In float32 small LoRA layers take more arithmetic than they need, to be called less often.
DTYPE = torch.bfloat16


def count_flops(base: BaseModel, phase: str, resolution: int, batch_size: int, rank: int) -> int:
    """Multiplications and additions of one update: forward and backward, matrix products only.

    Args:
        phase: "inversion" or "tuning".
        resolution: pixels a side.
        batch_size: pictures an update sees.
    """
    shapes = on_meta(base)
    with ExitStack() as stack:
        if phase == "inversion":
            shapes.text_encoder.get_input_embeddings().requires_grad_(True)
        else:
            generator = torch.Generator()  # never used: there are no numbers to draw
            stack.enter_context(all_lora_layers(shapes, rank, generator))
        counter = stack.enter_context(flop_counter())
        _one_loss(shapes, resolution, batch_size).backward()
    return counter.get_total_flops()


def flop_counter() -> FlopCounterMode:
    """torch's, which does not know that a product in place is a product."""
    counter, aten = FlopCounterMode(display=False), torch.ops.aten
    for product, in_place in ((aten.addmm, aten.addmm_), (aten.baddbmm, aten.baddbmm_)):
        counter.flop_registry[in_place] = counter.flop_registry[product]
    return counter


def on_meta(base: BaseModel) -> BaseModel:
    """Its shapes; the VAE stays as it is."""
    noise_scheduler = copy.deepcopy(base.noise_scheduler)
    noise_scheduler.alphas_cumprod = noise_scheduler.alphas_cumprod.to(META)
    return replace(
        base,
        unet=_without_numbers(base.unet),
        text_encoder=_without_numbers(base.text_encoder),
        noise_scheduler=noise_scheduler,
        compute=Compute(META, DTYPE, "only shapes"),
    )


def _without_numbers(module: torch.nn.Module) -> torch.nn.Module:
    memo: dict[int, object] = {
        id(tensor): type(tensor)(torch.empty_like(tensor, device=META, dtype=DTYPE), False)
        for tensor in module.parameters()
    }
    return copy.deepcopy(module, memo).to(META)


def _one_loss(base: BaseModel, resolution: int, batch_size: int) -> torch.Tensor:
    side = resolution // 2 ** (len(base.vae.config.block_out_channels) - 1)
    shape = (batch_size, base.unet.config.in_channels, side, side)
    latents, noise = torch.empty(2, *shape, device=META)
    timesteps = torch.zeros(batch_size, dtype=torch.long, device=META)
    length = base.text_encoder.config.max_position_embeddings
    input_ids = torch.zeros(batch_size, length, dtype=torch.long, device=META)
    return denoising_loss(
        base, latents, noise, timesteps, input_ids, torch.empty_like(latents[:, :1])
    )
