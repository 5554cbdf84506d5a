"""Train the UNet and the text encoder together, on latents."""

import copy
import json
import logging
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from weights.build_tiny.batches import Batch, draw_batch, drawing_chances, fixed_batch
from weights.build_tiny.checkpoints import load_checkpoint, save_checkpoint
from weights.build_tiny.latents import load_latents
from weights.build_tiny.models import (
    Denoiser,
    load_tokenizer,
    make_noise_scheduler,
    make_text_encoder,
    make_unet,
)
from weights.build_tiny.progress import eta
from weights.build_tiny.updates import Optimizers, make_optimizers, rate_factor, update
from weights.build_tiny.workers import worker

logger = logging.getLogger(__name__)

FLAT_SHARE = 0.4  # then linearly down: samples before the decay are blobs
# Hang et al. 2023, "Efficient diffusion training via min-SNR weighting strategy"
MIN_SNR_GAMMA = 5.0
EMA_DECAY = 0.995
COMPARE_EVERY = 150
LOG_EVERY = 50

Models = tuple[Denoiser, Denoiser]  # the one that learns, and its average, which follows slowly


@dataclass(frozen=True, kw_only=True)
class DenoiserPlan:
    """One training run; `start_from` is a diffusers folder to go on from, None for new weights."""

    work: Path
    start_from: Path | None
    num_steps: int
    batch_size: int  # over all processes
    seed: int

    @property
    def folder(self) -> Path:
        """Where checkpoints and losses go."""
        return self.work / "denoiser"


def make_denoiser(plan: DenoiserPlan, tokenizer: CLIPTokenizer) -> Denoiser:
    """The two models that are trained, under one roof."""
    torch.manual_seed(plan.seed)
    if plan.start_from is None:
        unet, text_encoder = make_unet(), make_text_encoder(tokenizer)
    else:
        unet = UNet2DConditionModel.from_pretrained(
            plan.start_from, subfolder="unet", local_files_only=True
        ).float()
        text_encoder = CLIPTextModel.from_pretrained(
            plan.start_from, subfolder="text_encoder", local_files_only=True
        ).float()
    unet.to(memory_format=torch.channels_last)
    return Denoiser(unet, text_encoder).train()


def split_parameters(denoiser: Denoiser) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The hidden layers' weights; and embeddings, first and last layer, biases and norms."""
    hidden: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in denoiser.named_parameters():
        is_edge = any(part in name for part in ("embedding.weight", "conv_in", "conv_out"))
        (others if is_edge or parameter.ndim < 2 else hidden).append(parameter)
    return hidden, others


def squared_errors(denoiser: Denoiser, noise_scheduler: DDPMScheduler, batch: Batch) -> Tensor:
    """(b,) mean squared error of the predicted noise."""
    noisy_latents = noise_scheduler.add_noise(batch.latents, batch.noise, batch.timesteps)
    noise_pred = denoiser(noisy_latents, batch.timesteps, batch.input_ids)
    return F.mse_loss(noise_pred, batch.noise, reduction="none").mean((1, 2, 3))


def min_snr_weights(noise_scheduler: DDPMScheduler) -> Tensor:
    """(1000,) loss weight of each timestep."""
    alphas = noise_scheduler.alphas_cumprod
    signal_to_noise = alphas / (1 - alphas)
    return signal_to_noise.clamp(max=MIN_SNR_GAMMA) / signal_to_noise


@torch.no_grad()
def follow(averaged: nn.Module, denoiser: nn.Module, step: int) -> None:
    """Move the average a little towards the denoiser: fast at first."""
    decay = min(EMA_DECAY, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(averaged.parameters()), list(denoiser.parameters()), 1 - decay)


@torch.no_grad()
def compare(averaged: Denoiser, fixed: dict[str, Batch]) -> dict[str, float]:
    """The mean loss of each group at fixed noise, timesteps and captions."""
    noise_scheduler = make_noise_scheduler()
    return {
        group: round(squared_errors(averaged, noise_scheduler, batch).mean().item(), 5)
        for group, batch in fixed.items()
    }


def keep_candidate(averaged: Denoiser, folder: Path, step: int, losses: dict[str, float]) -> None:
    """The average as a candidate for the finished model, and one more row of losses.json."""
    tensors = {name: tensor.half().contiguous() for name, tensor in averaged.state_dict().items()}
    save_file(tensors, folder / candidate_name(step))
    path = folder / "losses.json"
    rows = json.loads(path.read_text()) if path.exists() else []
    rows = [*(row for row in rows if row["step"] < step), {"step": step, **losses}]
    path.write_text(json.dumps(rows, indent=0), encoding="utf-8")
    logger.info("denoiser  %5d  %s", step, losses)


def candidate_name(step: int) -> str:
    """The file name of the average after `step` steps."""
    return f"averaged-{step:05d}.safetensors"


def learn(
    models: Models, optimizers: Optimizers, batch: Batch, step: int, plan: DenoiserPlan
) -> float:
    """One step; returns the unweighted loss."""
    denoiser, averaged = models
    noise_scheduler = make_noise_scheduler()
    errors = squared_errors(denoiser, noise_scheduler, batch)
    weights = min_snr_weights(noise_scheduler).to(errors.device)[batch.timesteps]
    factor = rate_factor(step, plan.num_steps, FLAT_SHARE)
    update(list(denoiser.parameters()), optimizers, (errors * weights).mean(), factor)
    follow(averaged, denoiser, step)
    return errors.mean().item()


def train_denoiser(plan: DenoiserPlan) -> None:
    """From the last checkpoint, or the start, to plan.num_steps; each step has its own seed."""
    rank, num_workers = worker()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = load_tokenizer(plan.work / "tokenizer")
    groups = load_latents(plan.work)
    fixed = {name: fixed_batch(group, tokenizer).to(device) for name, group in groups.items()}
    chances = drawing_chances(groups["train"][1])
    denoiser = make_denoiser(plan, tokenizer).to(device)
    averaged = copy.deepcopy(denoiser).eval().requires_grad_(False)
    optimizers = make_optimizers(*split_parameters(denoiser))
    plan.folder.mkdir(exist_ok=True)
    models = nn.ModuleList([denoiser, averaged])
    first_step = load_checkpoint(plan.folder / "last.pt", models, optimizers)
    if rank == 0 and first_step == 0:
        keep_candidate(averaged, plan.folder, 0, compare(averaged, fixed))
    started, losses = time.monotonic(), deque[float](maxlen=LOG_EVERY)
    for step in range(first_step, plan.num_steps):
        random = np.random.default_rng((plan.seed, step, rank))
        size = plan.batch_size // num_workers
        batch = draw_batch(groups["train"], chances, tokenizer, size, random).to(device)
        losses.append(learn((denoiser, averaged), optimizers, batch, step, plan))
        done = step + 1
        if rank == 0 and done % LOG_EVERY == 0:
            pace = eta(started, done - first_step, plan.num_steps - done)
            mean = sum(losses) / len(losses)
            logger.info("denoiser  %5d/%d  loss %.4f  %s", done, plan.num_steps, mean, pace)
        if rank == 0 and (done % COMPARE_EVERY == 0 or done == plan.num_steps):
            keep_candidate(averaged, plan.folder, done, compare(averaged, fixed))
            save_checkpoint(plan.folder / "last.pt", done, models, optimizers)
