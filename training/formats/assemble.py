"""Tensors by layer -> a TrainedLora that is known to be sound."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from training.formats.errors import FormatError
from training.formats.file import FLOATS
from training.formats.layers import sort_paths
from training.origin import Origin
from training.trained_lora import LoraPair, TrainedLora

MAX_RANK = 1024  # far above what any trainer writes
# What may stand for a word: no reader's separators, and nothing that is not seen.
_WORD = re.compile(r"[^\s:\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,64}")
_TAKEN = ("unet", "text_encoder", "__metadata__")


def pair_from(layer: str, matrices: Mapping[str, Tensor], alpha: float | None = None) -> LoraPair:
    """The matrices `down` (rank, in) and `up` (out, rank) of one layer, in float32.

    Args:
        alpha: None means rank; any other is multiplied into `up`, so that the scale is 1.

    Raises: FormatError.
    """
    if matrices.keys() != {"down", "up"}:
        missing = " and ".join(sorted({"down", "up"} - matrices.keys()))
        raise FormatError(f"The file is not complete: {layer[:120]!r} has no {missing} matrix.")
    down, up = matrices["down"], matrices["up"]
    for matrix in (down, up):
        if matrix.dtype not in FLOATS:
            raise FormatError(
                f"{layer[:120]!r} holds {str(matrix.dtype).removeprefix('torch.')} numbers; read"
                " are float16, bfloat16 and float32."
            )
        if matrix.ndim != 2:
            raise FormatError(
                f"{layer[:120]!r} has a matrix of shape {list(matrix.shape)}; two dimensions are"
                " read, no convolutions."
            )
    rank = len(down)
    if not 1 <= rank <= MAX_RANK or up.shape[1] != rank or 0 in (*down.shape, *up.shape):
        raise FormatError(
            f"{layer[:120]!r} contradicts itself: its down matrix has shape {list(down.shape)}, its"
            f" up matrix {list(up.shape)}; (rank, in) and (out, rank) are expected, with a rank of"
            f" 1 to {MAX_RANK}."
        )
    up = up.float() if alpha in (None, rank) else up.float() * (alpha / rank)
    if not up.isfinite().all():
        raise FormatError(f"{layer[:120]!r} has an alpha of {alpha:g}, too large for its numbers.")
    return LoraPair(down=down.float(), up=up)


def assemble(
    unet: Mapping[str, LoraPair],
    text_encoder: Mapping[str, LoraPair],
    embeddings: Mapping[str, Tensor],
    origin: Origin,
) -> TrainedLora:
    """Raises: FormatError, where ranks differ, words cannot be used, or nothing is there."""
    _check_words(embeddings)
    ranks = sorted({len(pair.down) for pair in (*unet.values(), *text_encoder.values())})
    if not ranks:
        raise FormatError("The file holds no LoRA layer.")
    if len(ranks) != 1:
        raise FormatError(
            f"The file's layers have the ranks {ranks[:8]}; one rank for all of them is read, as"
            " this trainer writes it."
        )
    return TrainedLora(
        embeddings=dict(embeddings),
        unet={path: unet[path] for path in sort_paths("unet", unet)},
        text_encoder={
            path: text_encoder[path] for path in sort_paths("text_encoder", text_encoder)
        },
        rank=ranks[0],
        origin=origin,
    )


def _check_words(embeddings: Mapping[str, Tensor]) -> None:
    for word in embeddings:
        if not _WORD.fullmatch(word) or word in _TAKEN or word.startswith("vana."):
            raise FormatError(f"The file calls a word {word[:40]!r}, which no prompt can hold.")
    widths = sorted({row.shape[-1] for row in embeddings.values()})
    if len(widths) > 1:
        raise FormatError(f"The file's words have {widths[:8]} numbers; all must have as many.")


def embedding_rows(name: str, tensor: Tensor) -> tuple[Tensor, ...]:
    """(width,) or (rows, width) of any float dtype -> rows of (width,) float32.

    Raises: FormatError.
    """
    if tensor.dtype not in FLOATS or tensor.ndim not in (1, 2) or 0 in tensor.shape:
        raise FormatError(
            f"The word {name[:40]!r} has a {tensor.dtype} tensor of shape {list(tensor.shape)}; one"
            " row of floating-point numbers for each word is expected."
        )
    return tuple(torch.atleast_2d(tensor).float())
