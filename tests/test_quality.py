"""What is said about pictures that may spoil the training."""

import io
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageDraw, ImageEnhance, ImageFilter

from preprocessing.photos import read_photo
from preprocessing.quality import THUMBNAIL_PIXELS, Look, judge, look_at
from preprocessing.report import PhotoReport
from tests.photographs import photograph
from tests.pictures import encode, noise

PHOTOGRAPHS = (
    *("astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png"),
    *("grass.png", "gravel.png", "rocket.jpg"),
)
NOON = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC).timestamp()


def used(position: int, scale: float = 0.5, num_faces: int | None = None) -> PhotoReport:
    return PhotoReport(
        position=position,
        name=f"{position}.jpg",
        used=True,
        reason="",
        size=(96, 96),
        crop=(0, 0, 96, 96),
        scale=scale,
        num_faces=num_faces,
        caption_source="templates",
    )


def skipped(position: int) -> PhotoReport:
    return PhotoReport(position=position, name="", used=False, reason="a text, not a picture")


def warnings_of(*images: Image.Image) -> list[tuple[str, ...]]:
    """Of each picture of a set."""
    looks = [look_at(image, None) for image in images]
    reports, _ = judge([used(number) for number in range(1, len(images) + 1)], looks, "object")
    return [report.warnings for report in reports]


def sentences(num_pictures: int, times: tuple[float, ...] = (), task: str = "face") -> str:
    """What is said of a set of different, sharp pictures, the first of them taken at `times`."""
    dates = [*times, *[None] * (num_pictures - len(times))]
    looks = [look_at(noise(96, 96, seed), taken) for seed, taken in enumerate(dates)]
    reports, warnings = judge([used(number + 1) for number in range(num_pictures)], looks, task)
    assert not any(report.warnings for report in reports)
    return "\n".join(warnings)


def with_date(date: str) -> bytes:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = date
    return encode(noise(96, 72), "JPEG", exif=exif)


