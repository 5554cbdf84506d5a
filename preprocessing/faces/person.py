"""Whose face a set of pictures is about: the person who appears in most of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from preprocessing.faces.face import Face

# Between the 128 numbers of two faces. What dlib's network was trained to keep one person within,
# and on 1,785 pairs of photographs the limit without an error (weights/faces/README.md).
_SAME_PERSON = 0.6


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A picture's face.

    Attributes:
        index: which of its faces.
        is_alike: it looks like the person in the other pictures.
    """

    index: int
    is_alike: bool


def prominence(face: Face, size: tuple[int, int]) -> float:
    """How large and how central a face is in an image of this size: from 0 to 1."""
    width, height = size
    x, y = face.centre
    # From 0 in the middle to 1 in a corner.
    off_centre = np.hypot(2 * x / width - 1, 2 * y / height - 1) / np.sqrt(2)
    return float(face.score * face.width * face.height / (width * height) * (1 - off_centre / 2))


def choose_person(pictures: Sequence[Sequence[np.ndarray]]) -> tuple[Choice | None, ...]:
    """For each picture the face of the person who appears in most of them; None if it has no face.

    Among persons in equally many pictures, the one who is prominent in more. Where that person is
    not found, the most prominent face stands in, marked as not alike.

    Args:
        pictures: of each picture its faces' 128 numbers, the most prominent first.
    """
    if not any(pictures):
        return (None,) * len(pictures)
    # (candidates, pictures): from each face of the set to the nearest face of each picture
    candidates = [description for faces in pictures for description in faces]
    distances = np.stack([_nearest(candidates, faces) for faces in pictures], axis=1)
    num_pictures = (distances < _SAME_PERSON).sum(axis=1)
    firsts = [faces[:1] for faces in pictures]
    as_first = np.stack([_nearest(candidates, faces) for faces in firsts], axis=1)
    num_first = (as_first < _SAME_PERSON).sum(axis=1)
    spread = np.where(distances < _SAME_PERSON, distances, 0).sum(axis=1)
    # Of the person's own faces the one in the middle: the others may miss a picture.
    best = np.lexsort((spread, -num_first, -num_pictures))[0]
    return tuple(_choose(faces, candidates[best]) for faces in pictures)


def _nearest(candidates: Sequence[np.ndarray], faces: Sequence[np.ndarray]) -> np.ndarray:
    """(candidates,): infinity if there are no faces."""
    if not faces:
        return np.full(len(candidates), np.inf)
    differences = np.stack(candidates)[:, None] - np.stack(faces)
    return np.linalg.norm(differences, axis=-1).min(axis=1)


def _choose(faces: Sequence[np.ndarray], person: np.ndarray) -> Choice | None:
    if not faces:
        return None
    distances = np.linalg.norm(np.stack(faces) - person, axis=1)
    nearest = int(distances.argmin())
    is_alike = bool(distances[nearest] < _SAME_PERSON)
    return Choice(index=nearest if is_alike else 0, is_alike=is_alike)
