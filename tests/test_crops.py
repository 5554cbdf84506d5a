"""Which square of a photo is trained on."""

from preprocessing.crops import crop_square


def test_a_wide_photo_is_cropped_in_the_middle():
    assert crop_square((300, 100)) == (100, 0, 200, 100)


def test_a_tall_photo_is_cropped_nearer_to_the_top_where_heads_are():
    assert crop_square((100, 300)) == (0, 80, 100, 180)
