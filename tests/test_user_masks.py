"""Masks that came with the pictures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from preprocessing.masks import BACKGROUND_WEIGHT
from preprocessing.prepare import Prepared, prepare_examples
from tests.pictures import encode, noise, photo, write, zip_of
from tests.test_tars import tar_of

SIZE = (96, 72)
BACKGROUND = round(255 * BACKGROUND_WEIGHT)


def left_half(size: tuple[int, int] = SIZE) -> Image.Image:
    """White on the left half, black on the right one; mode L."""
    mask = Image.new("L", size)
    mask.paste(255, (0, 0, size[0] // 2, size[1]))
    return mask


def cut_out(left: Image.Image) -> Image.Image:
    """A picture of noise, of which only what the mask shows is there."""
    picture = noise(*left.size)
    picture.putalpha(left)
    return picture


def prepare(folder: Path, *files: tuple[str, bytes], task: str = "object") -> Prepared:
    return prepare_examples(
        archive=write(folder, zip_of(*files)), urls=(), task=task, resolution=64, custom_prompts=()
    )


def edges_of(mask: Image.Image | None) -> list[int]:
    """How much the leftmost and the rightmost pixels count, of 255."""
    assert mask is not None
    assert (mask.mode, mask.size) == ("L", (64, 64))
    values = np.asarray(mask)
    return [int(values[:, 0].mean()), int(values[:, -1].mean())]


@pytest.mark.parametrize("task", ["object", "style", "location"])
@pytest.mark.parametrize(
    "name", ["x/1_mask.png", "X/1-masklabel.PNG", "x/1_MASK.png", "x/1_mask.bmp"]
)
def test_a_mask_beside_a_picture_is_its_mask_and_no_picture(tmp_path, name, task):
    mask = encode(left_half(), "BMP" if name.endswith("bmp") else "PNG")
    prepared = prepare(tmp_path, ("x/1.jpg", photo()), (name, mask), task=task)
    (example,), (report,) = prepared.examples, prepared.reports
    assert edges_of(example.mask) == [255, BACKGROUND]
    assert (report.position, report.reason) == (1, "with its own mask")


def test_a_mask_in_a_tar_is_found_wherever_it_stands(tmp_path):
    mask = encode(left_half())
    archive = write(tmp_path, tar_of(("1_mask.png", mask), ("2.jpg", photo()), ("1.jpg", photo())))
    prepared = prepare_examples(
        archive=archive, urls=(), task="object", resolution=64, custom_prompts=()
    )
    assert [bool(example.mask) for example in prepared.examples] == [True, False]


def test_what_is_transparent_counts_less(tmp_path):
    (example,) = prepare(tmp_path, ("1.png", encode(cut_out(left_half())))).examples
    assert edges_of(example.mask) == [255, BACKGROUND]
    assert example.image.getpixel((63, 32)) == (255, 255, 255)


def test_a_picture_that_is_opaque_everywhere_has_no_mask(tmp_path):
    picture = noise(*SIZE)
    picture.putalpha(255)
    (example,) = prepare(tmp_path, ("1.png", encode(picture))).examples
    assert example.mask is None


@pytest.mark.parametrize("opacity", [0, 7])
def test_a_picture_that_is_transparent_everywhere_is_skipped_with_the_reason(tmp_path, opacity):
    picture = noise(*SIZE)
    picture.putalpha(opacity)
    prepared = prepare(tmp_path, ("1.jpg", photo()), ("2.png", encode(picture)))
    assert [report.used for report in prepared.reports] == [True, False]
    assert prepared.reports[1].reason.startswith("transparent everywhere: it shows nothing")


def test_a_mask_goes_before_transparency(tmp_path):
    right_half = left_half().transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    files = (("1.png", encode(cut_out(right_half))), ("1_mask.png", encode(left_half())))
    (example,) = prepare(tmp_path, *files).examples
    assert edges_of(example.mask) == [255, BACKGROUND]


@pytest.mark.parametrize("colour", ["white", "black", None])
def test_a_mask_that_was_drawn_as_transparency_is_understood(tmp_path, colour):
    mask = Image.new("RGB", SIZE, colour) if colour else noise(*SIZE)
    mask.putalpha(left_half())
    (example,) = prepare(tmp_path, ("1.jpg", photo()), ("1_mask.png", encode(mask))).examples
    assert edges_of(example.mask) == [255, BACKGROUND]


def test_a_mask_is_turned_like_its_picture(tmp_path):
    """A phone's picture lies on its side with a note to turn it; so may the mask, or not."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter to the right: what is left will be on top
    sideways = encode(noise(*SIZE), exif=exif.tobytes())
    upright = left_half().transpose(Image.Transpose.ROTATE_270)
    for mask in (encode(left_half(), exif=exif.tobytes()), encode(upright)):
        prepared = prepare(tmp_path, ("1.png", sideways), ("1_mask.png", mask))
        values = np.asarray(prepared.examples[0].mask)
        assert prepared.reports[0].size == SIZE[::-1]
        assert [values[0].mean(), values[-1].mean()] == [255, BACKGROUND]


