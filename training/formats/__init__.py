"""LoRA files: `read_lora`, `write_lora`; and on a diffusers pipeline: `load`, `unload`."""

from training.formats.errors import FormatError
from training.formats.pipeline import load, unload
from training.formats.table import (
    FORMATS,
    PRECISIONS,
    StoredLora,
    check_layers,
    read_lora,
    write_lora,
)

__all__ = [
    "FORMATS",
    "PRECISIONS",
    "FormatError",
    "StoredLora",
    "check_layers",
    "load",
    "read_lora",
    "unload",
    "write_lora",
]
