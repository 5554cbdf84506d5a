"""The bytes of a photo -> the square that is trained on."""

import contextlib
import io
import struct
import warnings

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from preprocessing.crops import crop_square
from preprocessing.errors import PhotoError
from preprocessing.photos import read_photo, resize
from tests.photographs import photograph
from tests.pictures import (
    HEIC,
    HEIC_SIDEWAYS,
    claim_size,
    encode,
    noise,
)
from tests.squares import pixels_of, plain, remarks_on

ALL_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "JPEG2000")
ORIENTATION = 0x0112
# What a viewer must do to a photo that is tagged with an orientation, to show it upright.
SHOW_UPRIGHT = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).transpose(1, 0, 2),
    8: lambda pixels: np.rot90(pixels, 1),
}


def with_orientation(orientation: int, format: str, **options: object) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encode(noise(80, 64), format, exif=exif, **options)


@pytest.mark.parametrize("format", ALL_FORMATS)
def test_every_format_is_read(format):
    image = noise(80, 64).resize((8, 8)).resize((80, 64), Image.Resampling.BICUBIC)
    difference = pixels_of(encode(image, format)).astype(int) - np.asarray(image)
    assert abs(difference).mean() < 6


@pytest.mark.parametrize("data", [HEIC, HEIC_SIDEWAYS])
def test_an_iphones_heic_is_read_upright(data):
    pixels = pixels_of(data)
    assert pixels.shape == (96, 64, 3)
    assert abs(pixels[10, 10].astype(int) - (200, 60, 60)).max() < 12
    assert abs(pixels[90, 10].astype(int) - (40, 90, 200)).max() < 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_taken_sideways_is_turned_upright(orientation):
    photo = read_photo(with_orientation(orientation, "PNG"), 64)
    upright = SHOW_UPRIGHT[orientation](np.asarray(noise(80, 64)))
    np.testing.assert_array_equal(np.asarray(photo.image), upright)
    assert photo.size == photo.image.size


@pytest.mark.parametrize("format", ["JPEG", "TIFF", "WEBP", "AVIF"])
def test_every_camera_format_is_turned_upright(format):
    assert read_photo(with_orientation(6, format), 64).size == (64, 80)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0MM\0*\0\0\0\x08\0\x01", b"Exif\0\0nonsense", b"Exif\0\0"]
)
def test_broken_exif_does_not_lose_the_photo(exif):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert pixels_of(encode(noise(64, 64), "JPEG", exif=exif)).shape == (64, 64, 3)


@pytest.mark.parametrize("orientation", [0, 9, 99])
def test_an_orientation_that_does_not_exist_is_ignored(orientation):
    assert read_photo(with_orientation(orientation, "PNG"), 64).size == (80, 64)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_an_animation_gives_its_first_frame_and_it_is_said(format):
    red, blue = plain((255, 0, 0)), plain((0, 0, 255))
    data = encode(red, format, save_all=True, append_images=[blue])
    assert abs(pixels_of(data)[0, 0].astype(int) - (255, 0, 0)).max() < 4
    assert remarks_on(data) == ("only the first of its frames or pages is used",)


def test_a_phones_multi_picture_file_is_a_plain_photo():
    data = encode(plain((255, 0, 0)), "MPO", save_all=True, append_images=[plain((0, 0, 255))])
    assert abs(pixels_of(data)[0, 0].astype(int) - (255, 0, 0)).max() < 4
    assert remarks_on(data) == ()


@pytest.mark.parametrize("format", ALL_FORMATS)
@pytest.mark.parametrize("kept", [0.05, 0.5, 0.9])
def test_a_photo_that_was_cut_off_is_refused(format, kept):
    data = encode(noise(200, 200), format)
    with pytest.raises(PhotoError, match="cut off"):
        read_photo(data[: int(kept * len(data))], 64)


@pytest.mark.parametrize("kept", [0.05, 0.5, 0.9, 0.99])
@pytest.mark.parametrize(
    "data", [HEIC, encode(noise(200, 200), "JPEG2000", no_jp2=True)], ids=["HEIC", "codestream"]
)
def test_a_photo_that_was_cut_off_is_refused_in_its_other_wrappings_too(data, kept):
    with pytest.raises(PhotoError, match="cut off"):
        read_photo(data[: int(kept * len(data))], 64)