def figure(arms: int, legs: int) -> Image.Image:
    """Drawn in red on white; how many pixels its hands hang and its feet stand apart."""
    image = Image.new("RGB", (256, 256), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((90, 60, 166, 200), fill="red")
    for side, shoulder in ((-1, 100), (1, 156)):
        draw.line((shoulder, 120, shoulder + 40 * side, 120 + arms), fill="red", width=16)
        draw.line((shoulder - 10 * side, 190, shoulder + legs * side, 245), fill="red", width=16)
    return image


def test_real_photographs_are_neither_blurry_nor_alike():
    assert set(warnings_of(*map(photograph, PHOTOGRAPHS))) == {()}


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_the_same_photographs_out_of_focus_are_blurry(name):
    image = photograph(name).filter(ImageFilter.GaussianBlur(2))
    assert warnings_of(image) == [("blurry",)]


def test_motion_blur_is_seen_too():
    assert warnings_of(photograph("clock_motion.png")) == [("blurry",)]


def test_a_large_photo_that_is_sharp_at_the_size_of_training_is_not_called_blurry():
    large = photograph("coffee.png").resize((3000, 2000), Image.Resampling.BICUBIC)
    assert warnings_of(large) == [()]


def test_an_exact_copy_is_told_whatever_its_file_is():
    image = noise(200, 100)
    copy = Image.open(io.BytesIO(encode(image, "WEBP", lossless=True)))
    assert warnings_of(image, noise(200, 100, 1), copy) == [(), (), ("the same as 1",)]


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_a_copy_made_smaller_brighter_or_saved_poorly_is_told(name):
    image = photograph(name)
    smaller = image.resize((image.width // 2, image.height // 2))
    brighter = ImageEnhance.Brightness(image).enhance(1.2)
    poor = Image.open(io.BytesIO(encode(image, "JPEG", quality=20)))
    copies = warnings_of(image, smaller, brighter, poor)
    assert copies == [(), *[("nearly the same as 1",)] * 3]


def test_a_mirrored_picture_and_another_part_of_the_picture_are_no_copies():
    image = photograph("astronaut.png")
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert warnings_of(image, mirrored, image.crop((150, 0, 350, 200))) == [(), (), ()]


def test_two_poses_of_a_figure_on_white_are_not_nearly_the_same():
    """Most of such pictures is alike: the white, and where the figure stands."""
    assert warnings_of(figure(arms=0, legs=0), figure(arms=40, legs=15)) == [(), ()]


def test_plain_pictures_of_two_colours_are_not_nearly_the_same():
    red, blue = (Image.new("RGB", (64, 64), colour) for colour in ("red", "blue"))
    assert warnings_of(red, blue, red) == [("blurry",), ("blurry",), ("blurry", "the same as 1")]


def test_plain_pictures_of_two_shapes_are_not_the_same():
    square, wide = (Image.new("RGB", size, "red") for size in ((64, 64), (128, 32)))
    assert warnings_of(square, wide) == [("blurry",), ("blurry",)]


def test_a_picture_that_had_to_be_enlarged_is_called_too_small():
    reports, _ = judge([used(1, scale=1.25)], [look_at(noise(96, 96), None)], "object")
    assert reports[0].warnings == ("too small, enlarged 1.2x",)


@pytest.mark.parametrize("num_pixels", [511, 500, 512, 513])
def test_a_picture_that_lacks_a_few_pixels_is_not_called_too_small(num_pixels):
    reports, _ = judge([used(1, scale=512 / num_pixels)], [look_at(noise(96, 96), None)], "object")
    assert reports[0].warnings == ()


def test_that_a_picture_is_too_small_is_said_last():
    """The column of scales says it too, and there may be no room for all on the sheet."""
    flat = Image.new("RGB", (96, 96), "grey")
    reports = [used(number, scale=1.25, num_faces=0) for number in (1, 2)]
    judged, _ = judge(reports, [look_at(flat, None)] * 2, "face")
    assert judged[1].warnings == (
        *("blurry", "no face found", "the same as 1"),
        "too small, enlarged 1.2x",
    )


@pytest.mark.parametrize(
    ("task", "num_faces", "warnings"),
    [
        ("face", 0, ("no face found",)),
        ("face", 1, ()),
        ("face", 3, ("several faces",)),
        ("face", None, ()),
        ("object", 0, ()),
    ],
)
def test_one_face_is_expected_when_the_task_is_a_face(task, num_faces, warnings):
    reports, _ = judge([used(1, num_faces=num_faces)], [look_at(noise(96, 96), None)], task)
    assert reports[0].warnings == warnings


def test_what_was_skipped_is_neither_judged_nor_compared():
    look = look_at(noise(96, 96), None)
    reports, warnings = judge([skipped(1), used(2), skipped(3)], [None, look, look], "object")
    assert [report.warnings for report in reports] == [(), (), ()]
    assert warnings == ("one picture in all: 10 to 30 different ones teach much more",)


@pytest.mark.parametrize(
    ("num_pictures", "sentence"),
    [(4, "4 pictures in all"), (5, ""), (100, ""), (101, "101 pictures in all")],
)
def test_sets_of_fewer_than_5_and_of_more_than_100_are_told(num_pictures, sentence):
    told = sentences(num_pictures)
    assert told.startswith(sentence)
    assert bool(told) == bool(sentence)


def test_a_set_of_copies_is_told_once_for_all():
    looks = [look_at(noise(96, 96), None)] * 6
    _, warnings = judge([used(number) for number in range(6)], looks, "object")
    assert warnings == ("all pictures are nearly the same: only that one can be learned",)


def test_a_set_from_one_moment_is_told():
    told = sentences(5, times=(NOON, NOON + 10, NOON + 300, NOON + 60))
    assert told.startswith("4 of 5 pictures were taken within 5 minutes")


@pytest.mark.parametrize(
    "times",
    [
        (NOON, NOON + 10, NOON + 301),  # another moment
        (NOON, NOON + 10),  # two are too few to tell
    ],
)
def test_a_set_that_may_be_from_several_moments_is_not(times):
    assert sentences(5, times) == ""


def test_a_few_dated_pictures_do_not_speak_for_many_without_a_date():
    assert sentences(7, times=(NOON, NOON, NOON)) == ""


def test_two_dated_pictures_do_not_speak_for_four():
    assert sentences(4, times=(NOON, NOON)) == sentences(4)
    assert "3 of 4 pictures" in sentences(4, times=(NOON, NOON, NOON))


def test_pictures_of_a_style_may_be_photographed_at_one_go():
    assert sentences(5, times=(NOON,) * 5, task="style") == ""


def test_the_time_comes_from_the_camera():
    first = read_photo(with_date("2026:05:01 12:00:00"), 64).taken
    second = read_photo(with_date("2026:05:01 12:01:30"), 64).taken
    assert first is not None
    assert second is not None
    assert second - first == 90


@pytest.mark.parametrize("date", ["", "0000:00:00 00:00:00", "yesterday", "2026:13:01 12:00:00"])
def test_a_camera_that_does_not_know_the_time_is_no_problem(date):
    assert read_photo(with_date(date), 64).taken is None


def test_what_is_kept_of_a_photo_is_small():
    look = look_at(noise(1500, 1000), None)
    assert look.thumbnail.size == (THUMBNAIL_PIXELS, round(THUMBNAIL_PIXELS / 1.5))


@pytest.mark.parametrize("size", [(1, 1), (2, 2000), (2000, 1), (511, 3), (513, 1), (1024, 2)])
def test_pictures_of_any_shape_can_be_looked_at(size):
    image = Image.fromarray(np.zeros((size[1], size[0], 3), dtype=np.uint8))
    assert isinstance(look_at(image, None), Look)
