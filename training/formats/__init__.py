"""LoRA files: `read_lora`, `write_lora`; and on a diffusers pipeline: `load`, `unload`."""

from training.formats.errors import FormatError
from training.formats.pipeline import load, unload
from training.formats.table import FORMATS, PRECISIONS, StoredLora, read_lora, write_lora

__all__ = [
    "FORMATS",
    "PRECISIONS",
    "FormatError",
    "StoredLora",
    "load",
    "read_lora",
    "unload",
    "write_lora",
]
