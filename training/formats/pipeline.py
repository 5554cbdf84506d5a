"""A file of any format on a diffusers pipeline, words included: `load`, and off again: `unload`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from training.formats.errors import FormatError
from training.formats.table import read_lora
from training.trained_lora import LoraPair, TrainedLora, canonical_text_encoder_path

if TYPE_CHECKING:  # files are read and written without diffusers, which takes seconds to import
    from diffusers import StableDiffusionPipeline

ADAPTER = "vana"

_loaded_words: WeakKeyDictionary[StableDiffusionPipeline, tuple[str, ...]] = WeakKeyDictionary()


def load(pipeline: StableDiffusionPipeline, path: Path | str, scale: float = 1.0) -> str:
    """Apply a file to a diffusers pipeline: the LoRA, and its words for use in prompts.

    A file that was loaded by this function before is taken off first; LoRAs and words that are
    there from elsewhere stay, the LoRAs inactive until `pipeline.set_adapters` names them again.

    Args:
        scale: 0 is the base model, 1 is as trained. The words are the same at every scale.

    Returns:
        What to write in a prompt where the subject's name would stand; "" for a file of no words.

    Raises:
        FormatError: when the file is none, or was made for a base model of another shape; the
            pipeline is then as it was.
        OSError: when the file cannot be opened.
    """
    lora = read_lora(Path(path)).lora
    _check_shapes(pipeline, lora)
    ours = _loaded_words.get(pipeline, ())
    known = pipeline.tokenizer.get_vocab()
    for token in lora.embeddings:
        if token in known and token not in ours:
            raise FormatError(
                f"The pipeline already knows a word {token!r}, which is not from here. Take it off"
                " with pipeline.unload_textual_inversion() first."
            )
    unload(pipeline)
    try:
        pipeline.load_lora_weights(_peft_names(lora, scale), adapter_name=ADAPTER)
        _loaded_words[pipeline] = tuple(lora.embeddings)
        for token, row in lora.embeddings.items():
            pipeline.load_textual_inversion({token: row})
    except BaseException:
        unload(pipeline)
        raise
    _freeze_words(pipeline)
    return "".join(lora.embeddings)


def unload(pipeline: StableDiffusionPipeline) -> None:
    """Take off what `load` put on, and nothing else."""
    adapters = {name for names in pipeline.get_list_adapters().values() for name in names}
    if ADAPTER in adapters:
        if adapters == {ADAPTER}:
            pipeline.unload_lora_weights()  # also takes the empty LoRA layers out of the modules
        else:
            pipeline.delete_adapters(ADAPTER)
    vocabulary = pipeline.tokenizer.get_vocab()
    words = [word for word in _loaded_words.pop(pipeline, ()) if word in vocabulary]
    if words:
        pipeline.unload_textual_inversion(words)
        _freeze_words(pipeline)


def _freeze_words(pipeline: StableDiffusionPipeline) -> None:
    """diffusers makes a new table of embeddings, which would learn."""
    pipeline.text_encoder.get_input_embeddings().requires_grad_(False)


def _peft_names(lora: TrainedLora, scale: float) -> dict[str, Tensor]:
    """All formats go the one way that diffusers reads without a doubt; the scale goes into B."""
    return {
        f"{part}.{path}.lora_{letter}.weight": matrix
        for part, pairs in (("unet", lora.unet), ("text_encoder", lora.text_encoder))
        for path, pair in pairs.items()
        for letter, matrix in (("A", pair.down), ("B", pair.up * scale))
    }


def _check_shapes(pipeline: StableDiffusionPipeline, lora: TrainedLora) -> None:
    for part, module, pairs in (
        ("UNet", pipeline.unet, lora.unet),
        ("text encoder", pipeline.text_encoder, lora.text_encoder),
    ):
        shapes = _linear_shapes(module)
        for path, pair in pairs.items():
            if shapes.get(path) != _shape(pair):
                raise FormatError(
                    f"The file was made for another base model: its {part} layer {path} has the"
                    f" shape {_shape(pair)}, the pipeline's {shapes.get(path, 'is not there')}."
                )
    width = pipeline.text_encoder.get_input_embeddings().weight.shape[1]
    for token, row in lora.embeddings.items():
        if len(row) != width:
            raise FormatError(
                f"The file was made for another base model: its word {token!r} has {len(row)}"
                f" numbers, the pipeline's words have {width}."
            )


def _shape(pair: LoraPair) -> tuple[int, int]:
    return pair.up.shape[0], pair.down.shape[1]


def _linear_shapes(module: nn.Module) -> dict[str, tuple[int, int]]:
    """Path, as the files write it -> (out, in), with or without LoRA layers on."""
    layers = {
        name.removesuffix(".base_layer"): (layer.out_features, layer.in_features)
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear) and ".lora_" not in name
    }
    return layers | {canonical_text_encoder_path(path): shape for path, shape in layers.items()}
