"""Whatever a file means by its numbers -> red, green and blue as screens show them."""

import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from preprocessing.errors import PhotoError
from preprocessing.photos import read_photo
from tests.pictures import display_p3, encode, noise, png_of_sixteen_bits, swapped_cmyk
from tests.squares import pixels_of, plain, remarks_on

SRGB_OF_P3_200_60_60 = (217.5, 41.7, 52.3)  # by the matrices of the two standards


def test_an_iphones_wide_colours_are_converted():
    pixels = pixels_of(encode(plain((200, 60, 60)), icc_profile=display_p3()))
    assert abs(pixels[0, 0] - SRGB_OF_P3_200_60_60).max() <= 1


def test_wide_colours_are_converted_behind_transparency_too():
    data = encode(plain((200, 60, 60, 255), "RGBA"), icc_profile=display_p3())
    assert abs(pixels_of(data)[0, 0] - SRGB_OF_P3_200_60_60).max() <= 1


def test_wide_colours_are_converted_behind_a_palette_too():
    data = encode(plain((200, 60, 60)).quantize(4), icc_profile=display_p3())
    assert abs(pixels_of(data)[0, 0] - SRGB_OF_P3_200_60_60).max() <= 1


def test_an_srgb_profile_changes_nothing():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = encode(noise(64, 64), icc_profile=profile)
    np.testing.assert_array_equal(pixels_of(data), np.asarray(noise(64, 64)))


@pytest.mark.parametrize("profile", [b"nonsense", display_p3()[:200]])
def test_a_broken_colour_profile_is_ignored_and_said(profile):
    data = encode(noise(64, 64), icc_profile=profile)
    np.testing.assert_array_equal(pixels_of(data), np.asarray(noise(64, 64)))
    assert "taken as sRGB" in remarks_on(data)[0]


def test_a_colour_profile_on_a_grey_photo_does_no_harm():
    assert (pixels_of(encode(plain(100, "L"), icc_profile=display_p3())) == 100).all()


def test_a_printers_cmyk_is_read():
    data = encode(plain((0, 255, 255, 0), "CMYK"), "JPEG", quality=100)
    assert abs(pixels_of(data)[0, 0].astype(int) - (255, 0, 0)).max() <= 3


def test_a_printers_colour_profile_is_used():
    data = encode(plain((0, 0, 0, 0), "CMYK"), "JPEG", quality=100, icc_profile=swapped_cmyk())
    assert remarks_on(data) == ()
    assert pixels_of(data).max() < 5  # in the profile's words, no ink is black
    data = encode(plain((255,) * 4, "CMYK"), "JPEG", quality=100, icc_profile=swapped_cmyk())
    assert pixels_of(data).min() > 250


def test_sixteen_bit_grey_is_scaled_and_not_clipped():
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    pixels = pixels_of(encode(Image.fromarray(ramp)))
    np.testing.assert_allclose(pixels[..., 0], ramp / 257, atol=0.51)


@pytest.mark.parametrize("type", ["<u2", ">u2", "<i4"])
def test_wider_greys_of_scanners_are_scaled(type):
    mode = {"<u2": "I;16", ">u2": "I;16B", "<i4": "I"}[type]
    pixels = np.full((64, 64), 30_000, type)
    image = Image.frombytes(mode, (64, 64), pixels.tobytes())
    assert (pixels_of(encode(image, "TIFF")) == round(30_000 / 257)).all()


def test_a_scanners_negative_greys_are_turned_over():
    """Zero is white there, as its tag says."""
    image = Image.fromarray(np.full((64, 64), 50_000, np.uint16))
    zero_is_black, zero_is_white = (struct.pack("<2H2I", 262, 3, 1, value) for value in (1, 0))
    data = encode(image, "TIFF")
    assert data.count(zero_is_black) == 1
    negative = data.replace(zero_is_black, zero_is_white)
    assert (pixels_of(negative) == 255 - round(50_000 / 257)).all()


