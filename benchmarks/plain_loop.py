"""The same training as the field's example scripts write it: what our loop is measured against.

After diffusers' `textual_inversion.py` and `train_dreambooth_lora.py`, and the prior service's
trainer: frozen weights kept in float32 under autocast, a DataLoader, one picture a pass (two passes
make an update of inversion), AdamW over the whole token table and the other rows put back, and
`loss.item()` at every step. Latents are cached, as the prior service did; the scripts encode anew.

With the same seed and one picture an update it sees the same draws as training/loop.py, so that a
test can compare the losses.
"""

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from diffusers import UNet2DConditionModel
from diffusers.optimization import get_scheduler
from diffusers.utils.peft_utils import recurse_remove_peft_layers
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from transformers import CLIPTextModel

from training.base_model import FACTORS, BaseModel, One
from training.batches import TrainingPictures, picture_order
from training.placeholders import INITIAL_STD
from training.settings import TrainingSettings
from training.trained_lora import TEXT_ENCODER_TARGETS, UNET_TARGETS

Item = dict[str, Tensor]
ADAPTER = "default"


class CachedPictures(Dataset[Item]):
    """Each look at a picture is a new variant, a new sample of its latents, and a new prompt."""

    def __init__(self, pictures: TrainingPictures, generator: torch.Generator) -> None:
        self.pictures = TrainingPictures(
            **{field.name: getattr(pictures, field.name).cpu() for field in fields(pictures)}
        )
        self.generator = generator

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Item:
        pictures = self.pictures
        num_variants = pictures.latent_means.shape[1]
        variant = int(torch.randint(num_variants, (1,), generator=self.generator))
        mean = pictures.latent_means[index, variant]
        noise = torch.randn(mean.shape, generator=self.generator)
        which = torch.rand(1, generator=self.generator)
        choice = int(which * pictures.prompt_counts[index])
        return {
            "latents": mean + pictures.latent_stds[index, variant] * noise,
            "input_ids": pictures.input_ids[pictures.prompt_choices[index, choice]],
            "loss_weight": pictures.loss_weights[index, variant],
        }


@dataclass(frozen=True, kw_only=True)
class PlainModel:
    """UNet and text encoder with float32 weights of its own; the rest is the base model's."""

    base: BaseModel
    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel


def copy_for_plain_loop(base: BaseModel) -> PlainModel:
    """`base` must be as it was loaded: no new words, no LoRA layers."""
    unet, text_encoder = (copy.deepcopy(part).float() for part in (base.unet, base.text_encoder))
    undo_changes(unet)
    return PlainModel(base=base, unet=unet, text_encoder=text_encoder)


def undo_changes(unet: UNet2DConditionModel) -> None:
    """Make it what diffusers loads: without the layout, hooks and divisors of load_base_model."""
    unet.to(memory_format=torch.contiguous_format)
    for module in unet.modules():
        module._forward_pre_hooks.clear()
        for name in FACTORS:
            if isinstance(getattr(module, name, None), One):
                setattr(module, name, 1.0)


def add_words(model: PlainModel, num_words: int, generator: torch.Generator) -> nn.Parameter:
    """Rows for new words at the table's end; the whole table learns."""
    num_known = model.text_encoder.get_input_embeddings().num_embeddings
    model.text_encoder.resize_token_embeddings(num_known + num_words, mean_resizing=False)
    table: nn.Parameter = model.text_encoder.get_input_embeddings().weight
    with torch.no_grad():
        rows = INITIAL_STD * torch.randn(num_words, table.shape[1], generator=generator)
        table[num_known:] = rows.to(table.device)
    table.requires_grad_(True)
    return table


def add_lora(
    model: PlainModel, rank: int, generator: torch.Generator
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """PEFT's layers, as the scripts add them; the UNet's matrices and the text encoder's."""
    groups = []
    for module, targets in (
        (model.unet, UNET_TARGETS),
        (model.text_encoder, TEXT_ENCODER_TARGETS),
    ):
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(targets))
        module.add_adapter(config, ADAPTER)
        layers = [layer for layer in module.modules() if isinstance(layer, LoraLayer)]
        for layer in layers:
            down = layer.lora_A[ADAPTER].weight
            down.data.copy_(torch.randn(down.shape, generator=generator) / rank)
        groups.append([p for layer in layers for p in layer.parameters() if p.requires_grad])
    return groups[0], groups[1]


def remove_all(model: PlainModel, num_words: int) -> None:
    """LoRA layers and new words, so that the next phase can begin as this one did."""
    for module in (model.unet, model.text_encoder):
        recurse_remove_peft_layers(module)
        vars(module).pop("peft_config", None)
        module._hf_peft_config_loaded = False
    num_known = model.text_encoder.get_input_embeddings().num_embeddings - num_words
    model.text_encoder.resize_token_embeddings(num_known, mean_resizing=False)
    model.text_encoder.requires_grad_(False)


