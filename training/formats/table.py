"""TrainedLora <-> file: one module per format, one row per format in FORMATS.

A format is a module of four functions: `to_tensors(lora, dtype)` and `from_tensors(tensors,
metadata)` are each other's inverse; `is_this(tensors)` tells its files from others';
`hash_metadata(digest)` says how it names the hash of its tensors.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from training.formats import diffusers_peft, kohya, lora_diffusion
from training.formats.errors import FormatError
from training.formats.file import read_file, write_file
from training.trained_lora import TrainedLora

FORMATS = {"lora_diffusion": lora_diffusion, "kohya": kohya, "diffusers": diffusers_peft}
PRECISIONS = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True, kw_only=True)
class StoredLora:
    """What a file holds: `output_format` and `save_precision` as `write_lora` takes them."""

    lora: TrainedLora
    output_format: str
    save_precision: str


def write_lora(
    lora: TrainedLora,
    path: Path,
    output_format: str = "lora_diffusion",
    save_precision: str = "fp16",
    bundle: bool = True,
) -> None:
    """Write the file whole or not at all; equal LoRAs give equal bytes.

    Args:
        output_format: a key of FORMATS.
        save_precision: a key of PRECISIONS, for the LoRA's matrices; the words' vectors are always
            float32.
        bundle: False leaves kohya's bundled embedding out, for diffusers; the words' vectors are in
            the metadata all the same.

    Raises:
        FormatError: when the LoRA holds NaN or numbers beyond what the file's precision can hold.
        OSError: when the folder cannot be written to.
    """
    module = FORMATS[output_format]
    tensors, metadata = module.to_tensors(lora, PRECISIONS[save_precision])
    if not all(map(_is_finite, (*tensors.values(), *lora.embeddings.values()))):
        raise FormatError(
            f"The LoRA holds numbers too large for {save_precision}. If it was trained just now,"
            " the training went astray: lower the learning rates (to a tenth, say) and try again."
            " If it is being converted, write it in bf16 or fp32."
        )
    if not bundle:
        tensors = {n: tensor for n, tensor in tensors.items() if not kohya.is_bundled(n)}
    write_file(path, tensors, metadata, module.hash_metadata)


def check_layers(lora: TrainedLora, output_format: str) -> None:
    """Raises: FormatError, when `write_lora` would refuse its layers, whatever their numbers."""
    FORMATS[output_format].to_tensors(lora, torch.float16)


def read_lora(path: Path) -> StoredLora:
    """Read a file of any of the formats, by this trainer or another.

    Raises:
        FormatError: when it is something else; the message says what was found.
        OSError: when it cannot be opened.
    """
    tensors, metadata = read_file(path)
    for name, module in FORMATS.items():
        if module.is_this(tensors):
            lora = module.from_tensors(tensors, metadata)
            precision = _precision(tensors, lora)
            return StoredLora(lora=lora, output_format=name, save_precision=precision)
    found = ", ".join(repr(name[:60]) for name in sorted(tensors)[:3]) or "none at all"
    raise FormatError(
        f"This is no LoRA in one of the formats {', '.join(FORMATS)}; its tensors begin with"
        f" {found}. Read are LoRAs for Stable Diffusion 1.x and 2.x."
    )


def _is_finite(tensor: torch.Tensor) -> bool:
    """By its least and largest number, which NaN becomes: ten times faster than one by one."""
    return bool(torch.stack(torch.aminmax(tensor)).isfinite().all())


def _precision(tensors: dict[str, torch.Tensor], lora: TrainedLora) -> str:
    """The one that all matrices have; the finest if they differ, or an alpha changed them."""
    stored = {t.dtype for n, t in tensors.items() if t.ndim == 2 and not kohya.is_bundled(n)}
    names = {dtype: name for name, dtype in PRECISIONS.items()}
    dtype = stored.pop() if len(stored) == 1 else torch.float32
    pairs = (*lora.unet.values(), *lora.text_encoder.values())
    is_exact = all(torch.equal(pair.up.to(dtype).float(), pair.up) for pair in pairs)
    return names[dtype] if is_exact else "fp32"
