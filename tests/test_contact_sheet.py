"""One PNG with every picture, what of it is trained on, and what is to be said about it."""

import numpy as np
import pytest
from PIL import Image, ImageColor, ImageOps

from cli.contact_sheet import (
    FRAME_COLOUR,
    LARGE_FONT,
    REFUSED_COLOUR,
    Cell,
    cells_of,
    draw_contact_sheet,
    draw_photo,
    wrap_text,
    write_contact_sheet,
)
from preprocessing.prepare import Prepared, prepare_examples
from preprocessing.report import PhotoReport
from tests.pictures import encode, noise, photo, write, zip_of

GREY = Image.new("RGB", (192, 96), "grey")
CROP = (96.0, 0.0, 192.0, 96.0)  # of a photo twice as large as its thumbnail


def used(position: int = 1, crop: tuple[float, float, float, float] = CROP) -> PhotoReport:
    return PhotoReport(
        position=position, name="", used=True, reason="", size=(384, 192), crop=crop, scale=0.5
    )


def skipped(position: int) -> PhotoReport:
    return PhotoReport(position=position, name="", used=False, reason="an empty file")


def cell(position: int = 1) -> Cell:
    return Cell(report=used(position), thumbnail=GREY, mask=None)


def prepare(folder, *files: tuple[str, bytes]) -> Prepared:
    return prepare_examples(
        archive=write(folder, zip_of(*files)),
        urls=(),
        task="object",
        resolution=64,
        custom_prompts=(),
    )


def num_pixels_of(image: Image.Image, colour: str) -> int:
    return int((np.asarray(image) == ImageColor.getrgb(colour)).all(axis=2).sum())


def test_the_crop_is_framed_and_the_rest_faded():
    drawn = np.asarray(draw_photo(cell(), GREY))
    frame = ImageColor.getrgb(FRAME_COLOUR)
    for row, column in ((0, 48), (47, 48), (0, 95), (47, 95), (20, 48), (47, 70)):
        assert tuple(drawn[row, column]) == frame, (row, column)
    assert (drawn[10:38, 58:86] == 128).all()  # inside: as it is
    assert (drawn[:, :48] > 200).all()  # left of it: nearly paper
    assert (drawn[48:] > 200).all()  # below
    assert (drawn[:48, 96:] > 200).all()  # right of it


def test_what_counts_less_is_tinted_blue():
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (32, 0, 64, 64))  # the right half counts
    drawn = np.asarray(draw_photo(Cell(report=used(), thumbnail=GREY, mask=mask), GREY))
    left, right = drawn[24, 58], drawn[24, 86]
    assert left[2] > left[0] + 50
    assert tuple(right) == (128, 128, 128)


def test_a_crop_of_the_whole_photo_leaves_nothing_faded():
    whole = Cell(report=used(crop=(0, 0, 384, 192)), thumbnail=GREY, mask=None)
    assert not (np.asarray(draw_photo(whole, GREY)) > 240).any()


@pytest.mark.parametrize("crop", [(0, 0, 1, 1), (383, 191, 384, 192), (383.6, 0.4, 384, 0.8)])
def test_the_smallest_crop_is_shown_too(crop):
    tiny = Cell(report=used(crop=crop), thumbnail=GREY, mask=Image.new("L", (64, 64)))
    assert num_pixels_of(draw_photo(tiny, GREY), FRAME_COLOUR) >= 1


def test_every_picture_has_its_place_numbered_in_order():
    one, three = (draw_contact_sheet([cell(n) for n in range(1, last + 1)]) for last in (1, 3))
    frames = num_pixels_of(one, FRAME_COLOUR)
    assert frames > 300
    assert num_pixels_of(three, FRAME_COLOUR) == 3 * frames


def test_a_file_without_a_picture_keeps_its_place():
    sheet = draw_contact_sheet([Cell(report=skipped(1), thumbnail=None, mask=None), cell(2)])
    first, second = sheet.crop((0, 0, 204, 300)), sheet.crop((204, 0, 408, 300))
    assert num_pixels_of(first, REFUSED_COLOUR) > 0 == num_pixels_of(first, FRAME_COLOUR)
    assert num_pixels_of(second, FRAME_COLOUR) > 0 == num_pixels_of(second, REFUSED_COLOUR)


def test_what_is_not_used_stands_out_in_red():
    sheet = draw_contact_sheet(
        [cell(1), Cell(report=skipped(2), thumbnail=None, mask=None)],
    )
    assert num_pixels_of(draw_contact_sheet([cell(1)]), REFUSED_COLOUR) == 0
    assert num_pixels_of(sheet, REFUSED_COLOUR) > 700


