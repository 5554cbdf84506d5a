"""Whose face a set of pictures is about, in real photographs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from preprocessing.cuts import Cut, choose_cuts
from preprocessing.faces.detection import MTCNN_WEIGHTS, detect_faces, load_detector
from preprocessing.faces.face import Face
from preprocessing.faces.person import Choice, choose_person, prominence
from preprocessing.faces.recognition import RECOGNITION_WEIGHTS, describe_faces, load_recognizer
from tests.photographs import astronaut, cameraman, side_by_side


@pytest.fixture(scope="module")
def describe():
    """Image -> the numbers of its faces, from left to right."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small tensors: ten times faster on a busy machine
    device = torch.device("cpu")
    detector = load_detector(MTCNN_WEIGHTS, device)
    recognizer = load_recognizer(RECOGNITION_WEIGHTS, device)

    def of(image: Image.Image) -> tuple[np.ndarray, ...]:
        faces = sorted(detect_faces(detector, image), key=lambda face: face.box)
        return describe_faces(recognizer, image, faces)

    yield of
    torch.set_num_threads(num_threads)


def enlarged(image: Image.Image) -> Image.Image:
    return image.resize((2048, 2048), Image.Resampling.BICUBIC)


CHANGES = {
    "mirrored": ImageOps.mirror,
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.5),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "smaller": lambda image: image.reduce(2),
    "larger": enlarged,
    "tilted": lambda image: image.rotate(20, Image.Resampling.BICUBIC, center=(224, 118)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_one_person_is_near_herself_and_far_from_another(describe, change):
    (woman,), (man,) = describe(astronaut()), describe(cameraman())
    (again,) = describe(change(astronaut()))
    assert np.linalg.norm(again - woman) < 0.4
    assert np.linalg.norm(again - man) > 0.75


def test_a_picture_without_faces_has_no_numbers(describe):
    assert describe(Image.new("RGB", (64, 64))) == ()


def test_the_person_who_is_in_most_pictures_is_chosen(describe):
    """In the first picture a man is more prominent, but only she is in the others."""
    both = describe(side_by_side(astronaut(), cameraman()))
    assert len(both) == 2
    woman, man = both
    pictures = [
        (man, woman),
        describe(ImageOps.mirror(astronaut())),
        describe(CHANGES["darker"](astronaut())),
        (),
    ]
    assert choose_person(pictures) == (
        Choice(index=1, is_alike=True),
        Choice(index=0, is_alike=True),
        Choice(index=0, is_alike=True),
        None,
    )


def numbers(*values: float) -> np.ndarray:
    """People on a line, 1 apart."""
    return np.array([*values, *[0.0] * (128 - len(values))], dtype=np.float32)


def test_who_is_someone_else_is_told():
    pictures = [(numbers(0),), (numbers(0.1),), (numbers(9), numbers(5))]
    assert choose_person(pictures)[2] == Choice(index=0, is_alike=False)


def cut(person: np.ndarray) -> tuple[Cut, ...]:
    return (Cut(crop=(0, 0, 8, 8), image=Image.new("RGB", (8, 8)), mask=None, description=person),)


@pytest.mark.parametrize(
    ("people", "strangers", "counts"),
    [
        ((0, 5, 9), 0, "1 of the 3"),
        ((0, 0, 5, 9), 0, "2 of the 4"),
        ((0, 0, 0, 5), 1, ""),
        ((0, 0, 5), 1, ""),
        ((0,), 0, ""),
        ((), 0, ""),
    ],
)
def test_who_is_a_stranger_is_told_only_where_somebody_is_in_most_pictures(
    people, strangers, counts
):
    """A picture without a face and a file that is none do not count."""
    without_face = (replace(cut(numbers(0))[0], description=None),)
    chosen, about_set = choose_cuts(
        [*(cut(numbers(person)) for person in people), without_face, ()]
    )
    warnings = [warning for _, warnings in chosen for warning in warnings]
    assert warnings == ["not the face of most pictures"] * strangers
    assert len(about_set) == bool(counts)
    assert all(f"more than {counts} pictures that show a face" in told for told in about_set)


def test_of_two_who_are_in_all_pictures_the_more_prominent_is_chosen():
    one, other = numbers(0), numbers(5)
    choices = choose_person([(one, other), (other, one), (one, other)])
    assert choices == tuple(Choice(index=index, is_alike=True) for index in (0, 1, 0))


def test_a_single_picture_shows_its_most_prominent_person():
    assert choose_person([(numbers(0), numbers(5))]) == (Choice(index=0, is_alike=True),)


def test_twice_in_one_picture_is_one_picture():
    """A mirror or a collage must not outvote the other pictures."""
    twin, other = numbers(0), numbers(5)
    choices = choose_person([(twin, twin, twin, other), (other,)])
    assert choices == (Choice(index=3, is_alike=True), Choice(index=0, is_alike=True))


def test_no_faces_at_all_is_no_choice():
    assert choose_person([(), ()]) == (None, None)


def face(left: float, top: float, side: float) -> Face:
    box = (left, top, left + side, top + side)
    return Face(box=box, score=1.0, landmarks=((left, top),) * 5)


def test_larger_and_more_central_faces_are_more_prominent():
    size = (1000, 500)
    assert prominence(face(450, 200, 100), size) > prominence(face(450, 200, 80), size)
    assert prominence(face(450, 200, 100), size) > prominence(face(0, 0, 100), size)
    assert prominence(face(0, 0, 300), size) > prominence(face(450, 200, 100), size)
