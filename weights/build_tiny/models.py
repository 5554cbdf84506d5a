"""The parts of the tiny model, untrained: Stable Diffusion's classes, few and narrow layers."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

SCALING_FACTOR = 0.18215  # Stable Diffusion 1.5's, so that code which fixes it still works
EMBEDDING_DIM = 128
IMAGE_SIZE = 64
LATENT_SIZE = 16


def make_autoencoder() -> AutoencoderKL:
    """0.65 M parameters, 4 pixels a side to one latent, four latent channels."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=2,
        sample_size=IMAGE_SIZE,
        mid_block_add_attention=False,
        scaling_factor=SCALING_FACTOR,
    )


def make_unet() -> UNet2DConditionModel:
    """3.22 M parameters; attends to the text at 16 x 16 and 8 x 8."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 64, 128),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=EMBEDDING_DIM,
        attention_head_dim=[1, 2, 4],  # the number of heads, by diffusers' old name
        norm_num_groups=8,
    )


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """0.80 M parameters, half of them the token embeddings."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=EMBEDDING_DIM,
            intermediate_size=4 * EMBEDDING_DIM,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=77,
            projection_dim=EMBEDDING_DIM,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            hidden_act="quick_gelu",
        )
    )


class Denoiser(nn.Module):
    """The two models that learn together: what reads the caption, and what predicts the noise."""

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder

    def forward(self, noisy_latents: Tensor, timesteps: Tensor, input_ids: Tensor) -> Tensor:
        """(b, 4, h, w), (b,) and (b, 77) -> noise_pred (b, 4, h, w)."""
        encoder_hidden_states = self.text_encoder(input_ids)[0]
        noisy_latents = noisy_latents.to(memory_format=torch.channels_last)
        noise_pred: Tensor = self.unet(noisy_latents, timesteps, encoder_hidden_states).sample
        return noise_pred


def make_noise_scheduler() -> DDPMScheduler:
    """Stable Diffusion 1.5's noise schedule."""
    return DDPMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="epsilon",
        clip_sample=False,
        steps_offset=1,
    )


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """The tokenizer in a folder with vocab.json and merges.txt."""
    return CLIPTokenizer.from_pretrained(folder, model_max_length=77, local_files_only=True)


def read_captions(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """b captions -> input_ids (b, 77)."""
    return tokenizer(
        captions, padding="max_length", truncation=True, max_length=77, return_tensors="pt"
    ).input_ids
