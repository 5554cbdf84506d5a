"""Tensors by layer -> a TrainedLora that is known to be sound."""

from collections.abc import Mapping

import torch
from torch import Tensor

from training.formats.errors import FormatError
from training.formats.layers import sort_paths
from training.origin import Origin
from training.trained_lora import LoraPair, TrainedLora

_FLOATS = (torch.float16, torch.bfloat16, torch.float32)
MAX_RANK = 1024  # far above what any trainer writes


def pair_from(layer: str, matrices: Mapping[str, Tensor], alpha: float | None = None) -> LoraPair:
    """The matrices `down` (rank, in) and `up` (out, rank) of one layer, in float32.

    Args:
        alpha: None means rank; any other is multiplied into `up`, so that the scale is 1.

    Raises: FormatError.
    """
    if matrices.keys() != {"down", "up"}:
        missing = " and ".join(sorted({"down", "up"} - matrices.keys()))
        raise FormatError(f"The file is not complete: {layer[:120]} has no {missing} matrix.")
    down, up = matrices["down"], matrices["up"]
    for matrix in (down, up):
        if matrix.dtype not in _FLOATS:
            raise FormatError(
                f"{layer[:120]} holds {str(matrix.dtype).removeprefix('torch.')} numbers; read are"
                " float16, bfloat16 and float32."
            )
        if matrix.ndim != 2:
            raise FormatError(
                f"{layer[:120]} has a matrix of shape {list(matrix.shape)}; two dimensions are"
                " read, no convolutions."
            )
    rank = len(down)
    if not 1 <= rank <= MAX_RANK or up.shape[1] != rank or 0 in (*down.shape, *up.shape):
        raise FormatError(
            f"{layer[:120]} contradicts itself: its down matrix has shape {list(down.shape)}, its"
            f" up matrix {list(up.shape)}; (rank, in) and (out, rank) are expected, with a rank of"
            f" 1 to {MAX_RANK}."
        )
    up = up.float()
    return LoraPair(down=down.float(), up=up if alpha in (None, rank) else up * (alpha / rank))


def assemble(
    unet: Mapping[str, LoraPair],
    text_encoder: Mapping[str, LoraPair],
    embeddings: Mapping[str, Tensor],
    origin: Origin,
) -> TrainedLora:
    """Raises: FormatError, where ranks differ or nothing is there."""
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


def embedding_rows(name: str, tensor: Tensor) -> tuple[Tensor, ...]:
    """(width,) or (rows, width) of any float dtype -> rows of (width,) float32.

    Raises: FormatError.
    """
    if tensor.dtype not in _FLOATS or tensor.ndim not in (1, 2) or 0 in tensor.shape:
        raise FormatError(
            f"The word {name[:40]!r} has a {tensor.dtype} tensor of shape {list(tensor.shape)}; one"
            " row of floating-point numbers for each word is expected."
        )
    return tuple(torch.atleast_2d(tensor).float())