def test_a_mask_of_another_size_is_scaled(tmp_path):
    mask = encode(left_half((480, 360)))
    (example,) = prepare(tmp_path, ("1.jpg", photo()), ("1_mask.png", mask)).examples
    assert edges_of(example.mask) == [255, BACKGROUND]


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (encode(left_half((72, 96))), "72 x 96 pixels, the picture 96 x 72"),
        (encode(left_half())[:60], "damaged or cut off"),
        (b"", "an empty file"),
        (b"white, mostly", "a text, not a picture"),
    ],
)
def test_a_mask_that_cannot_be_used_does_not_cost_the_picture(tmp_path, mask, words):
    prepared = prepare(tmp_path, ("1.jpg", photo()), ("1_mask.png", mask))
    (example,), (report,) = prepared.examples, prepared.reports
    assert example.mask is None
    (warning,) = (warning for warning in report.warnings if "mask" in warning)
    assert warning.startswith("its mask is not used: ")
    assert words in warning


@pytest.mark.parametrize(
    ("picture", "why"),
    [
        (noise(96, 72, 7), "in colour"),
        (noise(72, 96, 7), "in colour"),
        (noise(72, 96, 7).convert("L"), "72 x 96 pixels, the picture 96 x 72"),
    ],
)
def test_a_portrait_that_is_named_like_a_mask_is_a_picture(tmp_path, picture, why):
    files = (("anna.jpg", photo(1)), ("anna2.jpg", photo(2)), ("anna_mask.png", encode(picture)))
    prepared = prepare_examples(
        archive=write(tmp_path, zip_of(*files)),
        urls=(),
        task="object",
        resolution=64,
        custom_prompts=("{} one", "{} two", "{} in a mask"),
    )
    assert [report.position for report in prepared.reports] == [1, 2, 3]
    assert [example.prompts[0] for example in prepared.examples][2] == "{} in a mask"
    assert prepared.reports[2].size == picture.size
    assert f"named like a mask, but {why}: used as a picture" in prepared.reports[2].warnings
    assert [example.mask for example in prepared.examples] == [None] * 3


COMPANIONS = (
    ("anna_mask.txt", b"{} in a mask"),
    ("anna_mask.jpg.txt", b"{} in a mask"),
    ("metadata.jsonl", b'{"file_name": "anna_mask.jpg", "text": "{} in a mask"}'),
)


@pytest.mark.parametrize("companion", COMPANIONS)
def test_a_portrait_that_is_named_like_a_mask_has_its_own_caption(tmp_path, companion):
    files = (("anna.jpg", photo(1)), ("anna_mask.jpg", photo(2)), companion)
    prepared = prepare(tmp_path, *files)
    assert [report.used for report in prepared.reports] == [True, True]
    assert prepared.reports[0].caption_source == "templates"
    assert prepared.examples[1].prompts == ("{} in a mask",)


@pytest.mark.parametrize("companion", COMPANIONS)
def test_what_is_written_about_a_mask_is_told_and_not_used(tmp_path, companion):
    files = (("anna.jpg", photo(1)), ("anna_mask.jpg", encode(left_half(), "JPEG")), companion)
    (report,) = prepare(tmp_path, *files).reports
    assert report.caption_source == "templates"
    assert report.reason == "with its own mask, what is written about its mask is not used"


def test_one_portrait_that_is_named_like_the_mask_of_two_pictures_is_used_once(tmp_path):
    files = (("1.jpg", photo(1)), ("1.jpeg", photo(2)), ("1_mask.jpg", photo(3)))
    assert len(prepare(tmp_path, *files).examples) == 3


