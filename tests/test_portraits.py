"""Photos of people -> examples, from a zip to the squares that are trained on."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from preprocessing.crops import Box
from preprocessing.example import Example
from preprocessing.photos import Photo, read_photo
from preprocessing.portraits import cut_portraits
from preprocessing.prepare import Prepared, prepare_examples
from preprocessing.report import PhotoReport
from tests.conftest import REPOSITORY
from tests.photographs import astronaut, cameraman, photograph, side_by_side
from tests.pictures import encode, write, zip_of

ASTRONAUT_HEAD = (160, 2, 292, 205)  # with all her hair and the chin, by eye


def prepare(folder, *files, task="face", resolution=128) -> Prepared:
    """Files are images, to be named 1.png and so on, or pairs of a name and an image."""
    named = [
        file if isinstance(file, tuple) else (f"{number}.png", file)
        for number, file in enumerate(files, 1)
    ]
    archive = write(folder, zip_of(*((name, encode(image)) for name, image in named)))
    return prepare_examples(
        archive=archive, urls=(), task=task, resolution=resolution, custom_prompts=()
    )


def crop_of(report: PhotoReport) -> Box:
    assert report.crop is not None
    return report.crop


def mask_of(example: Example) -> np.ndarray:
    assert example.mask is not None
    return np.asarray(example.mask)


def is_inside(inner: Box, outer: Box) -> bool:
    return (
        outer[0] <= inner[0]
        and outer[1] <= inner[1]
        and inner[2] <= outer[2]
        and inner[3] <= outer[3]
    )


@pytest.mark.parametrize("resolution", [64, 256])
def test_the_crop_holds_the_whole_head_and_the_mask_marks_it(tmp_path, resolution):
    prepared = prepare(tmp_path, astronaut(), resolution=resolution)
    (example,), (report,) = prepared.examples, prepared.reports
    assert is_inside(ASTRONAUT_HEAD, crop_of(report))
    assert report.num_faces == 1
    left, top, right, _ = crop_of(report)
    assert right - left >= resolution
    mask = mask_of(example)
    assert mask.shape == example.image.size == (resolution, resolution)
    row, column = (
        round((value - start) * resolution / (right - left))
        for value, start in ((115, top), (224, left))
    )
    assert mask[row, column] == 255
    assert mask[-1, 0] < 64


def test_a_close_crop_fills_a_third_of_the_side_with_the_face(tmp_path):
    (report,) = prepare(tmp_path, astronaut().resize((2048, 2048))).reports
    left, _, right, _ = crop_of(report)
    assert (right - left) / (4 * 110) == pytest.approx(3, abs=0.15)


def test_a_picture_without_a_face_is_used_and_warned_of(tmp_path):
    prepared = prepare(tmp_path, photograph("coffee.png"))
    (example,), (report,) = prepared.examples, prepared.reports
    assert report.num_faces == 0
    assert "no face found" in report.warnings
    assert example.mask is None
    assert report.crop == (100, 0, 500, 400)


def test_the_person_in_most_pictures_is_cropped_out_of_a_picture_of_two(tmp_path):
    """The man is the larger and more central one there, and alone in no picture."""
    large_man = cameraman().crop((100, 60, 356, 316)).resize((768, 768))
    both = Image.new("RGB", (1280, 768))
    both.paste(astronaut(), (0, 0))
    both.paste(large_man, (512, 0))
    darker = ImageEnhance.Brightness(astronaut()).enhance(0.6)
    reports = prepare(tmp_path, both, ImageOps.mirror(astronaut()), darker).reports
    assert [report.num_faces for report in reports] == [2, 1, 1]
    assert "several faces" in reports[0].warnings
    assert is_inside((182, 65, 266, 172), crop_of(reports[0]))
    assert crop_of(reports[0])[2] < 512
    (alone,) = prepare(tmp_path, both).reports
    assert crop_of(alone)[2] > 600  # the man, as nobody else is known


def test_a_picture_of_somebody_else_is_warned_of(tmp_path):
    mirrored = ImageOps.mirror(astronaut())
    reports = prepare(tmp_path, astronaut(), cameraman(), mirrored).reports
    assert [report.used for report in reports] == [True] * 3
    assert [len(report.warnings) for report in reports][:2] == [0, 1]
    assert reports[1].warnings == ("not the face of most pictures",)


def test_if_nobody_is_in_most_pictures_that_is_said_once_of_the_set(tmp_path):
    """No picture is called "not the face of most pictures" where there is no such face."""
    both = side_by_side(astronaut(), cameraman())
    for others in ((), (photograph("coffee.png"),)):
        prepared = prepare(tmp_path, astronaut(), cameraman(), *others)
        (warning,) = [one for one in prepared.warnings if "recognised" in one]
        assert "nobody is recognised in more than 1 of the 2 pictures that show a face" in warning
        assert "not the face" not in "".join(report.remarks for report in prepared.reports)
    for images in ((astronaut(),), (astronaut(), both), (photograph("coffee.png"),)):
        assert "recognised" not in "".join(prepare(tmp_path, *images).warnings)


def test_a_scan_on_its_side_is_turned_with_its_mask(tmp_path):
    upright = astronaut().crop((60, 0, 460, 512))
    drawn = Image.new("L", upright.size)
    ImageDraw.Draw(drawn).rectangle((0, 0, 400, 130), fill=255)
    scan, mask = (image.transpose(Image.Transpose.ROTATE_90) for image in (upright, drawn))
    prepared = prepare(tmp_path, ("1.png", scan), ("1_mask.png", mask))
    (example,), (report,), (look,) = prepared.examples, prepared.reports, prepared.looks
    (expected,) = prepare(tmp_path, upright).examples
    assert report.size == (400, 512)
    assert look is not None
    assert look.thumbnail.size == (150, 192)
    assert report.warnings[0] == "turned, for its face lay on its side"
    difference = np.asarray(example.image).astype(int) - np.asarray(expected.image)
    assert abs(difference).mean() < 12  # the box may differ by a pixel or two
    marked = mask_of(example)
    assert marked[0].min() == 255
    assert marked[-1].max() < 64


def test_what_the_owner_drew_goes_before_the_head(tmp_path):
    mask = Image.new("L", (512, 512), 255)
    mask.paste(0, (0, 0, 512, 256))
    (example,) = prepare(tmp_path, ("1.png", astronaut()), ("1_mask.png", mask)).examples
    marked = mask_of(example)
    assert marked[0].max() < 64
    assert marked[-1].min() == 255


def test_a_portrait_of_the_right_size_keeps_every_bit(tmp_path):
    original = astronaut().crop((96, 0, 352, 256))
    (example,) = prepare(tmp_path, original, resolution=256).examples
    np.testing.assert_array_equal(np.asarray(example.image), np.asarray(original))


def test_a_crop_out_of_a_huge_photo_is_not_enlarged(tmp_path):
    """Of a small face in a photo that was decoded at a quarter of its size."""
    canvas = Image.new("RGB", (6400, 4800), "grey")
    canvas.paste(astronaut().resize((1800, 1800)), (2000, 900))
    photo = read_photo(encode(canvas, "JPEG"), 128, 4)
    assert photo.image.width < photo.size[0] / 4
    mask = Image.new("L", (640, 480))
    mask.paste(255, (0, 0, 279, 480))  # to the middle of her face
    found = cut_portraits(photo, mask, 1, resolution=128)
    left, top, right, bottom = found.cuts[0].crop
    assert (right - left) * photo.image.width / photo.size[0] >= 128
    assert is_inside((2000 + 640, 900 + 228, 2000 + 935, 900 + 605), (left, top, right, bottom))
    middle = round((2790 - left) * 128 / (right - left))
    marked = np.asarray(found.cuts[0].mask)
    assert marked[:, : middle - 4].min() == 255
    assert marked[:, middle + 4 :].max() < 64


def test_in_a_large_set_only_the_most_prominent_face_of_a_picture_is_kept():
    image = side_by_side(astronaut(), cameraman())
    photo = Photo(image=image, alpha=None, size=image.size, remarks=(), taken=None)
    assert len(cut_portraits(photo, None, 100, resolution=64).cuts) == 2
    assert len(cut_portraits(photo, None, 101, resolution=64).cuts) == 1


@pytest.mark.parametrize("task", ["object", "style", "location"])
def test_other_tasks_look_for_no_faces(tmp_path, task):
    prepared = prepare(tmp_path, astronaut(), task=task)
    assert prepared.reports[0].num_faces is None
    assert prepared.reports[0].crop == (0, 0, 512, 512)
    assert prepared.examples[0].mask is None


def test_the_same_pictures_give_the_same_examples(tmp_path):
    images = (astronaut(), cameraman(), side_by_side(astronaut(), cameraman()))
    first, second = (prepare(tmp_path, *images) for _ in range(2))
    assert first.reports == second.reports
    for one, other in zip(first.examples, second.examples, strict=True):
        np.testing.assert_array_equal(np.asarray(one.image), np.asarray(other.image))
        np.testing.assert_array_equal(mask_of(one), mask_of(other))


def test_torch_is_loaded_only_to_look_for_faces():
    code = "import sys, preprocessing.prepare; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)
