"""kohya's format: what AUTOMATIC1111, Forge, ComfyUI, InvokeAI and diffusers read.

Each layer has `lora_down.weight`, `lora_up.weight` and a scalar `alpha`, here always the rank: with
others that differ between layers diffusers 0.42 gives wrong pictures without a word. The learned
words travel as a bundled embedding, which AUTOMATIC1111 (1.6 and later) registers; others pass over
it, and diffusers refuses a file that holds one.
"""

import json
import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from training.formats.assemble import assemble, embedding_rows, pair_from
from training.formats.errors import FormatError
from training.formats.layers import TEXT_ENCODER_LAYERS, UNET_LAYERS, sort_paths, text_width
from training.formats.metadata import common_metadata, read_embeddings, read_origin
from training.trained_lora import LoraPair, TrainedLora

BUNDLE = "bundle_emb"
_SIDES = {"lora_down.weight": "down", "lora_up.weight": "up"}
_ALPHA = "alpha"
_NAME = re.compile(r"[\w-]+")  # of a bundle
_TEXT_ENCODERS = ("lora_te_", "lora_te1_")  # the second: files of SDXL trainers for SD 1.x

_UNET_NAME = re.compile(
    r"lora_unet_(?P<section>down_blocks|up_blocks|mid_block)(?:_(?P<block>\d{1,4}))?"
    r"_attentions_(?P<attention>\d{1,4})_transformer_blocks_(?P<transformer>\d{1,4})"
    rf"_(?P<layer>{'|'.join(layer.replace('.', '_') for layer in UNET_LAYERS)})"
)
_UNET_LAYERS = {layer.replace(".", "_"): layer for layer in UNET_LAYERS}
_TEXT_ENCODER_NAME = re.compile(
    r"lora_te1?_(?:text_model_)?encoder_layers_(?P<index>\d{1,4})"
    rf"_self_attn_(?P<layer>{'|'.join(TEXT_ENCODER_LAYERS)})"
)


def is_this(tensors: Mapping[str, Tensor]) -> bool:
    return any(name.startswith(("lora_unet_", *_TEXT_ENCODERS)) for name in tensors)


def to_tensors(lora: TrainedLora, dtype: torch.dtype) -> tuple[dict[str, Tensor], dict[str, str]]:
    """-> (tensors, metadata): LoRA matrices and alphas in `dtype`, embeddings in float32."""
    tensors: dict[str, Tensor] = {}
    for part, prefix, pairs in (
        ("unet", "lora_unet_", lora.unet),
        ("text_encoder", "lora_te_", lora.text_encoder),
    ):
        for path in sort_paths(part, pairs):
            name = prefix + path.replace(".", "_")
            tensors[f"{name}.lora_down.weight"] = pairs[path].down.to(dtype)
            tensors[f"{name}.lora_up.weight"] = pairs[path].up.to(dtype)
            tensors[f"{name}.{_ALPHA}"] = torch.tensor(float(lora.rank), dtype=dtype)
    if lora.embeddings:
        rows = torch.stack([row.float() for row in lora.embeddings.values()])
        tensors[f"{BUNDLE}.{bundle_name(lora)}.string_to_param.*"] = rows
    return tensors, common_metadata(lora) | training_metadata(lora) | model_spec(lora)


