"""A base model from the disk: a diffusers folder, or a checkpoint in the original layout."""

import logging
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from weights.folder import WeightsError, claimed, complete, read_json, sha256_of
from weights.manifest import MODELS, HubModel
from weights.original_layout import NUM_LATENT_CHANNELS, ONLY, convert_checkpoint

logger = logging.getLogger(__name__)

# Beside each part's weights; what a folder lacks of the optional ones, nobody misses.
NEEDED = (
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "tokenizer/tokenizer_config.json",
    "unet/config.json",
    "vae/config.json",
)
OPTIONAL = (
    "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer.json",
    "tokenizer/vocab.json",
    "training.json",
)
# What a UNet's config may name beside the text, as Stable Diffusion XL's and unCLIP's do.
OTHER_INPUTS = ("addition_embed_type", "class_embed_type", "encoder_hid_dim_type")
WEIGHTS = ("text_encoder/model", "unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model")


def import_model(
    model: HubModel, source: Path, destination: Path, check: Callable[[Path], None]
) -> None:
    """Make `destination` of a folder or a file on this disk; `source` stays as it is.

    Args:
        model: what it is a relative of: a fine-tuned model has the layers of its ancestor.
        check: raises when the folder that it gets cannot be trained.

    Raises:
        WeightsError: when `source` is not such a model, or the disk or another process that makes
            the same stands in the way.
    """
    partial = destination.with_name(f"{destination.name}.importing")
    folder = partial / destination.name
    try:
        with claimed(partial), ExitStack() as afterwards:
            afterwards.callback(shutil.rmtree, partial, ignore_errors=True)
            shutil.rmtree(folder, ignore_errors=True)  # of one that was killed
            folder.mkdir()
            if source.is_dir():
                copy_folder(model, source, folder)
            else:
                convert(model, source, folder)
            complete(folder, model, source.name if source.is_dir() else source.stem)
            check(folder)
            folder.rename(destination)
    except OSError as error:
        raise WeightsError(
            f"{destination.name} could not be made: {error.strerror or type(error).__name__}. Mend"
            " that and run this again."
        ) from error


def convert(model: HubModel, source: Path, folder: Path) -> None:
    """Raises: WeightsError, when `source` is no checkpoint that can be read without unpickling."""
    if not source.is_file():
        raise WeightsError(f"{source} is neither a file nor a folder. Check the path.")
    if source.suffix.lower() != ".safetensors":
        raise WeightsError(
            f"{source.name} is not a .safetensors file. Files of other kinds (.ckpt, .pt, .bin) are"
            " pickled, and can run any program when they are read. Get the same model as"
            " .safetensors."
        )
    name = model.checkpoints.get(sha256_of(source))
    logger.info("%s", f"this is {name}, byte for byte" if name else "a checkpoint not known here")
    configs = Path(__file__).parent / "configs" / model.name
    scheduler = read_json(configs / "scheduler" / "scheduler_config.json")
    if name is None and scheduler.get("prediction_type") == "v_prediction":
        logger.warning(
            "it does not say what its UNet predicts: v is assumed, as in %s; if it descends from a"
            " model of 512 pixels (2-base, 2.1-base), give it as a diffusers folder instead",
            model.name,
        )
    convert_checkpoint(source, configs, folder)


def copy_folder(model: HubModel, source: Path, folder: Path) -> None:
    """The files that training reads, and nothing else; half precision where there is a choice."""
    wanted = {path: path for path in NEEDED}
    wanted |= {path: path for path in OPTIONAL if (source / path).is_file()}
    wanted |= {f"{stem}.safetensors": pick_weights(source, stem) for stem in WEIGHTS}
    missing = [path for path in wanted.values() if not (source / path).is_file()]
    if missing:
        raise WeightsError(
            f"{source.name} is not a whole Stable Diffusion in diffusers format:"
            f" {', '.join(missing)} not found. Pickled weights (.bin) are not read: get the model"
            " as .safetensors."
        )
    width = read_json(source / "text_encoder" / "config.json").get("hidden_size")
    check_width(model, width)
    check_unet(source, width)
    for path, found in wanted.items():
        logger.info("copying %s", found)
        (folder / path).parent.mkdir(exist_ok=True)
        shutil.copyfile(source / found, folder / path)


def pick_weights(source: Path, stem: str) -> str:
    half = f"{stem}.fp16.safetensors"
    return half if (source / half).is_file() else f"{stem}.safetensors"


def check_unet(source: Path, width: object) -> None:
    """Raises: WeightsError, when it is given more than noisy latents and the text encoder's text.

    It would load like any other, and fail when it is trained.
    """
    config = read_json(source / "unet" / "config.json")
    num_channels = config.get("in_channels", NUM_LATENT_CHANNELS)
    if num_channels != NUM_LATENT_CHANNELS:
        raise WeightsError(
            f"{source.name}'s UNet reads {num_channels} channels (for inpainting, perhaps), not"
            f" {NUM_LATENT_CHANNELS}. {ONLY}"
        )
    text_width = config.get("cross_attention_dim", width)
    if text_width != width or any(config.get(name) is not None for name in OTHER_INPUTS):
        raise WeightsError(
            f"{source.name}'s UNet reads more than the text of one encoder (a Stable Diffusion XL,"
            f" perhaps). {ONLY}"
        )


def check_width(model: HubModel, width: object) -> None:
    """Raises: WeightsError, when the text encoder is the one of another known model."""
    for other in MODELS.values():
        if width == other.width != model.width:
            raise WeightsError(
                f"This is a relative of {other.name}, not of {model.name}: its text encoder is"
                f" {width} wide. Run this again with --model {other.name}."
            )
