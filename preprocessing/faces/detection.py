"""Where the faces of a photo are."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from preprocessing.faces.face import Face, scaled
from preprocessing.faces.mtcnn import Mtcnn

MTCNN_WEIGHTS = Path(__file__).parents[2] / "weights" / "faces" / "mtcnn.safetensors"

_LONGEST_SIDE = 640  # larger finds no more faces in portraits, and takes four times as long
_SMALLEST_SHARE = 1 / 12  # of the shorter side: smaller faces are passers-by
_SMALLEST_FACE = 12.0  # pixels at `_LONGEST_SIDE`: what the networks were trained on
_SURE, _LIKELY = 0.95, 0.8  # scores: at 0.95, no false face in 90 pictures of things
# For turning a whole photo. 86 % of 90 faces reach it; a dog upside down had 0.987.
_CERTAIN = 0.99

# How far the mouth lies below the eyes, in heights of the face: of 116 upright faces never under
# 0.31; of the few found in photos that lay on their side, mostly under this. It allows for a head
# that is tilted by 60 degrees.
_LEAST_UPRIGHTNESS = 0.18
_TURNS = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270, Image.Transpose.ROTATE_180)


@dataclass(frozen=True, kw_only=True)
class FacesFound:
    """Faces, the likeliest first, in pixels of the image after `turn`; None: as it is."""

    faces: tuple[Face, ...]
    turn: Image.Transpose | None


def load_detector(path: Path, device: torch.device) -> Mtcnn:
    detector = Mtcnn()
    detector.load_state_dict(load_file(path))
    return detector.to(device).eval()


def find_faces(detector: Mtcnn, image: Image.Image) -> FacesFound:
    """The faces in an RGB image, which may lie on its side or stand on its head.

    A scan has no note of which side is up, and a face is found only upright. So if it is found only
    after a turn, the photo is to be turned, rather than the box turned back: a model that is shown
    lying faces learns to draw lying faces.
    """
    small = _shrunk(image)
    faces = detect_faces(detector, small)
    turn = None
    if not any(_is_upright(face) for face in faces):
        for candidate in _TURNS:
            turned = detect_faces(detector, small.transpose(candidate))
            upright = tuple(f for f in turned if f.score >= _CERTAIN and _is_upright(f))
            if upright and (turn is None or upright[0].score > faces[0].score):
                faces, turn = upright, candidate
    size = image.size if turn in (None, Image.Transpose.ROTATE_180) else image.size[::-1]
    size_of_small = small.size if size == image.size else small.size[::-1]
    horizontal, vertical = size[0] / size_of_small[0], size[1] / size_of_small[1]
    return FacesFound(faces=tuple(scaled(f, horizontal, vertical) for f in faces), turn=turn)


def detect_faces(detector: Mtcnn, image: Image.Image) -> tuple[Face, ...]:
    """The faces in an upright RGB image of any size, the likeliest first.

    If it is sure of none, the likely ones.
    """
    small = _shrunk(image)
    pixels = torch.from_numpy(np.array(small)).permute(2, 0, 1)
    pixels = (pixels.to(next(detector.parameters()).device).float() - 127.5) / 128
    smallest = max(_SMALLEST_FACE, min(small.size) * _SMALLEST_SHARE)
    found = detector(pixels, smallest, _LIKELY)
    faces = []
    for box, score, landmarks in zip(found.boxes, found.scores, found.landmarks, strict=True):
        left, top, right, bottom = box.clip(0, np.tile(small.size, 2)).tolist()
        if right - left >= 1 and bottom - top >= 1:
            face = Face(
                box=(left, top, right, bottom),
                score=float(score),
                landmarks=tuple((x, y) for x, y in landmarks.tolist()),
            )
            faces.append(scaled(face, image.width / small.width, image.height / small.height))
    return tuple(face for face in faces if face.score >= _SURE) or tuple(faces)


def _shrunk(image: Image.Image) -> Image.Image:
    scale = _LONGEST_SIDE / max(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)


def _is_upright(face: Face) -> bool:
    (_, eye), (_, other_eye), _, (_, mouth), (_, other_mouth) = face.landmarks
    return (mouth + other_mouth - eye - other_eye) / 2 >= _LEAST_UPRIGHTNESS * face.height