@pytest.mark.parametrize("colour", ["red", "white"])
def test_a_mask_in_two_tones_is_a_mask_whatever_its_colour(tmp_path, colour):
    mask = Image.new("RGB", SIZE)
    mask.paste(colour, (0, 0, SIZE[0] // 2, SIZE[1]))
    files = (("1.jpg", photo()), ("1_mask.jpg", encode(mask, "JPEG")))
    (example,) = prepare(tmp_path, *files).examples
    left, right = edges_of(example.mask)
    assert left > 2 * right


def marked(size: tuple[int, int], *spans: tuple[int, int]) -> Image.Image:
    """White in columns `spans`, for a wide mask, or rows, for a tall one."""
    mask = Image.new("L", size)
    is_wide = size[0] > size[1]
    for start, end in spans:
        mask.paste(255, (start, 0, end, size[1]) if is_wide else (0, start, size[0], end))
    return mask


@pytest.mark.parametrize(
    ("mask", "crop"),
    [
        (marked((300, 100), (0, 80)), (0, 0, 100, 100)),  # as far as the photo reaches
        (marked((300, 100), (180, 240)), (160, 0, 260, 100)),
        (marked((150, 50), (90, 120)), (160, 0, 260, 100)),
        (marked((300, 100), (110, 130)), (100, 0, 200, 100)),  # where it is anyway
        (marked((300, 100), (0, 60), (270, 300)), (0, 0, 100, 100)),  # the larger of two
        (marked((300, 100), (0, 300)), (100, 0, 200, 100)),
    ],
)
def test_the_square_is_where_the_mask_marks_something(tmp_path, mask, crop):
    files = (("1.png", encode(noise(300, 100))), ("1_mask.png", encode(mask)))
    prepared = prepare(tmp_path, *files)
    (example,), (report,) = prepared.examples, prepared.reports
    assert report.crop == crop
    assert example.mask is not None
    assert example.mask.getextrema()[1] == 255
    assert "marks nothing" not in report.remarks


def test_in_a_tall_picture_too(tmp_path):
    mask = marked((100, 300), (180, 240))
    files = (("1.png", encode(noise(100, 300))), ("1_mask.png", encode(mask)))
    (report,) = prepare(tmp_path, *files).reports
    assert report.crop == (0, 160, 100, 260)


def test_a_cut_out_at_the_edge_of_a_wide_picture_is_in_its_square(tmp_path):
    picture = noise(300, 100)
    picture.putalpha(marked((300, 100), (220, 300)))
    (report,) = prepare(tmp_path, ("1.png", encode(picture))).reports
    assert report.crop == (200, 0, 300, 100)


def test_a_mask_that_marks_nothing_is_told(tmp_path):
    mask = encode(Image.new("L", SIZE))
    (report,) = prepare(tmp_path, ("1.jpg", photo()), ("1_mask.png", mask)).reports
    assert "its mask marks nothing inside the crop" in report.warnings


def test_a_mask_smaller_than_any_photo_may_be_is_used(tmp_path):
    mask = encode(left_half((8, 6)))
    (example,) = prepare(tmp_path, ("1.jpg", photo()), ("1_mask.png", mask)).examples
    assert edges_of(example.mask) == [255, BACKGROUND]


def test_of_two_masks_one_is_used_and_this_is_said(tmp_path):
    mask = encode(left_half())
    files = (("1.jpg", photo()), ("1_mask.png", mask), ("1-masklabel.png", mask))
    (report,) = prepare(tmp_path, *files).reports
    assert report.reason == "several masks have its name: one is used, with its own mask"


def test_a_mask_without_its_picture_is_a_picture_and_this_is_said(tmp_path):
    files = (("1.jpg", photo(1)), ("carnival_mask.jpg", photo(2)), ("x/1_mask.jpg", photo(3)))
    prepared = prepare(tmp_path, *files)
    assert [example.mask for example in prepared.examples] == [None] * 3
    assert [report.reason[:20] for report in prepared.reports] == [
        "",
        "named like a mask, b",
        "named like a mask, b",
    ]


def test_a_mask_of_a_mask_is_a_picture(tmp_path):
    grey = encode(noise(*SIZE).convert("L"))
    files = (("1.jpg", photo()), ("1_mask.png", grey), ("1_mask_mask.png", photo()))
    assert [report.name for report in prepare(tmp_path, *files).reports] == [
        "1.jpg",
        "1_mask_mask.png",
    ]


def test_masks_and_texts_take_no_custom_prompt(tmp_path):
    files = [(f"{n}{end}", data) for n in (1, 2) for end, data in COMPANY.items()]
    prepared = prepare_examples(
        archive=write(tmp_path, zip_of(*files)),
        urls=(),
        task="object",
        resolution=64,
        custom_prompts=("{} one", "{} two"),
    )
    assert [example.prompts for example in prepared.examples] == [("{} one",), ("{} two",)]


COMPANY = {".jpg": photo(), "_mask.png": encode(left_half()), ".txt": b" "}
