"""A photo of people -> squares about their faces."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from threading import Lock

import torch
from PIL import Image

from preprocessing.crops import crop_around_face
from preprocessing.cuts import Cut, Cuts, cut_square
from preprocessing.faces.detection import MTCNN_WEIGHTS, find_faces, load_detector
from preprocessing.faces.face import Face
from preprocessing.faces.mtcnn import Mtcnn
from preprocessing.faces.person import prominence
from preprocessing.faces.recognition import (
    RECOGNITION_WEIGHTS,
    Recognizer,
    describe_faces,
    load_recognizer,
)
from preprocessing.masks import crop_mask, mask_of_head
from preprocessing.photos import Photo, resize

# The faces of a photo that may turn out to be the person's. In a large set memory allows only one.
_MAX_CUTS = 3
_MAX_PHOTOS_WITH_CHOICE = 100

_HALF_TURN = Image.Transpose.ROTATE_180

_one_photo_at_a_time = Lock()


def cut_portraits(
    photo: Photo, mask: Image.Image | None, position: int, *, resolution: int
) -> Cuts:
    """One square for each of the most prominent faces, or the largest square if there is none.

    A photo whose face lies on its side is turned. A mask of the owner's goes before the head's.
    """
    with _one_photo_at_a_time, _one_thread():
        detector, recognizer = load_networks()
        found = find_faces(detector, photo.image)
        if found.turn is not None:
            photo = _turn(photo, found.turn)
            mask = mask.transpose(found.turn) if mask else None
        size = photo.image.size
        faces = sorted(found.faces, key=lambda face: -prominence(face, size))
        kept = faces[: _MAX_CUTS if position <= _MAX_PHOTOS_WITH_CHOICE else 1]
        descriptions = describe_faces(recognizer, photo.image, kept)
    cuts = [
        replace(_cut(photo, face, mask, resolution, position), description=description)
        for face, description in zip(kept, descriptions, strict=True)
    ]
    return Cuts(
        photo=photo,
        cuts=tuple(cuts) or (cut_square(photo, mask, resolution),),
        num_faces=len(faces),
        warnings=("turned, for its face lay on its side",) if found.turn is not None else (),
    )


@cache
def load_networks() -> tuple[Mtcnn, Recognizer]:
    """On the GPU when there is one; a few milliseconds from disk, once."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return load_detector(MTCNN_WEIGHTS, device), load_recognizer(RECOGNITION_WEIGHTS, device)


@contextmanager
def _one_thread() -> Iterator[None]:
    """On a busy CPU more threads mostly wait, as tensors are small: 38 photos took 84 s, not 10."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def _turn(photo: Photo, turn: Image.Transpose) -> Photo:
    return replace(
        photo,
        image=photo.image.transpose(turn),
        alpha=photo.alpha.transpose(turn) if photo.alpha else None,
        size=photo.size if turn == _HALF_TURN else photo.size[::-1],
    )


def _cut(photo: Photo, face: Face, mask: Image.Image | None, resolution: int, position: int) -> Cut:
    # In pixels of the decoded image: a huge photo's own may not all be there.
    in_image = crop_around_face(photo.image.size, face.box, resolution, position)
    horizontal = photo.size[0] / photo.image.width
    vertical = photo.size[1] / photo.image.height
    left, top, right, bottom = in_image
    crop = (left * horizontal, top * vertical, right * horizontal, bottom * vertical)
    return Cut(
        crop=crop,
        image=resize(photo, crop, resolution),
        mask=crop_mask(mask, photo.size, crop, resolution)
        if mask
        else mask_of_head(face.box, in_image, resolution),
    )