def test_sixteen_bits_in_planes_are_refused_and_not_read_as_noise():
    width = height = 64
    plane = np.full((height, width), 30_000, "<u2").tobytes()
    tags = (
        *((256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, 8), (259, 3, 1, 1), (262, 3, 1, 2)),
        *((273, 4, 3, 14), (277, 3, 1, 3), (278, 4, 1, height), (279, 4, 3, 26), (284, 3, 1, 2)),
    )
    starts = [38 + number * len(plane) for number in range(3)]
    data = struct.pack(
        "<2sHI3H6I", b"II", 42, 38 + 3 * len(plane), 16, 16, 16, *starts, *[len(plane)] * 3
    )
    data += 3 * plane + struct.pack("<H", len(tags))
    data += b"".join(struct.pack("<2H2I", *tag) for tag in tags) + bytes(4)
    with pytest.raises(PhotoError, match="16 bits whose colours stand one after the other"):
        read_photo(data, 64)


def test_sixteen_bits_a_channel_are_scaled():
    pixels = pixels_of(png_of_sixteen_bits((65535, 32896, 0)))
    assert pixels[0, 0].tolist() == [255, 128, 0]


@pytest.mark.parametrize("white", [1.0, 255.0, 4095.0])
def test_fractions_are_scaled_and_not_black(white):
    ramp = np.linspace(0, white, 64 * 64).reshape(64, 64).astype(np.float32)
    pixels = pixels_of(encode(Image.fromarray(ramp), "TIFF")).astype(float)
    assert abs(pixels.mean() - 127.5) < 4 or white == 4095.0
    assert pixels.min() == 0
    assert np.all(np.diff(pixels[..., 0].ravel()) >= 0)


def test_values_that_are_no_numbers_are_black():
    holes = np.full((64, 64), 0.5, np.float32)
    holes[0, :3] = (np.nan, np.inf, -np.inf)
    pixels = pixels_of(encode(Image.fromarray(holes), "TIFF"))
    assert (pixels[0, :3] == 0).all()
    assert (pixels[1:] == 128).all()


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_every_kind_of_pixel_becomes_rgb(mode):
    assert pixels_of(encode(noise(64, 64).convert(mode))).shape == (64, 64, 3)


def test_transparent_pixels_become_white_and_it_is_said():
    image = plain((10, 20, 30, 255), "RGBA")
    image.paste((200, 0, 0, 0), (0, 0, 32, 64))
    data = encode(image)
    assert (pixels_of(data)[:, :32] == 255).all()
    assert (pixels_of(data)[:, 32:] == (10, 20, 30)).all()
    assert remarks_on(data) == ("transparent pixels filled with white",)


def test_half_transparent_pixels_are_mixed_with_white():
    assert pixels_of(encode(plain((0, 0, 0, 128), "RGBA")))[0, 0].tolist() == [127] * 3


def test_a_grey_picture_with_an_alpha_channel_is_put_on_white():
    image = plain((0, 255), "LA")
    image.paste((0, 0), (0, 0, 64, 32))
    pixels = pixels_of(encode(image))
    assert (pixels[:32] == 255).all()
    assert (pixels[32:] == 0).all()


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_colour_that_stands_for_transparency_becomes_white(mode):
    colour = (0, 0, 0) if mode == "RGB" else 0
    image = plain(colour, mode)
    image.paste((1, 1, 1) if mode == "RGB" else 1, (0, 32, 64, 64))
    assert (pixels_of(encode(image, transparency=colour))[:32] == 255).all()


def test_transparency_is_turned_upright_with_its_picture():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter to the right: what is left will be on top
    image = plain((10, 20, 30, 255), "RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 32, 64))
    photo = read_photo(encode(image, exif=exif.tobytes()), 64)
    assert (np.asarray(photo.image)[:32] == 255).all()
    assert (np.asarray(photo.alpha)[:32] == 0).all()
    assert (np.asarray(photo.alpha)[32:] == 255).all()


def test_an_opaque_picture_with_an_alpha_channel_is_used_without_remark():
    image = noise(64, 64).convert("RGBA")
    np.testing.assert_array_equal(pixels_of(encode(image)), np.asarray(noise(64, 64)))
    assert remarks_on(encode(image)) == ()
