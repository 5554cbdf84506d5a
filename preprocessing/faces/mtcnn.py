"""MTCNN: three networks, each looking closer at what the one before took for a face.

Zhang et al. 2016, Joint Face Detection and Alignment using Multitask Cascaded Convolutional
Networks (arXiv:1604.02878). Weights and credits: weights/faces/README.md.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

_CELL, _STRIDE = 12, 2  # the proposal network judges squares of 12 pixels, one every 2
_PYRAMID_STEP = 0.709  # about 1 / sqrt(2): each level halves the pixels
_PROPOSAL_SCORE, _REFINEMENT_SCORE = 0.6, 0.7
_OVERLAP_IN_LEVEL, _OVERLAP = 0.5, 0.7


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """What may be faces, the likeliest first, in pixels of the image.

    Attributes:
        boxes: (n, 4), left, top, right, bottom; may reach beyond the image.
        scores: (n,), from 0 to 1.
        landmarks: (n, 5, 2).
    """

    boxes: np.ndarray
    scores: np.ndarray
    landmarks: np.ndarray


class _Proposal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.slope1 = nn.Conv2d(3, 10, 3), nn.PReLU(10)
        self.conv2, self.slope2 = nn.Conv2d(10, 16, 3), nn.PReLU(16)
        self.conv3, self.slope3 = nn.Conv2d(16, 32, 3), nn.PReLU(32)
        self.box, self.face = nn.Conv2d(32, 4, 1), nn.Conv2d(32, 2, 1)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(1, 3, H, W) -> scores (1, h, w) and corrections of the boxes (1, 4, h, w)."""
        features = self.slope1(self.conv1(pixels))
        features = F.max_pool2d(features, 2, 2, ceil_mode=True)
        features = self.slope3(self.conv3(self.slope2(self.conv2(features))))
        return self.face(features).softmax(dim=1)[:, 1], self.box(features)


