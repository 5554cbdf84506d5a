"""TrainedLora <-> file: one module per format, one row per format in FORMATS."""

from pathlib import Path

from diffusers import StableDiffusionPipeline
from safetensors import SafetensorError, safe_open

from training.formats import lora_diffusion
from training.formats.file import write_file
from training.formats.lora_diffusion import FormatError
from training.lora import (
    TEXT_ENCODER_TARGETS,
    UNET_TARGETS,
    TrainedLora,
    canonical_text_encoder_path,
)

__all__ = ["FORMATS", "FormatError", "load", "read_lora", "unload", "write_lora"]

FORMATS = {"lora_diffusion": lora_diffusion}

ADAPTER = "trained"


def write_lora(lora: TrainedLora, path: Path, output_format: str = "lora_diffusion") -> None:
    """Write the file whole or not at all; equal LoRAs give equal bytes.

    Raises:
        FormatError: when the LoRA holds NaN or numbers beyond what the file's precision can hold.
        OSError: when the folder cannot be written to.
    """
    tensors, metadata = FORMATS[output_format].to_tensors(lora)
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise FormatError(
            "The trained LoRA holds numbers too large for its file: the training went astray. Lower"
            " the learning rates (to a tenth, say) and try again."
        )
    write_file(path, tensors, metadata)


def read_lora(path: Path, pipeline: StableDiffusionPipeline) -> TrainedLora:
    """Read a file that was made for a base model of this pipeline's shape.

    Raises:
        FormatError: when the file is something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise FormatError(f"This is no safetensors file, or not a whole one: {error}.") from error
    if "unet" not in metadata:
        raise FormatError("This is no lora_diffusion file: its metadata has no entry 'unet'.")
    unet_paths = layer_paths(pipeline.unet, UNET_TARGETS)
    text_paths = layer_paths(pipeline.text_encoder, TEXT_ENCODER_TARGETS)
    return lora_diffusion.from_tensors(
        tensors, metadata, unet_paths, map(canonical_text_encoder_path, text_paths)
    )


def load(pipeline: StableDiffusionPipeline, path: Path, scale: float = 1.0) -> None:
    """Apply a file to a diffusers pipeline: the LoRA, and its words for use in prompts.

    A file that was applied before is taken off first.

    Args:
        scale: 0 is the base model, 1 is as trained.
    """
    unload(pipeline)  # one file at a time
    lora = read_lora(path, pipeline)
    state_dict = {
        f"{part}.{name}.lora_{letter}.weight": matrix
        for part, pairs in (("unet", lora.unet), ("text_encoder", lora.text_encoder))
        for name, pair in pairs.items()
        for letter, matrix in (("A", pair.down), ("B", pair.up))
    }
    pipeline.load_lora_weights(state_dict, adapter_name=ADAPTER)
    pipeline.set_adapters([ADAPTER], [scale])
    for token, row in lora.embeddings.items():
        pipeline.load_textual_inversion({token: row})


def unload(pipeline: StableDiffusionPipeline) -> None:
    """Take the LoRA and its words off again."""
    pipeline.unload_lora_weights()
    pipeline.unload_textual_inversion()
    pipeline.text_encoder.get_input_embeddings().requires_grad_(False)  # diffusers made a new one


def layer_paths(module: object, targets: tuple[str, ...]) -> list[str]:
    """Paths of the layers that get a LoRA, whether or not one is on them already."""
    ends = tuple(f".{target}" for target in targets)
    return [name for name, _ in module.named_modules() if name.endswith(ends)]  # type: ignore[attr-defined]
