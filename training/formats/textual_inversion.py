"""The learned words as a file of their own, which all four programs read as an embedding."""

from pathlib import Path

import torch

from training.formats.errors import FormatError
from training.formats.file import write_file
from training.trained_lora import TrainedLora

EMBEDDINGS = "emb_params"  # the one tensor name that A1111, ComfyUI, InvokeAI and diffusers share


def write_embeddings(lora: TrainedLora, path: Path) -> None:
    """Write one tensor (words, width) float32: one embedding of as many vectors as words.

    Programs call it by the file's name.

    Raises:
        FormatError: when the LoRA has no words.
        OSError: when the folder cannot be written to.
    """
    if not lora.embeddings:
        raise FormatError("This file holds no learned words, only a LoRA.")
    rows = torch.stack([row.float() for row in lora.embeddings.values()])
    write_file(path, {EMBEDDINGS: rows}, {})
