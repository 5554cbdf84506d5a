"""Which pixels are worth learning."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from preprocessing.crops import crop_square
from preprocessing.errors import PhotoError
from preprocessing.masks import BACKGROUND_WEIGHT, crop_mask, mask_from_alpha, mask_from_file
from preprocessing.photos import Photo, read_photo, resize
from tests.pictures import encode, noise
from training.batches import loss_weight

BACKGROUND = round(255 * BACKGROUND_WEIGHT)


def disc(size: tuple[int, int], centre: tuple[int, int], radius: int) -> Image.Image:
    """White on black, mode L."""
    image = Image.new("L", size)
    ImageDraw.Draw(image).circle(centre, radius, fill=255)
    return image


def at_64(data: bytes) -> Photo:
    return read_photo(data, 64)


def test_the_opaque_part_of_a_picture_is_its_mask():
    picture = noise(90, 60)
    alpha = disc((90, 60), (30, 30), 20)
    picture.putalpha(alpha)
    mask = mask_from_alpha(picture)
    assert mask is not None
    np.testing.assert_array_equal(np.asarray(mask), np.asarray(alpha))


def test_a_transparent_colour_of_a_palette_counts_as_alpha():
    picture = Image.new("P", (8, 8), 1)
    picture.putpalette([255, 0, 0, 0, 255, 0])
    picture.paste(0, (0, 0, 4, 8))
    picture.info["transparency"] = 0
    mask = mask_from_alpha(picture)
    assert mask is not None
    assert [mask.getpixel((x, 4)) for x in (1, 6)] == [0, 255]


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA"])
def test_a_picture_that_hides_nothing_has_no_mask(mode):
    assert mask_from_alpha(noise(20, 20).convert(mode)) is None


@pytest.mark.parametrize("scale", [1, 2])
def test_a_mask_is_cropped_exactly_where_the_picture_is(scale):
    """The picture shows what the mask marks, so after the same crop they are the same still."""
    size = (300, 200)
    drawn = disc(size, (120, 70), 40)
    photo = read_photo(encode(drawn.convert("RGB")), 64)
    mask = mask_from_file(encode(drawn.resize((300 * scale, 200 * scale))), size, at_64)
    box = (61.5, 10.25, 189.5, 138.25)
    image = np.asarray(resize(photo, box, 64).convert("L")).astype(float)
    cropped = np.asarray(crop_mask(mask, size, box, 64)).astype(float)
    assert cropped.min() == BACKGROUND
    assert cropped.max() == 255
    restored = (cropped - BACKGROUND) * 255 / (255 - BACKGROUND)
    assert abs(restored - image).mean() < 2  # Lanczos and bilinear differ along the edge
    assert abs((restored > 127) != (image > 127)).mean() < 0.01


def test_a_mask_of_another_shape_is_refused_with_both_sizes():
    with pytest.raises(PhotoError, match=r"200 x 300 pixels, the picture 300 x 200.*same shape"):
        mask_from_file(encode(noise(200, 300)), (300, 200), at_64)


def test_a_mask_that_an_editor_rounded_is_taken():
    assert mask_from_file(encode(noise(100, 67)), (300, 200), at_64).size == (100, 67)


def test_a_mask_that_cannot_be_read_says_that_it_is_the_mask():
    with pytest.raises(PhotoError, match="its mask is unusable"):
        mask_from_file(encode(noise(90, 60))[:200], (90, 60), at_64)


@pytest.mark.parametrize("value", [0, 255])
def test_a_mask_of_one_colour_counts_every_pixel_the_same(value):
    mask = crop_mask(Image.new("L", (90, 60), value), (90, 60), crop_square((90, 60)), 64)
    torch.testing.assert_close(loss_weight(mask, 8, 8), torch.ones(1, 8, 8))


def test_a_speck_of_white_does_not_become_the_whole_lesson():
    mask = crop_mask(disc((640, 640), (320, 320), 3), (640, 640), (0, 0, 640, 640), 64)
    assert loss_weight(mask, 64, 64).max() < 1 / BACKGROUND_WEIGHT