def invert(
    model: PlainModel,
    table: nn.Parameter,
    pictures: TrainingPictures,
    settings: TrainingSettings,
    generator: torch.Generator,
    mark: Callable[[], None],
) -> list[float]:
    """Textual inversion; the loss of every picture. `mark` is called after every update."""
    inversion, base = settings.inversion, model.base
    accumulation = inversion.batch_size  # passes of one picture that make an update
    optimizer = torch.optim.AdamW([table], lr=inversion.learning_rate, weight_decay=0.0)
    lr_scheduler = schedule(settings, optimizer, inversion.num_updates)
    scaler = base.compute.grad_scaler()
    original = table.detach().clone()
    is_known = torch.arange(len(table)) < len(table) - len(settings.placeholder_tokens)
    num_passes = inversion.num_updates * accumulation
    last_timestep = base.noise_scheduler.config.num_train_timesteps
    losses = []
    for step, item in enumerate(batches(pictures, num_passes, generator)):
        with base.compute.autocast():
            loss = plain_loss(model, item, last_timestep, generator)
        scaler.scale(loss / accumulation).backward()
        if (step + 1) % accumulation == 0:
            learning_rate = lr_scheduler.get_last_lr()[0]
            scaler.step(optimizer)
            scaler.update()
            lr_scheduler.step()
            optimizer.zero_grad()
            with torch.no_grad():
                table[is_known] = original[is_known]
                rows = F.normalize(table[~is_known], dim=-1)
                norms = table[~is_known].norm(dim=-1, keepdim=True)
                pull = min(1.0, 100 * learning_rate)
                table[~is_known] = rows * (norms + pull * (base.card.placeholder_norm - norms))
        losses.append(loss.detach().item())
        if (step + 1) % accumulation == 0:
            mark()
    return losses


def tune(
    model: PlainModel,
    groups: tuple[list[nn.Parameter], list[nn.Parameter]],
    pictures: TrainingPictures,
    settings: TrainingSettings,
    generator: torch.Generator,
    mark: Callable[[], None],
) -> list[float]:
    """LoRA tuning; the loss of every picture. `mark` is called after every update."""
    tuning, base = settings.tuning, model.base
    rates = (tuning.unet_learning_rate, tuning.text_learning_rate)
    optimizer = torch.optim.AdamW(
        [{"params": group, "lr": rate} for group, rate in zip(groups, rates, strict=True)],
        weight_decay=tuning.weight_decay,
    )
    lr_scheduler = schedule(settings, optimizer, tuning.num_updates)
    scaler = base.compute.grad_scaler()
    num_timesteps = base.noise_scheduler.config.num_train_timesteps
    last_timestep = int(tuning.max_timestep_fraction * num_timesteps)
    losses = []
    for item in batches(pictures, tuning.num_updates, generator):
        with base.compute.autocast():
            loss = plain_loss(model, item, last_timestep, generator)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        everything = itertools.chain(model.unet.parameters(), model.text_encoder.parameters())
        nn.utils.clip_grad_norm_(everything, tuning.max_grad_norm)
        scaler.step(optimizer)
        scaler.update()
        lr_scheduler.step()
        optimizer.zero_grad()
        losses.append(loss.detach().item())
        mark()
    return losses


def schedule(
    settings: TrainingSettings, optimizer: torch.optim.Optimizer, num_updates: int
) -> torch.optim.lr_scheduler.LRScheduler:
    return get_scheduler(
        settings.lr_scheduler, optimizer, num_warmup_steps=0, num_training_steps=num_updates
    )


def batches(
    pictures: TrainingPictures, num_passes: int, generator: torch.Generator
) -> DataLoader[Item]:
    """One picture at a time, in the order that training/loop.py takes them."""
    order = picture_order(len(pictures), num_passes, generator).tolist()
    return DataLoader(CachedPictures(pictures, generator), batch_size=1, sampler=order)


def plain_loss(
    model: PlainModel, item: Item, last_timestep: int, generator: torch.Generator
) -> Tensor:
    device, scheduler = model.base.compute.device, model.base.noise_scheduler
    latents = item["latents"].to(device)
    noise = torch.randn(latents.shape, generator=generator).to(device)
    timesteps = torch.randint(0, last_timestep, (len(latents),), generator=generator).to(device)
    noisy_latents = scheduler.add_noise(latents, noise, timesteps)
    encoder_hidden_states = model.text_encoder(item["input_ids"].to(device))[0]
    model_pred = model.unet(noisy_latents, timesteps, encoder_hidden_states).sample
    target = noise
    if scheduler.config.prediction_type == "v_prediction":
        target = scheduler.get_velocity(latents, noise, timesteps)
    loss = F.mse_loss(model_pred.float(), target.float(), reduction="none")
    return (loss * item["loss_weight"].to(device)).mean()
