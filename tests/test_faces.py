"""Where the faces of a photo are, in real photographs."""

import hashlib
import re

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from preprocessing.crops import Box
from preprocessing.faces.detection import (
    MTCNN_WEIGHTS,
    FacesFound,
    detect_faces,
    find_faces,
    load_detector,
)
from preprocessing.faces.recognition import RECOGNITION_WEIGHTS
from tests.conftest import REPOSITORY
from tests.photographs import ASTRONAUT_FACE, CAMERAMAN_FACE, astronaut, cameraman, photograph
from tests.photographs import side_by_side as beside


@pytest.fixture(scope="module")
def detector():
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small tensors: ten times faster on a busy machine
    yield load_detector(MTCNN_WEIGHTS, torch.device("cpu"))
    torch.set_num_threads(num_threads)


def overlap(box: Box, other: Box) -> float:
    """The share of their union."""
    shared_width = max(0, min(box[2], other[2]) - max(box[0], other[0]))
    shared_height = max(0, min(box[3], other[3]) - max(box[1], other[1]))
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)]
    return shared_width * shared_height / (sum(areas) - shared_width * shared_height)


@pytest.mark.parametrize(
    ("image", "expected"), [(astronaut(), ASTRONAUT_FACE), (cameraman(), CAMERAMAN_FACE)]
)
def test_the_face_of_a_photograph_is_found_where_it_is(detector, image, expected):
    (face,) = detect_faces(detector, image)
    assert overlap(face.box, expected) > 0.85
    assert face.score > 0.95


def test_the_box_agrees_with_another_implementation(detector):
    """Golden: facenet-pytorch 2.6.0, MTCNN(min_face_size=42, thresholds=[.6, .7, .8])."""
    (face,) = detect_faces(detector, astronaut())
    np.testing.assert_allclose(face.box, (180.5, 60.1, 267.4, 174.9), atol=3)
    landmarks = [(205.2, 101.4), (247.6, 104.5), (226.1, 129.5), (202.5, 139.8), (245.9, 142.1)]
    np.testing.assert_allclose(face.landmarks, landmarks, atol=3)


def test_the_landmarks_are_eyes_nose_and_mouth_in_this_order(detector):
    (face,) = detect_faces(detector, astronaut())
    eye, other_eye, nose, mouth, other_mouth = face.landmarks
    assert eye[0] < nose[0] < other_eye[0]
    assert mouth[0] < nose[0] < other_mouth[0]
    assert max(eye[1], other_eye[1]) < nose[1] < min(mouth[1], other_mouth[1])


@pytest.mark.parametrize(
    "name", ["coffee.png", "chelsea.png", "rocket.jpg", "motorcycle_left.png", "horse.png"]
)
def test_things_and_animals_have_no_face(detector, name):
    assert find_faces(detector, photograph(name)) == FacesFound(faces=(), turn=None)


@pytest.mark.parametrize(
    ("scale", "tolerance"), [(0.25, 0.7), (0.5, 0.75), (1.5, 0.85), (4.0, 0.85)]
)
def test_a_face_is_found_at_any_size(detector, scale, tolerance):
    size = (round(512 * scale), round(512 * scale))
    (face,) = detect_faces(detector, astronaut().resize(size))
    expected = tuple(coordinate * scale for coordinate in ASTRONAUT_FACE)
    assert overlap(face.box, expected) > tolerance


def test_two_people_are_two_faces(detector):
    faces = detect_faces(detector, beside(astronaut(), cameraman()))
    left, right = sorted(faces, key=lambda face: face.box)
    assert overlap(left.box, ASTRONAUT_FACE) > 0.7
    right_box = tuple(np.subtract(right.box, (512, 0, 512, 0)))
    assert overlap(right_box, CAMERAMAN_FACE) > 0.7


def test_a_dark_and_noisy_photograph_is_no_obstacle(detector):
    dark = ImageEnhance.Brightness(astronaut()).enhance(0.25)
    noise = np.random.default_rng(0).normal(0, 6, (512, 512, 3))
    noisy = Image.fromarray((np.asarray(dark) + noise).clip(0, 255).astype(np.uint8))
    (face,) = detect_faces(detector, noisy)
    assert overlap(face.box, ASTRONAUT_FACE) > 0.8


def test_the_box_of_a_face_at_the_edge_stays_in_the_image(detector):
    """The prior service lost its mask to boxes that reached beyond the image."""
    close_up = astronaut().crop((170, 75, 270, 175))
    (face,) = detect_faces(detector, close_up.resize((400, 400)))
    left, top, right, bottom = face.box
    assert 0 <= left < right <= 400
    assert 0 <= top < bottom <= 400
    assert (left, top, right, bottom).count(0) + (left, top, right, bottom).count(400) > 0


@pytest.mark.parametrize(
    ("lies", "turn"),
    [
        (None, None),
        (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270),
        (Image.Transpose.ROTATE_270, Image.Transpose.ROTATE_90),
        (Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_180),
    ],
)
def test_a_scan_that_lies_on_its_side_is_to_be_turned(detector, lies, turn):
    upright = astronaut().crop((60, 0, 460, 512)).resize((800, 1024))
    scan = upright if lies is None else upright.transpose(lies)
    found = find_faces(detector, scan)
    assert found.turn == turn
    (face,) = found.faces
    expected = tuple(2 * v for v in np.subtract(ASTRONAUT_FACE, (60, 0, 60, 0)))
    assert overlap(face.box, expected) > 0.8


@pytest.mark.parametrize("degrees", [-30, 30])
def test_a_tilted_head_is_not_turned(detector, degrees):
    tilted = astronaut().rotate(degrees, Image.Resampling.BICUBIC, center=(224, 118))
    found = find_faces(detector, tilted)
    assert found.turn is None
    assert len(found.faces) == 1


@pytest.mark.parametrize("size", [(1, 1), (5, 5), (1, 300), (300, 1), (2000, 15), (12, 12)])
@pytest.mark.parametrize("seed", [0, 1])
def test_pictures_too_small_for_a_face_have_none(detector, size, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    assert find_faces(detector, Image.fromarray(pixels)).faces == ()


def test_a_mirrored_face_is_found_in_the_mirrored_place(detector):
    (face,) = detect_faces(detector, astronaut())
    (mirrored,) = detect_faces(detector, ImageOps.mirror(astronaut()))
    left, top, right, bottom = mirrored.box
    assert overlap((512 - right, top, 512 - left, bottom), face.box) > 0.85


@pytest.mark.parametrize("path", [MTCNN_WEIGHTS, RECOGNITION_WEIGHTS], ids=lambda path: path.name)
def test_the_weights_are_those_whose_hashes_are_written_down(path):
    card = (REPOSITORY / "weights" / "faces" / "README.md").read_text(encoding="utf-8")
    row = re.search(rf"`{path.name}` \| ([\d,]+) \| `(\w+)`", card)
    assert row
    data = path.read_bytes()
    assert (f"{len(data):,}", hashlib.sha256(data).hexdigest()) == (row[1], row[2])