@pytest.mark.parametrize("format", ["PPM", "TGA", "ICO", "PCX", "EPS", "DDS", "SGI"])
def test_formats_that_no_phone_or_designer_sends_are_never_decoded(format):
    with pytest.raises(PhotoError, match="damaged or cut off") as refusal:
        read_photo(encode(noise(64, 64), format), 64)
    assert isinstance(refusal.value.__cause__, UnidentifiedImageError)


@pytest.mark.parametrize("data", [b"", b"hello", HEIC[:300], b"\xff\xd8\xff" + bytes(99)])
def test_what_is_no_picture_is_refused(data):
    with pytest.raises(PhotoError, match="damaged or cut off"):
        read_photo(data, 64)


@pytest.mark.filterwarnings("ignore")  # Pillow's, which prepare_examples leaves out
@pytest.mark.parametrize(
    "data",
    [HEIC, *(encode(noise(70, 64), format) for format in ALL_FORMATS)],
    ids=["HEIC", *ALL_FORMATS],
)
def test_a_photo_with_random_damage_is_used_or_refused(data):
    random = np.random.default_rng(0)
    sound = np.frombuffer(data, np.uint8)
    for num_changes in (1, 3, 10) * 10:
        broken = sound.copy()
        where = random.integers(0, len(sound), num_changes)
        broken[where] = random.integers(0, 256, num_changes)
        with contextlib.suppress(PhotoError):
            assert read_photo(broken.tobytes(), 64).image.mode == "RGB"


def test_long_texts_and_large_profiles_in_a_png_do_not_make_it_a_damaged_one():
    texts = PngImagePlugin.PngInfo()
    texts.add_text("history", 3_000_000 * "x", zip=True)
    data = encode(noise(64, 64), pnginfo=texts, icc_profile=bytes(2_000_000))
    assert (pixels_of(data) == np.asarray(noise(64, 64))).all()


@pytest.mark.parametrize(("width", "height"), [(10_001, 10_000), (2**31 - 1, 2**31 - 1)])
def test_too_many_pixels_are_refused_before_they_are_decoded(width, height):
    with pytest.raises(PhotoError, match="too large: at most 100 megapixels"):
        read_photo(claim_size(width, height), 64)


def test_a_cameras_raw_file_is_not_mistaken_for_its_thumbnail():
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[254] = 1
    with pytest.raises(PhotoError, match="raw file"):
        read_photo(encode(noise(160, 120), "TIFF", tiffinfo=tags), 64)


@pytest.mark.parametrize(("resolution", "smallest"), [(64, 16), (512, 128), (1024, 256)])
def test_a_picture_may_be_enlarged_four_times_and_no_further(resolution, smallest):
    assert read_photo(encode(noise(300, smallest)), resolution).size == (300, smallest)
    with pytest.raises(PhotoError, match=f"too small for resolution {resolution}.*{smallest}"):
        read_photo(encode(noise(300, smallest - 1)), resolution)


def test_a_huge_jpeg_is_decoded_small_and_cropped_where_it_should_be():
    squares = Image.new("RGB", (6400, 4800))
    squares.paste((250, 250, 250), (800, 0, 5600, 4800))
    photo = read_photo(encode(squares, "JPEG"), 64)
    assert photo.size == (6400, 4800)
    assert photo.image.size == (200, 150)
    image = resize(photo, crop_square(photo.size), 64)
    inside = np.asarray(image)[:, 2:-2].astype(int)  # Lanczos looks across the edge of the crop
    assert abs(inside - 250).max() < 6


def test_two_hundred_megapixels_of_a_phone_are_read():
    photo = read_photo(encode(Image.new("L", (16320, 12240), 90), "JPEG"), 512)
    assert photo.size == (16320, 12240)
    assert photo.image.size == (2040, 1530)


