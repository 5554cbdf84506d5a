"""The denoising objective."""

import torch
from torch import Tensor

from training.base_model import BaseModel


def denoising_loss(
    base: BaseModel,
    latents: Tensor,
    noise: Tensor,
    timesteps: Tensor,
    input_ids: Tensor,
    loss_weight: Tensor,
) -> Tensor:
    """How badly the UNet guesses what was mixed into the latents (Ho et al. 2020, eq. 14).

    All randomness is passed in, so the same arguments give the same loss.

    Args:
        latents, noise: (b, c, h, w), float32; latents scaled as the UNet expects them.
        timesteps: (b,) whole numbers in [0, num_train_timesteps).
        input_ids: (b, 77) token ids.
        loss_weight: (b, 1, h, w), mean 1 per picture.

    Returns:
        The mean over the batch, a float32 scalar.
    """
    noisy_latents = base.noise_scheduler.add_noise(latents, noise, timesteps)
    encoder_hidden_states = base.text_encoder(input_ids).last_hidden_state
    noisy_latents = noisy_latents.to(base.compute.dtype)
    prediction = base.unet(noisy_latents, timesteps, encoder_hidden_states).sample
    target = denoising_target(base, latents, noise, timesteps)
    return (loss_weight * (prediction.float() - target) ** 2).mean()


def denoising_target(base: BaseModel, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """The noise itself, or the velocity (Salimans & Ho 2022, appendix D) if the base predicts that.

    Raises:
        ValueError: for a base model that predicts anything else.
    """
    prediction_type = base.noise_scheduler.config.prediction_type
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "v_prediction":
        velocity: Tensor = base.noise_scheduler.get_velocity(latents, noise, timesteps)
        return velocity
    raise ValueError(
        f"The base model predicts {prediction_type!r}; only 'epsilon' and 'v_prediction' can be"
        " trained. Choose a Stable Diffusion 1.x or 2.x."
    )


def uniform_weight(latents: Tensor) -> Tensor:
    """(b, c, h, w) -> (b, 1, h, w) of ones: every pixel counts the same."""
    return torch.ones_like(latents[:, :1])