def from_tensors(tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> TrainedLora:
    """The way back; also for other programs' files of the same layers, whatever their alphas.

    Raises: FormatError.
    """
    layers: dict[str, dict[str, Tensor]] = {}
    bundled: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        layer, _, side = name.partition(".")
        if layer == BUNDLE:
            bundled |= _unbundle(side, tensor)
        elif side in _SIDES or side == _ALPHA:
            layers.setdefault(layer, {})[_SIDES.get(side, side)] = tensor
        else:
            raise FormatError(
                f"The file holds a tensor {name[:120]!r}; of kohya's formats plain LoRA is read"
                " (lora_down, lora_up, alpha), no LoHa, LoKr, DoRA or convolutions."
            )
    unet: dict[str, LoraPair] = {}
    text_encoder: dict[str, LoraPair] = {}
    for layer, matrices in layers.items():
        alpha = _alpha(layer, matrices.pop(_ALPHA, None))
        pairs, path = text_encoder if layer.startswith(_TEXT_ENCODERS) else unet, _path(layer)
        if path in pairs:
            raise FormatError(f"The file holds the layer {path!r} twice.")
        pairs[path] = pair_from(layer, matrices, alpha)
    embeddings = read_embeddings(metadata)
    return assemble(
        unet,
        text_encoder,
        bundled if embeddings is None else embeddings,
        read_origin(metadata),
    )


def hash_metadata(digest: str) -> dict[str, str]:
    return {"sshs_model_hash": digest, "modelspec.hash_sha256": f"0x{digest}"}


def is_bundled(name: str) -> bool:
    """The tensor of this name belongs to a bundled embedding."""
    return name.startswith(f"{BUNDLE}.")


def bundle_name(lora: TrainedLora) -> str:
    """What people write in a prompt: `s1s2` for the words `<s1>` and `<s2>`.

    Letters and digits only, and all rows under one name: AUTOMATIC1111 looks for a name's CLIP
    tokens among the prompt's, and CLIP joins a `>` with what follows it, so `<s1>` is not found in
    `<s1><s2>`, nor in `<s1>, smiling`; `s1s2` is found in all of these places.

    Words that were read from a bundle get its name again: people know it.
    """
    words = list(lora.embeddings)
    name = words[0].removeprefix("<").removesuffix("-1>") if words else ""
    if _NAME.fullmatch(name) and _row_names(name, len(words)) == words:
        return name
    return re.sub(r"[^A-Za-z0-9]", "", "".join(lora.embeddings)) or "words"


def training_metadata(lora: TrainedLora) -> dict[str, str]:
    """kohya's own entries, which AUTOMATIC1111 and others show; only what is known."""
    origin, word = lora.origin, bundle_name(lora)
    size = origin.resolution
    known = {
        "ss_base_model_version": _family(lora),
        "ss_v2": text_width(lora) == 1024,
        "ss_network_module": "networks.lora",
        "ss_network_dim": lora.rank,
        "ss_network_alpha": float(lora.rank),
        "ss_network_args": json.dumps({}),
        "ss_sd_model_name": origin.base_model,
        "ss_unet_lr": origin.learning_rate_unet,
        "ss_text_encoder_lr": origin.learning_rate_text,
        "ss_lr_scheduler": origin.lr_scheduler,
        "ss_num_train_images": origin.num_pictures,
        "ss_steps": origin.tuning_steps,
        "ss_seed": origin.seed,
        "ss_resolution": f"({size}, {size})" if size else None,
        "ss_tag_frequency": json.dumps({"vana": {word: origin.num_pictures or 1}})
        if lora.embeddings
        else None,
    }
    return {name: str(value) for name, value in known.items() if value is not None}


def _family(lora: TrainedLora) -> str | None:
    """As kohya's trainer names it: `sd_v2_v` is what predicts the velocity."""
    name = {768: "sd_v1", 1024: "sd_v2"}.get(text_width(lora))
    return f"{name}_v" if name and lora.origin.prediction_type == "v_prediction" else name


def model_spec(lora: TrainedLora) -> dict[str, str]:
    """https://github.com/Stability-AI/ModelSpec, version 1.0.1; only what is known."""
    origin, width, word = lora.origin, text_width(lora), bundle_name(lora)
    second = "768-v" if origin.prediction_type == "v_prediction" else "512"
    families = {768: "stable-diffusion-v1/lora", 1024: f"stable-diffusion-v2-{second}/lora"}
    kind = f"{origin.task.capitalize()} " if origin.task else ""
    known = {
        "sai_model_spec": "1.0.1",
        "architecture": families.get(width),
        "implementation": "diffusers",
        "title": f"{kind}LoRA by vana-lora-training",
        "date": origin.date,
        "resolution": f"{origin.resolution}x{origin.resolution}" if origin.resolution else None,
        "prediction_type": {"epsilon": "epsilon", "v_prediction": "v"}.get(
            origin.prediction_type or ""
        ),
        "trigger_phrase": word if lora.embeddings else None,
        "usage_hint": f"Write {word} where the subject's name would stand."
        if lora.embeddings
        else None,
    }
    return {f"modelspec.{name}": value for name, value in known.items() if value is not None}


def _path(layer: str) -> str:
    if match := _UNET_NAME.fullmatch(layer):
        block = f".{match['block']}" if match["block"] else ""
        return (
            f"{match['section']}{block}.attentions.{match['attention']}"
            f".transformer_blocks.{match['transformer']}.{_UNET_LAYERS[match['layer']]}"
        )
    if match := _TEXT_ENCODER_NAME.fullmatch(layer):
        return f"text_model.encoder.layers.{match['index']}.self_attn.{match['layer']}"
    raise FormatError(
        f"The file trains a layer {layer[:120]!r}. Read are LoRAs of the attention layers and of"
        " ff.net.0.proj in Stable Diffusion 1.x and 2.x, which all files of this trainer hold."
    )


def _alpha(layer: str, tensor: Tensor | None) -> float | None:
    if tensor is None:
        return None
    is_number = tensor.numel() == 1 and not tensor.is_complex()
    value = float(tensor) if is_number else math.nan
    if not 0 < value < math.inf:
        raise FormatError(f"{layer[:120]!r} has an alpha that is no positive number.")
    return value


def _unbundle(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """`NAME.string_to_param.*` of (rows, width) -> `<NAME-1>`, `<NAME-2>`, ...; of one row, NAME.

    Words that contain each other, as NAME and NAME_1 do, would be mixed up in a prompt.
    """
    word = name.partition(".")[0]
    rows = embedding_rows(word, tensor)
    return dict(zip(_row_names(word, len(rows)), rows, strict=True))


def _row_names(name: str, num_rows: int) -> list[str]:
    if num_rows == 1:
        return [name]
    return [f"<{name}-{number}>" for number in range(1, num_rows + 1)]
