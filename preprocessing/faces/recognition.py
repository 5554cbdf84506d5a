"""Whose face it is: 128 numbers that lie close together for pictures of one person.

dlib's ResNet of 29 convolutions (Davis King 2017, dlib_face_recognition_resnet_model_v1; after He
et al. 2015, arXiv:1512.03385). The numbers are compared with each other and forgotten: they are
never written anywhere. Weights and credits: weights/faces/README.md.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from preprocessing.faces.face import Face

RECOGNITION_WEIGHTS = Path(__file__).parents[2] / "weights" / "faces" / "recognition.safetensors"

_SIDE = 150  # pixels of the image that the network reads
_MEAN_RGB = (122.782, 117.001, 104.298)  # of the pictures that it was trained on
# Where dlib's mean face has the landmarks in that image (get_face_chip_details, with a quarter of
# the face's size added on each side): both eyes, the tip of the nose, both corners of the mouth.
_PLACES = ((47.5, 46.6), (100.5, 46.6), (74.0, 76.6), (50.4, 103.0), (97.6, 103.0))

# How many blocks there are between two halvings of the image.
_STAGES = {"conv32": 3, "conv64": 3, "conv128": 2, "conv256": 2}


class Recognizer(nn.Module):
    def __init__(self, weights: dict[str, Tensor]) -> None:
        """`weights` as weights/convert_faces.py writes them: 8 bits for most convolutions."""
        super().__init__()
        for name, weight in _unpacked(weights).items():
            self.register_buffer(name.replace(".", "_"), weight)

    @torch.inference_mode()
    def forward(self, pixels: Tensor) -> Tensor:
        """RGB (n, 3, 150, 150) from 0 to 255 -> (n, 128)."""
        mean = torch.tensor(_MEAN_RGB, device=pixels.device)[:, None, None]
        features = self._convolve((pixels - mean) / 256, "conv32_down", stride=2, padding=0)
        features = F.max_pool2d(features.relu(), 3, 2)
        for stage, num_blocks in _STAGES.items():
            if stage != "conv32":
                features = self._halve(features, f"{stage}_down")
            for number in range(1, num_blocks + 1):
                features = self._block(features, f"{stage}_{number}")
        features = self._halve(features, "conv256_down_out")
        return F.linear(features.mean(dim=(2, 3)), self.get_buffer("fc_weight"))

    def _convolve(self, features: Tensor, name: str, *, stride: int, padding: int) -> Tensor:
        weight, bias = self.get_buffer(f"{name}_weight"), self.get_buffer(f"{name}_bias")
        return F.conv2d(features, weight, bias, stride=stride, padding=padding)

    def _block(self, features: Tensor, name: str) -> Tensor:
        change = self._convolve(features, f"{name}_conv1", stride=1, padding=1).relu()
        return (features + self._convolve(change, f"{name}_conv2", stride=1, padding=1)).relu()

    def _halve(self, features: Tensor, name: str) -> Tensor:
        """Missing channels and the missing last row and column of either are zeros."""
        change = self._convolve(features, f"{name}_conv1", stride=2, padding=0).relu()
        change = self._convolve(change, f"{name}_conv2", stride=1, padding=1)
        pooled = F.avg_pool2d(features, 2)
        height, width = pooled.shape[2:]
        change = F.pad(change, (0, width - change.shape[3], 0, height - change.shape[2]))
        missing = change.shape[1] - pooled.shape[1]
        return (change + F.pad(pooled, (0, 0, 0, 0, 0, missing))).relu()


def load_recognizer(path: Path, device: torch.device) -> Recognizer:
    return Recognizer(load_file(path)).to(device)


def describe_faces(
    recognizer: Recognizer, image: Image.Image, faces: Sequence[Face]
) -> tuple[np.ndarray, ...]:
    """The 128 numbers of each face, found in this RGB image."""
    if not faces:
        return ()
    aligned = np.stack([np.asarray(_aligned(image, face)) for face in faces])
    pixels = torch.from_numpy(aligned).permute(0, 3, 1, 2)
    device = recognizer.get_buffer("fc_weight").device
    return tuple(recognizer(pixels.to(device).float()).cpu().numpy())


def _unpacked(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """8 bits -> numbers: a scale and an offset for each layer, then a scale for each channel."""
    unpacked = {}
    for name, weight in weights.items():
        layer, kind = name.rsplit(".", 1)
        if kind == "weight" and f"{layer}.range" in weights:
            step, least = weights[f"{layer}.range"]
            weight = (weight * step + least) * weights[f"{layer}.scale"][:, None, None, None]
        if kind in ("weight", "bias"):
            unpacked[name] = weight
    return unpacked


def _aligned(image: Image.Image, face: Face) -> Image.Image:
    """Turned, moved and scaled until the landmarks are where the network expects them."""
    rows = [row for x, y in _PLACES for row in ((x, -y, 1, 0), (y, x, 0, 1))]
    targets = [coordinate for point in face.landmarks for coordinate in point]
    (cosine, sine, right, down), *_ = np.linalg.lstsq(np.array(rows), np.array(targets))
    # Pillow's transform reads single pixels: of a large face, make a large image and shrink it.
    shrink = max(1, int(np.hypot(cosine, sine)))
    matrix = (cosine / shrink, -sine / shrink, right, sine / shrink, cosine / shrink, down)
    side = _SIDE * shrink
    large = image.transform((side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return large.reduce(shrink)
