"""LoRAs of known shape and contents, and files that other programs could have written."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from training.formats import FormatError, read_lora
from training.formats.layers import text_encoder_paths
from training.origin import Origin
from training.trained_lora import LoraPair, TrainedLora

ORDER = Path(__file__).parent / "data" / "lora_diffusion_order_sd15.txt"

ORIGIN = Origin(
    base_model="stable-diffusion-v1-5",
    prediction_type="epsilon",
    task="face",
    resolution=512,
    num_pictures=12,
    inversion_steps=700,
    tuning_steps=700,
    learning_rate_ti=1e-3,
    learning_rate_unet=4e-4,
    learning_rate_text=2e-5,
    lr_scheduler="constant",
    seed=3,
    version="1.0.0",
)


@dataclass(frozen=True)
class Layer:
    """One line of the recorded order of SD 1.5's layers."""

    path: str
    rows: int
    columns: int


def recorded_order(part: str) -> list[Layer]:
    lines = [line.split() for line in ORDER.read_text().splitlines() if line.startswith(f"{part}:")]
    return [Layer(path, int(rows), int(columns)) for _, path, rows, columns in lines]


def sd15_lora(rank: int = 4, dtype: torch.dtype = torch.float16, **changes: object) -> TrainedLora:
    """Random matrices in all of SD 1.5's 144 + 48 layers, exactly representable in `dtype`."""
    return lora_for(recorded_order("unet"), recorded_order("text_encoder"), rank, dtype, **changes)


def lora_for(
    unet: Sequence[Layer],
    text_encoder: Sequence[Layer],
    rank: int = 4,
    dtype: torch.dtype = torch.float16,
    **changes: object,
) -> TrainedLora:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return (torch.randn(shape, generator=generator) / 8).to(dtype).float()

    def pairs(layers: Sequence[Layer]) -> dict[str, LoraPair]:
        return {
            layer.path: LoraPair(down=draw(rank, layer.columns), up=draw(layer.rows, rank))
            for layer in layers
        }

    width = text_encoder[0].columns
    values = {
        "embeddings": {
            token: torch.randn(width, generator=generator) for token in ("<s1>", "<s2>")
        },
        "unet": pairs(unet),
        "text_encoder": pairs(text_encoder),
        "rank": rank,
        "origin": ORIGIN,
    }
    return TrainedLora(**(values | changes))  # type: ignore[arg-type]


def assert_same(left: TrainedLora, right: TrainedLora) -> None:
    """To the last bit, and in the same order."""
    assert (left.rank, left.origin) == (right.rank, right.origin)
    assert list(left.embeddings) == list(right.embeddings)
    for token, row in left.embeddings.items():
        assert torch.equal(row, right.embeddings[token])
    for part in ("unet", "text_encoder"):
        ours, theirs = getattr(left, part), getattr(right, part)
        assert list(ours) == list(theirs)
        for path, pair in ours.items():
            assert torch.equal(pair.down, theirs[path].down), path
            assert torch.equal(pair.up, theirs[path].up), path


def contents(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What safetensors' own reader finds in a file."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, file.metadata() or {}


def refusal(path: Path) -> str:
    """Why a file is not read: one sentence that does not say where it lies."""
    with pytest.raises(FormatError) as caught:
        read_lora(path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    assert str(path) not in message
    return message


def write_raw(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> Path:
    """A file written by safetensors itself: nothing of ours has a say in it."""
    safetensors.torch.save_file({n: t.contiguous() for n, t in tensors.items()}, path, metadata)
    return path


def numbered_tensors(
    lora: TrainedLora, order: Sequence[str], dtype: torch.dtype
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A lora_diffusion file as another would write it, the UNet's layers numbered in `order`."""
    tensors: dict[str, Tensor] = {}
    metadata = {"unet": '["CrossAttention"]', "text_encoder": '["CLIPAttention"]'}
    for part, pairs, paths in (
        ("unet", lora.unet, order),
        ("text_encoder", lora.text_encoder, text_encoder_paths(len(lora.text_encoder) // 4)),
    ):
        for index, path in enumerate(paths):
            tensors[f"{part}:{index}:down"] = pairs[path].down.to(dtype)
            tensors[f"{part}:{index}:up"] = pairs[path].up.to(dtype)
            metadata[f"{part}:{index}:rank"] = str(lora.rank)
    for token, row in lora.embeddings.items():
        tensors[token], metadata[token] = row, "<embed>"
    return tensors, metadata
