"""A single-file checkpoint in the layout of the first Stable Diffusion, made into a folder."""

import tempfile
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from diffusers.loaders.single_file_utils import SingleFileComponentError
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError, safe_open
from transformers.utils import logging as transformers_logging

from weights.clip.vocabulary import write_vocabulary
from weights.folder import WeightsError, pipeline_index, read_json, write_json

UNET = "model.diffusion_model."
FIRST_LAYER = f"{UNET}input_blocks.0.0.weight"
FIRST_CROSS_ATTENTION = f"{UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
OTHER_INPUT = f"{UNET}label_emb."  # diffusers would leave it out without a word
TEXT_ENCODER = "cond_stage_model."
SDXL_TEXT_ENCODERS = "conditioner."
NUM_LATENT_CHANNELS = 4
PARTS = ("text_encoder", "unet", "vae")
ONLY = "Only text-to-image models of Stable Diffusion 1.x and 2.x can be trained here."


def convert_checkpoint(checkpoint: Path, configs: Path, folder: Path) -> None:
    """Write the checkpoint's parts into `folder` in diffusers format, in half precision.

    Args:
        configs: a folder per part with its config, as diffusers has them; no hub is asked.

    Raises:
        WeightsError: when the file is no such checkpoint, or not of the configs' shape.
    """
    check_header(checkpoint, read_json(configs / "unet" / "config.json"))
    diffusers_logging.set_verbosity_error()  # it warns of precisions that are as they should be
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    incomplete = (
        f"{checkpoint.name} could not be read as a {configs.name}: layers are missing, or have"
        " other shapes. Choose another --model, or get a whole checkpoint."
    )
    with tempfile.TemporaryDirectory() as temporary:
        complete_configs(configs, Path(temporary))
        try:
            pipeline = StableDiffusionPipeline.from_single_file(
                checkpoint, config=temporary, local_files_only=True, torch_dtype=torch.float16
            )
        except (SingleFileComponentError, RuntimeError, ValueError, KeyError) as error:
            raise WeightsError(incomplete) from error
    if any(p.is_meta for part in PARTS for p in getattr(pipeline, part).parameters()):
        raise WeightsError(incomplete)  # diffusers leaves what is missing without values
    try:
        pipeline.save_pretrained(folder, safe_serialization=True)
    except SafetensorError as error:  # what it makes of a full disk
        raise WeightsError(
            f"The half-precision weights could not be written ({error}). They need about 2.6 GB"
            " under weights/. Mend that and run this again."
        ) from error


def check_header(checkpoint: Path, unet_config: dict[str, object]) -> None:
    """Raises: WeightsError, saying what the file is instead."""
    try:
        with safe_open(checkpoint, "pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise WeightsError(
            f"{checkpoint.name} is no safetensors file, or only a part of one. Fetch it again."
        ) from error
    if any(name.startswith(SDXL_TEXT_ENCODERS) for name in shapes):
        raise WeightsError(f"{checkpoint.name} is a Stable Diffusion XL. {ONLY}")
    lacking = {FIRST_LAYER, FIRST_CROSS_ATTENTION} - shapes.keys()
    if lacking or not any(name.startswith(TEXT_ENCODER) for name in shapes):
        raise WeightsError(
            f"{checkpoint.name} is no whole checkpoint in the original layout: it lacks the UNet or"
            f" the text encoder (a LoRA, perhaps, or a VAE alone). {ONLY}"
        )
    if any(name.startswith(OTHER_INPUT) for name in shapes):
        raise WeightsError(
            f"{checkpoint.name}'s UNet reads more than text (unCLIP, perhaps). {ONLY}"
        )
    if shapes[FIRST_LAYER][1] != NUM_LATENT_CHANNELS:
        raise WeightsError(
            f"{checkpoint.name} reads {shapes[FIRST_LAYER][1]} channels (for inpainting, perhaps),"
            f" not {NUM_LATENT_CHANNELS}. {ONLY}"
        )
    width, expected = shapes[FIRST_CROSS_ATTENTION][1], unet_config["cross_attention_dim"]
    if width != expected:
        raise WeightsError(
            f"{checkpoint.name} has a text encoder that is {width} wide, and the chosen model's is"
            f" {expected}. Stable Diffusion 1.x (768) needs --model stable-diffusion-v1-5, 2.x"
            " (1024) --model stable-diffusion-2-1."
        )


def complete_configs(configs: Path, folder: Path) -> None:
    """The configs with what they share: the index, and CLIP's vocabulary."""
    for config in configs.rglob("*.json"):
        path = folder / config.relative_to(configs)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(config.read_bytes())
    scheduler = read_json(configs / "scheduler" / "scheduler_config.json")["_class_name"]
    write_json(folder / "model_index.json", pipeline_index(str(scheduler)))
    write_vocabulary(folder / "tokenizer")
