"""The loss against its formula, written out again in numpy from the noise schedule's definition."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from training.base_model import BaseModel
from training.loss import denoising_loss, uniform_weight
from training.placeholders import tokenize


def cumulative_alphas() -> np.ndarray:
    """SD 1.5's schedule: betas evenly spaced in their square roots from 0.00085 to 0.012."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    return np.cumprod(1 - betas)


def expected_loss(
    base: BaseModel,
    latents: Tensor,
    noise: Tensor,
    timesteps: Tensor,
    ids: Tensor,
    weight: Tensor,
    prediction_type: str,
) -> float:
    alphas = cumulative_alphas()[timesteps.numpy()][:, None, None, None]
    x, e = latents.double().numpy(), noise.double().numpy()
    noisy = np.sqrt(alphas) * x + np.sqrt(1 - alphas) * e
    target = e if prediction_type == "epsilon" else np.sqrt(alphas) * e - np.sqrt(1 - alphas) * x
    with torch.no_grad():
        states = base.text_encoder(ids).last_hidden_state
        guess = base.unet(torch.from_numpy(noisy).float(), timesteps, states).sample
    return float(np.mean(weight.numpy() * (guess.double().numpy() - target) ** 2))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_loss_is_the_papers(base: BaseModel, prediction_type: str, masked: bool) -> None:
    scheduler = DDPMScheduler.from_config(
        base.noise_scheduler.config, prediction_type=prediction_type
    )
    model = replace(base, noise_scheduler=scheduler)
    generator = torch.Generator().manual_seed(7)
    latents = torch.randn(3, 4, 16, 16, generator=generator)
    noise = torch.randn(3, 4, 16, 16, generator=generator)
    timesteps = torch.tensor([0, 450, 999])
    weight = torch.rand(3, 1, 16, 16, generator=generator) if masked else uniform_weight(latents)
    ids = tokenize(base.tokenizer, ("a photo of a dog", "an icon", "a red apple"))

    with torch.no_grad():
        loss = denoising_loss(model, latents, noise, timesteps, ids, weight)

    expected = expected_loss(model, latents, noise, timesteps, ids, weight, prediction_type)
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_a_base_model_that_predicts_something_else_is_refused(base: BaseModel) -> None:
    scheduler = DDPMScheduler.from_config(base.noise_scheduler.config, prediction_type="sample")
    one = torch.zeros(1, 4, 16, 16)
    ids = tokenize(base.tokenizer, ("a dog",))
    with pytest.raises(ValueError, match="predicts 'sample'; only 'epsilon' and 'v_prediction'"):
        denoising_loss(
            replace(base, noise_scheduler=scheduler), one, one, torch.tensor([5]), ids, one[:, :1]
        )
