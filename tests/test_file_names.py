"""Which file names are captions."""

import zipfile

import pytest

from preprocessing.file_names import captions_from_names
from tests.conftest import REPOSITORY

EXAMPLES = sorted((REPOSITORY / "examples").glob("*.zip"))
SENTENCES = ["a boat under the bridge", "my sister asleep on a red sofa"]


@pytest.mark.parametrize(
    ("name", "caption"),
    [
        ("a dog in the rain", "a dog in the rain"),
        ("a_dog_in_the_rain", "a dog in the rain"),
        ("a-dog-in-the-rain-3", "a dog in the rain"),
        ("a dog in the rain (2)", "a dog in the rain"),
        ("A dog in the rain_0012", "A dog in the rain"),
        ("Ann's dog, with 2 cats", "Ann's dog, with 2 cats"),
        ("a dog at the party in 2019", "a dog at the party"),
        ("a dog on the way to the_7", "a dog on the way"),
        ("a dog at the party I was in", "a dog at the party I was in"),
    ],
)
def test_a_name_that_reads_like_a_sentence_is_a_caption(name, caption):
    assert captions_from_names([name, *SENTENCES]) == [caption, *SENTENCES]


@pytest.mark.parametrize(
    "name",
    [
        *("IMG_1234", "IMG_20231224_181502", "DSC00012", "PXL_20230101_101010.MP", "DJI_0042"),
        *("WhatsApp Image 2023-01-01 at 12.33.44", "Screenshot 2023-01-01 at 10.22.33 AM"),
        *("Screen Shot of the desk at noon", "Photo on 1-2-20 at 3.45 PM", "Image from iOS (3)"),
        *("image from my iphone", "a picture from the camera", "Sent from my Android phone"),
        *("Copy of a dog in the rain", "a copy of image", "Untitled design of the year"),
        *("12", "2023-01-01", "0001 (2)", "image", "photo 3", "download (1)", "", "(1)", "-", "_"),
        *("d41d8cd98f00b204e9800998ecf8427e", "123e4567-e89b-12d3-a456-426614174000"),
        *("8f3e2a1b of the a4b1 in 99aa", "photo-of-a-dog-by-ann-on-uHVRvDr7pg-unsplash"),
        *("pexels-photo-of-a-dog-in-the-rain-774909", "a b c the d", "xkcd of the bcdfg"),
        *("penguin-noto", "penguin1", "New York trip", "John Smith in 2019", "ann and bob"),
        *("ein Hund liegt im Gras", "un perro bajo la lluvia gris", "写真 の 中 の 犬"),
        *("a dog 2019 in the rain 2020 again", "C:a dog in the rain", "a dog in the rain" * 20),
    ],
)
def test_any_other_name_is_not(name):
    assert captions_from_names([name, *SENTENCES]) == ["", *SENTENCES]


def test_one_name_like_a_sentence_among_many_others_is_a_coincidence():
    names = ["smiling face with sunglasses mono", "dog mono", "cat mono"]
    assert captions_from_names(names) == ["", "", ""]


def test_a_sentence_that_all_names_share_says_nothing_about_any_picture():
    assert captions_from_names([f"my dog in the garden {n}" for n in range(9)]) == [""] * 9
    assert captions_from_names(["My dog in the garden 1", "my dog in the garden"]) == [""] * 2
    assert captions_from_names(["my dog in the garden 1"]) == ["my dog in the garden"]


def test_names_that_mostly_call_the_subject_by_its_name_would_compete_with_the_new_word():
    named = ["John Smith with the wife", "john's day at the sea", "John, in a red car"]
    assert captions_from_names([*named, "a boat under the bridge"]) == [""] * 4
    others = ["a boat under the bridge", "two cats on the roof", "his house in the snow"]
    assert captions_from_names([named[0], *others]) == [named[0], *others]


@pytest.mark.parametrize("name", ["TOK asleep 2", "photo of [trigger]_3", "{} im Gras", "un {}"])
def test_a_name_with_a_place_for_the_subject_is_always_meant_as_a_caption(name):
    captions = captions_from_names([name, "IMG_1", "IMG_2"])
    assert captions[0]
    assert captions[1:] == ["", ""]


def test_the_subject_alone_is_no_caption():
    assert captions_from_names(["TOK", "TOK 1", "{}_2"]) == ["", "", ""]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_have_no_captions(path):
    with zipfile.ZipFile(path) as archive:
        stems = [name.removesuffix(".png") for name in archive.namelist()]
    assert captions_from_names(stems) == [""] * len(stems)


@pytest.mark.parametrize("filler", ["_", " ", "1 ", "(1)", "a ", "-1"])
def test_an_endless_name_takes_no_time(filler):
    assert captions_from_names([filler * 30_000] * 500) == [""] * 500
    captions_from_names([filler * (250 // len(filler))] * 500)
