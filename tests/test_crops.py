"""Which square of a photo is trained on."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from preprocessing.crops import crop_about_mass, crop_around_face, crop_square

sides = st.integers(1, 6000)
resolutions = st.sampled_from((64, 256, 512, 1024))


@st.composite
def photos_with_a_face(draw):
    """Width and height, and the box of a face in there."""
    size = (draw(sides), draw(sides))
    left, right = sorted(draw(st.floats(0, size[0])) for _ in range(2))
    top, bottom = sorted(draw(st.floats(0, size[1])) for _ in range(2))
    assume(right - left >= 1)
    assume(bottom - top >= 1)
    return size, (left, top, right, bottom)


def test_a_wide_photo_is_cropped_in_the_middle():
    assert crop_square((300, 100)) == (100, 0, 200, 100)


def test_a_tall_photo_is_cropped_nearer_to_the_top_where_heads_are():
    assert crop_square((100, 300)) == (0, 80, 100, 180)


@pytest.mark.parametrize("size", [(300, 100), (100, 300)])
def test_the_soft_edge_of_a_mask_does_not_move_the_square(size):
    default = crop_square(size)
    start = max(default[:2])
    mass = np.zeros(300)
    mass[start + 10 : start + 90] = 1
    mass[start - 2 : start] = 0.5  # a hundredth of all
    assert crop_about_mass(size, mass) == default


@given(st.tuples(sides, sides))
def test_without_a_face_the_largest_square_in_the_photo_is_used(size):
    left, top, right, bottom = crop_square(size)
    assert right - left == bottom - top == min(size)
    assert left >= 0
    assert top >= 0
    assert right <= size[0]
    assert bottom <= size[1]


@given(photos_with_a_face(), resolutions, st.integers(1, 1000))
def test_a_crop_is_a_square_of_whole_pixels_in_the_photo(photo, resolution, position):
    size, face = photo
    left, top, right, bottom = crop = crop_around_face(size, face, resolution, position)
    assert all(edge == int(edge) for edge in crop)
    assert right - left == bottom - top
    assert left >= 0
    assert top >= 0
    assert right <= size[0]
    assert bottom <= size[1]


@given(photos_with_a_face(), resolutions, st.integers(1, 1000))
def test_a_face_is_whole_in_its_crop_if_it_fits_a_square_at_all(photo, resolution, position):
    size, face = photo
    left, top, right, bottom = crop_around_face(size, face, resolution, position)
    if face[2] - face[0] <= right - left:
        assert left <= face[0] + 1  # (edges are rounded to pixels)
        assert right >= face[2] - 1
    if face[3] - face[1] <= bottom - top:
        assert top <= face[1] + 1
        assert bottom >= face[3] - 1


@given(photos_with_a_face(), resolutions, st.integers(1, 1000))
def test_nothing_is_enlarged_while_the_photo_has_the_pixels(photo, resolution, position):
    size, face = photo
    left, _, right, _ = crop_around_face(size, face, resolution, position)
    assert right - left >= min(resolution, *size)


def test_a_face_fills_a_third_of_the_side():
    left, top, right, bottom = crop_around_face((4000, 3000), (2000, 900, 2240, 1200), 512, 1)
    assert right - left == bottom - top == 900
    assert (left + right) / 2 == 2120


def test_hair_and_neck_are_in_the_crop_with_more_room_below():
    _, top, _, bottom = crop_around_face((4000, 3000), (2000, 900, 2240, 1200), 512, 1)
    above, below = 900 - top, bottom - 1200
    assert above >= 0.5 * 300
    assert below > above


def test_where_there_is_little_room_hair_goes_before_chin_and_neck_before_hair():
    # a face of two thirds of the photo's height: no room for the neck
    _, top, _, bottom = crop_around_face((1000, 600), (300, 190, 600, 590), 64, 1)
    assert (top, bottom) == (0, 600)
    # a tall portrait: the square begins above the hair, although its middle would be lower
    _, top, _, _ = crop_around_face((600, 1000), (150, 250, 450, 600), 64, 1)
    assert top <= 250 - 0.5 * 350
    # a face as tall as the square: the chin stays, and so does the forehead
    _, top, _, bottom = crop_around_face((600, 2000), (0, 700, 500, 1290), 64, 1)
    assert bottom >= 1290
    assert top <= 700


@pytest.mark.parametrize(("position", "side"), [(1, 900), (2, 900), (3, 1500), (6, 1500)])
def test_each_third_photo_shows_more_than_the_head(position, side):
    left, _, right, _ = crop_around_face((2000, 1500), (900, 400, 1140, 700), 512, position)
    assert right - left == side


def test_a_face_too_small_for_a_wide_crop_is_cropped_closely_in_each_photo():
    left, _, right, _ = crop_around_face((2000, 1500), (900, 400, 1100, 650), 512, 3)
    assert right - left == 750


def test_a_face_in_a_corner_is_in_its_crop():
    assert crop_around_face((4000, 3000), (0, 0, 200, 250), 512, 1) == (0, 0, 750, 750)
    assert crop_around_face((4000, 3000), (3800, 2750, 4000, 3000), 512, 1) == (
        *(3250, 2250),
        *(4000, 3000),
    )


def test_a_photo_of_the_right_size_is_used_whole():
    assert crop_around_face((512, 512), (200, 100, 300, 230), 512, 1) == (0, 0, 512, 512)