def test_the_remark_is_written_below_the_number():
    plain, remarked = (
        draw_contact_sheet([Cell(report=report, thumbnail=GREY, mask=None)])
        for report in (used(), PhotoReport(**vars(used()) | {"warnings": ("blurry",)}))
    )
    difference = np.abs(np.asarray(plain, dtype=int) - np.asarray(remarked, dtype=int))
    rows, columns = np.nonzero(difference.sum(axis=2))
    assert 0 < np.ptp(rows) < 20
    assert 20 < np.ptp(columns) < 60


def test_a_long_remark_goes_on_in_a_second_line():
    """What most needs doing must not be cut off behind what the table's figures say too."""
    remarks = "blurry, no face found, too small, enlarged 1.7x"
    first, second = wrap_text(remarks, LARGE_FONT, 192)
    assert f"{first} {second}" == remarks
    assert all(LARGE_FONT.getlength(line) <= 192 for line in (first, second))
    assert wrap_text("", LARGE_FONT, 192) == []
    assert wrap_text("blurry", LARGE_FONT, 192) == ["blurry"]


@pytest.mark.parametrize("text", [30 * "too small ", 200 * "x", f"blurry {200 * 'x'} blurry"])
def test_what_does_not_fit_on_two_lines_ends_in_dots(text):
    lines = wrap_text(text, LARGE_FONT, 192)
    assert len(lines) <= 2
    assert any(line.endswith("...") for line in lines)
    assert all(LARGE_FONT.getlength(line) <= 192 for line in lines)


def test_both_lines_of_a_remark_are_drawn_within_the_cell():
    plain, remarked = (
        draw_contact_sheet([Cell(report=report, thumbnail=GREY, mask=None)])
        for report in (used(), PhotoReport(**vars(used()) | {"warnings": (80 * "blurry ",)}))
    )
    difference = np.abs(np.asarray(plain, dtype=int) - np.asarray(remarked, dtype=int))
    rows, columns = np.nonzero(difference.sum(axis=2))
    assert 20 < np.ptp(rows) < 36
    assert columns.max() < 204
    assert rows.max() < plain.height - 4


@pytest.mark.parametrize("num_pictures", [1, 2, 12, 100, 1_000, 10_000])
def test_no_number_of_pictures_makes_an_endless_sheet(num_pictures):
    cells = [cell(number) for number in range(1, num_pictures + 1)]
    sheet = draw_contact_sheet(cells)
    assert sheet.width * sheet.height < 8_000_000
    assert max(sheet.size) < 4_000


def test_of_too_many_files_those_without_a_picture_are_left_out():
    texts = [Cell(report=skipped(number), thumbnail=None, mask=None) for number in range(2_000)]
    with_one = draw_contact_sheet([*texts, cell(2_001)])
    assert num_pixels_of(with_one, FRAME_COLOUR) > 0


def test_photos_are_shown_whole_and_upright_with_their_own_masks(tmp_path):
    """Red above blue, sent lying on its side; the second has a mask, the first has none."""
    upright = Image.new("RGB", (300, 600), "blue")
    upright.paste("red", (0, 0, 300, 300))
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = encode(upright.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    transparent = noise(100, 100).convert("RGBA")
    transparent.putalpha(Image.new("L", (100, 100), 0))
    transparent.paste("white", (0, 0, 100, 50))
    prepared = prepare(tmp_path, ("1.png", lying), ("2.png", encode(transparent)), ("3.txt", b"x"))

    path = tmp_path / "sheet.pictures.png"
    write_contact_sheet(prepared, path)

    with Image.open(path) as sheet:
        assert sheet.format == "PNG"
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    first = pixels[40:220, 60:140]  # in the middle of the first square
    assert (first[5, :, 0] > first[5, :, 2] + 50).all()  # red above
    assert (first[-5, :, 2] > first[-5, :, 0] + 50).all()  # blue below
    second = pixels[40:220, 220:380]
    assert second[-30:, :, 2].mean() > second[-30:, :, 0].mean() + 40  # transparent: tinted
    assert abs(second[30, :, 2].mean() - second[30, :, 0].mean()) < 5


def test_a_sheet_can_be_drawn_of_whatever_was_sent(tmp_path):
    extremes = (
        ("wide.png", encode(noise(900, 64))),
        ("tall.png", encode(noise(64, 900))),
        ("small.png", encode(noise(16, 16))),
        ("half.jpg", photo()[:900]),
        ("text.txt", b"hello"),
    )
    sheet = draw_contact_sheet(cells_of(prepare(tmp_path, *extremes)))
    assert ImageOps.grayscale(sheet).getextrema() == (0, 255)
