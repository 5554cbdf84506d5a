"""diffusers' own format: PEFT's names, as `StableDiffusionPipeline.load_lora_weights` reads them.

It refuses tensors that are no LoRA, so the learned words stand in the metadata only.
"""

import json
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from training.formats.assemble import assemble, pair_from
from training.formats.errors import FormatError
from training.formats.layers import sort_paths
from training.formats.metadata import HASH, common_metadata, read_embeddings, read_origin
from training.trained_lora import TEXT_ENCODER_TARGETS, UNET_TARGETS, TrainedLora

ADAPTER_METADATA = "lora_adapter_metadata"
_MATRIX = re.compile(
    r"(?P<part>unet|text_encoder)\.(?P<path>[\w.]{1,200})\.lora_(?P<letter>[AB])\.weight"
)
_SIDES = {"A": "down", "B": "up"}
# PEFT's other ways to scale a layer; its default for each is none.
_OTHER_SCALES = ("alpha_pattern", "rank_pattern", "use_rslora", "use_dora", "lora_bias")


def is_this(tensors: Mapping[str, Tensor]) -> bool:
    return any(_MATRIX.fullmatch(name) for name in tensors)


def to_tensors(lora: TrainedLora, dtype: torch.dtype) -> tuple[dict[str, Tensor], dict[str, str]]:
    """-> (tensors, metadata): LoRA matrices in `dtype`; alpha = rank, which is the default too."""
    tensors: dict[str, Tensor] = {}
    adapters: dict[str, object] = {}
    for part, targets, pairs in (
        ("unet", UNET_TARGETS, lora.unet),
        ("text_encoder", TEXT_ENCODER_TARGETS, lora.text_encoder),
    ):
        for path in sort_paths(part, pairs):
            tensors[f"{part}.{path}.lora_A.weight"] = pairs[path].down.to(dtype)
            tensors[f"{part}.{path}.lora_B.weight"] = pairs[path].up.to(dtype)
        if pairs:
            adapters[f"{part}.r"] = adapters[f"{part}.lora_alpha"] = lora.rank
            adapters[f"{part}.target_modules"] = list(targets)
    return tensors, common_metadata(lora) | {ADAPTER_METADATA: json.dumps(adapters, sort_keys=True)}


def from_tensors(tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> TrainedLora:
    """The way back; also for files that diffusers saved, with and without `text_model.`.

    Raises: FormatError.
    """
    parts: dict[str, dict[str, dict[str, Tensor]]] = {"unet": {}, "text_encoder": {}}
    for name, tensor in tensors.items():
        match = _MATRIX.fullmatch(name)
        if match is None:
            raise FormatError(f"The file holds a tensor {name[:120]!r}, which is no part of it.")
        path = match["path"]
        if match["part"] == "text_encoder":
            path = f"text_model.{path.removeprefix('text_model.')}"
        layer, side = parts[match["part"]].setdefault(path, {}), _SIDES[match["letter"]]
        if side in layer:
            raise FormatError(f"The file holds the layer {path!r} twice.")
        layer[side] = tensor
    alphas = _alphas(metadata)
    unet, text_encoder = (
        {path: pair_from(f"{part}.{path}", layer, alphas[part]) for path, layer in layers.items()}
        for part, layers in parts.items()
    )
    return assemble(unet, text_encoder, read_embeddings(metadata) or {}, read_origin(metadata))


def hash_metadata(digest: str) -> dict[str, str]:
    return {HASH: digest}


def _alphas(metadata: dict[str, str]) -> dict[str, float | None]:
    """Raises: FormatError, for an alpha that cannot be told by the component alone."""
    try:
        adapters = json.loads(metadata.get(ADAPTER_METADATA, "{}"))
        settings = {part: adapters.get(f"{part}.lora_alpha") for part in ("unet", "text_encoder")}
        others = [adapters.get(f"{part}.{name}") for part in settings for name in _OTHER_SCALES]
    except (ValueError, AttributeError, RecursionError) as error:
        raise FormatError(
            f"The file's metadata is damaged: {ADAPTER_METADATA} is no JSON object."
        ) from error
    numbers = [alpha for alpha in settings.values() if alpha is not None]
    is_sound = all(type(alpha) in (int, float) and 0 < alpha < 1e6 for alpha in numbers)
    if not is_sound or any(others):
        raise FormatError(
            "The file's alphas cannot be used: one positive number for each of unet and"
            f" text_encoder is read, and no {', '.join(_OTHER_SCALES)}."
        )
    return settings