def test_more_than_a_hundred_megapixels_are_refused_where_they_cannot_be_decoded_small():
    data = encode(noise(64, 64), "JPEG", progressive=True)
    frame = data.index(b"\xff\xc2") + 5  # behind its mark, length and depth: height, width
    huge = data[:frame] + struct.pack(">2H", 12240, 16320) + data[frame + 4 :]
    with pytest.raises(PhotoError, match="16320 x 12240 pixels is too large"):
        read_photo(huge, 512)


def test_a_huge_jpeg_on_its_side_keeps_its_upright_size():
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    photo = read_photo(encode(Image.new("RGB", (6400, 4800)), "JPEG", exif=exif), 64)
    assert photo.size == (4800, 6400)
    assert photo.image.size == (150, 200)


@pytest.mark.parametrize(
    ("headroom", "format", "size"),
    [
        (2, "JPEG", (300, 225)),
        (4, "JPEG", (600, 450)),
        (9, "JPEG", (1200, 900)),
        (2, "PNG", (172, 129)),
        (7, "PNG", (600, 450)),
        (8, "PNG", (1200, 900)),
    ],
)
def test_a_photo_keeps_the_pixels_that_a_crop_may_need(headroom, format, size):
    photo = read_photo(encode(noise(1200, 900), format), 64, headroom)
    assert photo.size == (1200, 900)
    assert photo.image.size == size


def test_a_jpeg_of_less_than_three_times_the_resolution_is_decoded_whole():
    data = encode(noise(236, 177), "JPEG")
    np.testing.assert_array_equal(pixels_of(data), np.asarray(Image.open(io.BytesIO(data))))


def test_a_jpeg_that_is_decoded_small_looks_like_one_that_is_not():
    smooth = noise(30, 30).resize((1200, 1200), Image.Resampling.BICUBIC)
    data = encode(smooth, "JPEG", quality=95)
    small, whole = (read_photo(data, 64, headroom) for headroom in (2, 20))
    assert small.image.size < whole.image.size == (1200, 1200)
    images = (np.asarray(resize(photo, (0, 0, 1200, 1200), 64)) for photo in (small, whole))
    assert abs(np.subtract(*(image.astype(int) for image in images))).max() <= 3


def test_a_photo_that_is_decoded_at_a_quarter_is_as_near_as_pillows_own_filter():
    """The ratio of 12 megapixels to 512; pixel-sharp, as a phone's own pixels are not."""
    cup = photograph("coffee.png").crop((0, 0, 512, 384))
    data, box = encode(cup, "JPEG", quality=92), (64, 0, 448, 384)
    photo = read_photo(data, 65)
    assert photo.image.size == (128, 96)
    whole = Image.open(io.BytesIO(data))
    expected = whole.resize((65, 65), Image.Resampling.LANCZOS, box=box)
    squares = (resize(photo, box, 65), whole.resize((65, 65), Image.Resampling.BICUBIC, box=box))
    ours, bicubic = (
        abs(np.asarray(square).astype(int) - np.asarray(expected)).mean() for square in squares
    )
    assert ours < 1.25 * bicubic < 2.0


@pytest.mark.parametrize("resolution", [64, 512])
def test_a_picture_of_the_right_size_keeps_every_bit(resolution):
    original = noise(resolution, resolution)
    photo = read_photo(encode(original), resolution)
    image = resize(photo, crop_square(photo.size), resolution)
    np.testing.assert_array_equal(np.asarray(image), np.asarray(original))


def test_a_crop_of_the_right_size_keeps_every_bit():
    original = noise(101, 64)
    image = resize(read_photo(encode(original), 64), crop_square((101, 64)), 64)
    np.testing.assert_array_equal(np.asarray(image), np.asarray(original)[:, 18:82])


def test_resizing_is_one_lanczos_from_the_original():
    original = noise(1000, 700)
    photo = read_photo(encode(original), 64)
    image = resize(photo, (150, 0, 850, 700), 64)
    expected = original.resize((64, 64), Image.Resampling.LANCZOS, box=(150, 0, 850, 700))
    assert abs(np.asarray(image).astype(int) - np.asarray(expected)).mean() < 1.5