class _Refinement(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.slope1 = nn.Conv2d(3, 28, 3), nn.PReLU(28)
        self.conv2, self.slope2 = nn.Conv2d(28, 48, 3), nn.PReLU(48)
        self.conv3, self.slope3 = nn.Conv2d(48, 64, 2), nn.PReLU(64)
        self.dense, self.slope4 = nn.Linear(576, 128), nn.PReLU(128)
        self.box, self.face = nn.Linear(128, 4), nn.Linear(128, 2)

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """(n, 3, 24, 24) -> scores (n,) and corrections of the boxes (n, 4)."""
        features = self.slope1(self.conv1(patches))
        features = F.max_pool2d(features, 3, 2, ceil_mode=True)
        features = F.max_pool2d(self.slope2(self.conv2(features)), 3, 2, ceil_mode=True)
        features = self.slope3(self.conv3(features)).flatten(1)
        features = self.slope4(self.dense(features))
        return self.face(features).softmax(dim=1)[:, 1], self.box(features)


class _Output(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.slope1 = nn.Conv2d(3, 32, 3), nn.PReLU(32)
        self.conv2, self.slope2 = nn.Conv2d(32, 64, 3), nn.PReLU(64)
        self.conv3, self.slope3 = nn.Conv2d(64, 64, 3), nn.PReLU(64)
        self.conv4, self.slope4 = nn.Conv2d(64, 128, 2), nn.PReLU(128)
        self.dense, self.slope5 = nn.Linear(1152, 256), nn.PReLU(256)
        self.box, self.landmarks, self.face = (nn.Linear(256, count) for count in (4, 10, 2))

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(n, 3, 48, 48) -> scores (n,), corrections (n, 4), and landmarks (n, 5, 2) in [0, 1]."""
        features = self.slope1(self.conv1(patches))
        features = F.max_pool2d(features, 3, 2, ceil_mode=True)
        features = F.max_pool2d(self.slope2(self.conv2(features)), 3, 2, ceil_mode=True)
        features = F.max_pool2d(self.slope3(self.conv3(features)), 2, 2, ceil_mode=True)
        features = self.slope4(self.conv4(features)).flatten(1)
        features = self.slope5(self.dense(features))
        landmarks = self.landmarks(features).unflatten(1, (2, 5)).transpose(1, 2)
        return self.face(features).softmax(dim=1)[:, 1], self.box(features), landmarks


class Mtcnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proposal, self.refinement, self.output = _Proposal(), _Refinement(), _Output()

    @torch.inference_mode()
    def forward(self, pixels: Tensor, smallest_face: float, least_score: float) -> Candidates:
        """RGB (3, H, W) in [-1, 1] -> what may be faces of at least so many pixels' width."""
        boxes = _square(self._propose(pixels, smallest_face))
        scores, corrections = _on_cpu(self.refinement(_patches(pixels, boxes, 24)))
        kept = _likely(scores, _REFINEMENT_SCORE)
        boxes = _corrected(boxes[kept], corrections[kept])
        kept = _distinct(boxes, scores[kept], _OVERLAP)
        boxes = _square(boxes[kept])
        scores, corrections, landmarks = _on_cpu(self.output(_patches(pixels, boxes, 48)))
        kept = _likely(scores, least_score)
        boxes, scores, landmarks = boxes[kept], scores[kept], landmarks[kept]
        corner, sides = boxes[:, None, :2], boxes[:, None, 2:] - boxes[:, None, :2]
        boxes = _corrected(boxes, corrections[kept])
        landmarks = corner + landmarks * sides
        kept = _distinct(boxes, scores, _OVERLAP, nested=True)
        return Candidates(boxes=boxes[kept], scores=scores[kept], landmarks=landmarks[kept])

    def _propose(self, pixels: Tensor, smallest_face: float) -> np.ndarray:
        """-> (n, 4)."""
        height, width = pixels.shape[1:]
        scale = _CELL / smallest_face
        found = [np.empty((0, 9))]  # box, correction, score
        while min(height, width) * scale >= _CELL:
            size = (round(height * scale), round(width * scale))
            level = F.interpolate(pixels[None], size=size, mode="area")
            scores, corrections = (values[0] for values in _on_cpu(self.proposal(level)))
            rows, columns = np.nonzero(scores >= _PROPOSAL_SCORE)
            corner = np.stack((columns, rows), axis=1) * _STRIDE
            cells = np.concatenate((corner, corner + _CELL), axis=1)
            boxes = cells * np.tile((width / size[1], height / size[0]), 2)
            corrections = corrections[:, rows, columns].T
            level_found = np.hstack((boxes, corrections, scores[rows, columns, None]))
            found.append(level_found[_distinct(boxes, level_found[:, 8], _OVERLAP_IN_LEVEL)])
            scale *= _PYRAMID_STEP
        boxes, corrections, scores = np.split(np.concatenate(found), (4, 8), axis=1)
        kept = _distinct(boxes, scores[:, 0], _OVERLAP)
        return _corrected(boxes[kept], corrections[kept])


def _on_cpu(outputs: tuple[Tensor, ...]) -> tuple[np.ndarray, ...]:
    return tuple(output.double().cpu().numpy() for output in outputs)


def _likely(scores: np.ndarray, least: float) -> np.ndarray:
    return np.nonzero(scores >= least)[0]


def _corrected(boxes: np.ndarray, corrections: np.ndarray) -> np.ndarray:
    """Corrections are fractions of the box's width and height."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return boxes + corrections * np.tile(sides, 2)


def _square(boxes: np.ndarray) -> np.ndarray:
    """The squares about the same centres, as large as the longer side."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    halves = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True, initial=0) / 2
    return np.concatenate((centres - halves, centres + halves), axis=1)


def _distinct(
    boxes: np.ndarray, scores: np.ndarray, overlap: float, *, nested: bool = False
) -> np.ndarray:
    """Which boxes stay, the likeliest first, when each drops those that overlap it by more.

    Overlap is the share of the union; or of the smaller box, so that `nested` ones go too.
    """
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    order = np.argsort(-scores, kind="stable")
    kept = []
    while len(order):
        first, rest = order[0], order[1:]
        kept.append(first)
        least = np.maximum(boxes[first, :2], boxes[rest, :2])
        most = np.minimum(boxes[first, 2:], boxes[rest, 2:])
        shared = (most - least).clip(0).prod(axis=1)
        smaller = np.minimum(areas[first], areas[rest])
        whole = smaller if nested else areas[first] + areas[rest] - shared
        order = rest[shared <= overlap * whole]
    return np.array(kept, dtype=int)


def _patches(pixels: Tensor, boxes: np.ndarray, side: int) -> Tensor:
    """Squares of (3, H, W) -> (n, 3, side, side).

    Grey beyond the image's edge: of 60 portraits cut in half, with black 3 % of the faces are
    found, with grey 18 %.
    """
    height, width = pixels.shape[1:]
    corners = boxes.round().astype(int)
    corners[:, 2:] = np.maximum(corners[:, 2:], corners[:, :2] + 1)
    margin = int(np.max((-corners[:, :2], corners[:, 2:] - (width, height)), initial=0))
    padded = F.pad(pixels, (margin,) * 4)
    patches = [
        F.adaptive_avg_pool2d(padded[:, top:bottom, left:right], side)
        for left, top, right, bottom in corners + margin
    ]
    return torch.stack(patches) if patches else pixels.new_empty((0, 3, side, side))
