"""Which pixels are worth learning."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from preprocessing.crops import crop_around_face, crop_square
from preprocessing.cuts import cut_square, read_mask
from preprocessing.errors import PhotoError
from preprocessing.masks import (
    BACKGROUND_WEIGHT,
    crop_mask,
    marks_nothing,
    mask_from_file,
    mask_of_head,
)
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


def test_a_mask_fits_a_picture_that_was_decoded_small():
    photo = at_64(encode(Image.new("RGB", (1600, 1200)), "JPEG"))
    assert photo.image.width < photo.size[0]
    strip = Image.new("L", (160, 120))
    strip.paste(255, (40, 0, 80, 120))  # in the photo from 400 to 800
    cut = cut_square(photo, strip, 64)
    assert cut.crop == (200, 0, 1400, 1200)
    values = np.asarray(cut.mask)
    assert values[:, 12:31].min() == 255
    assert values[:, :9].max() == values[:, 34:].max() == BACKGROUND


def test_a_mask_of_another_shape_is_refused_with_both_sizes():
    with pytest.raises(PhotoError, match=r"200 x 300 pixels, the picture 300 x 200.*same shape"):
        mask_from_file(encode(disc((200, 300), (90, 90), 40)), (300, 200), at_64)


def test_a_mask_of_nearly_the_same_shape_is_refused_too():
    """Stretched by a twentieth it would mark what is beside the subject."""
    with pytest.raises(PhotoError, match="same shape"):
        mask_from_file(encode(disc((315, 200), (90, 90), 40)), (300, 200), at_64)


def test_if_a_mask_cannot_be_read_the_pictures_transparency_is_its_mask():
    picture = noise(90, 60)
    picture.putalpha(disc((90, 60), (40, 30), 20))
    photo = at_64(encode(picture))
    own_mask = read_mask(photo, encode(noise(90, 60).convert("L"))[:200], at_64)
    assert own_mask.mask is photo.alpha
    assert own_mask.mask is not None
    assert own_mask.remark == "its transparency is its mask"
    assert own_mask.warning.startswith("its mask is not used: ")


@pytest.mark.parametrize(("value", "is_nothing"), [(0, True), (5, True), (40, False)])
def test_the_last_of_a_soft_edge_marks_nothing(value, is_nothing):
    mask = crop_mask(Image.new("L", (90, 60), value), (90, 60), crop_square((90, 60)), 64)
    assert marks_nothing(mask) == is_nothing


def test_a_mask_that_an_editor_rounded_is_taken():
    assert mask_from_file(encode(noise(100, 67).convert("L")), (300, 200), at_64).size == (100, 67)


@pytest.mark.parametrize("opacity", [254, 200])
def test_a_mask_that_is_hardly_transparent_says_with_its_colours_what_it_marks(opacity):
    drawn = disc((300, 200), (90, 90), 40).convert("RGBA")
    drawn.putalpha(opacity)
    mask = mask_from_file(encode(drawn), (300, 200), at_64)
    marked, other = (np.asarray(mask)[y, x] for x, y in ((90, 90), (290, 190)))
    assert marked == 255
    assert other <= 255 - opacity


def test_a_mask_that_cannot_be_read_says_that_it_is_the_mask():
    with pytest.raises(PhotoError, match="its mask is not used"):
        mask_from_file(encode(noise(90, 60))[:200], (90, 60), at_64)


@pytest.mark.parametrize("value", [0, 255])
def test_a_mask_of_one_colour_counts_every_pixel_the_same(value):
    mask = crop_mask(Image.new("L", (90, 60), value), (90, 60), crop_square((90, 60)), 64)
    torch.testing.assert_close(loss_weight(mask, 8, 8), torch.ones(1, 8, 8))


def test_a_speck_of_white_does_not_become_the_whole_lesson():
    mask = crop_mask(disc((640, 640), (320, 320), 3), (640, 640), (0, 0, 640, 640), 64)
    assert loss_weight(mask, 64, 64).max() < 1 / BACKGROUND_WEIGHT


FACE = (200.0, 100.0, 280.0, 200.0)


def test_a_head_is_marked_from_hair_to_chin_and_from_ear_to_ear():
    mask = np.asarray(mask_of_head(FACE, (0, 0, 512, 512), 512))
    assert mask[100:200, 200:280].min() == 255  # the whole face
    assert mask[50, 240] > 200  # hair, half a face higher
    assert mask[150, [190, 290]].min() == 255  # ears
    assert mask[450, 240] == mask[150, 450] == BACKGROUND


def test_the_edge_of_a_mask_is_soft():
    row = np.asarray(mask_of_head(FACE, (0, 0, 512, 512), 512))[130].astype(int)
    assert abs(np.diff(row)).max() < 20
    assert (np.diff(row[:240]) >= 0).all()
    assert (np.diff(row[240:]) <= 0).all()


def test_a_mask_of_a_head_has_exactly_the_geometry_of_its_crop():
    """Drawn over the whole photo and then cut out as the photo is, it is the same mask."""
    whole = mask_of_head(FACE, (0, 0, 512, 512), 512)
    crop = crop_around_face((512, 512), FACE, 64, 1)
    cut = whole.resize((64, 64), Image.Resampling.BOX, box=crop)
    difference = np.asarray(cut).astype(int) - np.asarray(mask_of_head(FACE, crop, 64))
    assert abs(difference).max() <= 6  # (the mean over a pixel is not its middle)
    assert abs(np.diff(np.asarray(cut).astype(int))).max() > 30  # so one pixel off would be seen


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_a_mask_does_not_depend_on_the_size_of_the_photo(scale):
    face, crop = ([scale * v for v in box] for box in (FACE, (100, 0, 400, 300)))
    expected = mask_of_head(FACE, (100, 0, 400, 300), 64)
    np.testing.assert_array_equal(mask_of_head(tuple(face), tuple(crop), 64), expected)


def test_a_close_up_is_marked_too():
    """The prior service's mask was silently empty where a box reached beyond the picture."""
    mask = np.asarray(mask_of_head((0, 0, 64, 64), (0, 0, 64, 64), 64))
    assert mask.min() > 200
    assert mask[:56].min() == 255


def test_the_background_keeps_an_eighth_of_the_weight_of_the_face():
    weight = loss_weight(mask_of_head(FACE, (0, 0, 512, 512), 512), 64, 64)
    torch.testing.assert_close(weight.mean(), torch.tensor(1.0))
    torch.testing.assert_close(weight.min() / weight.max(), torch.tensor(BACKGROUND / 255))
