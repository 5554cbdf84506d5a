"""Texts and tables that came with the pictures."""

import io
import logging
from pathlib import Path

import pytest

from preprocessing.archive import File, read_files
from preprocessing.captions import CaptionError, clean_text, read_caption
from preprocessing.errors import PictureError
from preprocessing.prepare import prepare_examples
from preprocessing.templates import TEMPLATES
from tests.pictures import encode, noise, photo, write, zip_of
from tests.test_tars import tar_of


def files_in(*files: tuple[str, bytes]) -> list[File]:
    return list(read_files(io.BytesIO(zip_of(*files)), "holiday.zip"))


def captions_in(*files: tuple[str, bytes]) -> dict[str, str]:
    """Name of each picture -> its caption, "" without one."""
    return {
        file.name: file.caption.text if file.caption else ""
        for file in files_in(*files)
        if file.is_picture
    }


@pytest.mark.parametrize(
    ("data", "caption"),
    [
        (b"a dog in the rain", "a dog in the rain"),
        (b"\n \r\n  a dog  in\tthe rain \r\nby Ann\n", "a dog in the rain"),
        ("ein Hund im Grünen".encode(), "ein Hund im Grünen"),
        ("ein Hund im Grünen".encode("utf-8-sig"), "ein Hund im Grünen"),
        ("ein Hund im Grünen".encode("utf-16"), "ein Hund im Grünen"),
        ("\ufeffein Hund im Grünen".encode("utf-16-be"), "ein Hund im Grünen"),
        ("ein Hund im Grünen, 5 €".encode("cp1252"), "ein Hund im Grünen, 5 €"),
        (b"\x81 dog", "\N{REPLACEMENT CHARACTER} dog"),
        (b"a \x00dog\x1b in\x07 the\x7f rain", "a dog in the rain"),
        ("\xff\xfea".encode("latin-1") + b"\x00b", "a\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_a_texts_first_line_is_read_in_any_usual_encoding(data, caption):
    assert read_caption(data) == caption


@pytest.mark.parametrize("data", [b"", b" \n\r\n\t", b"\xef\xbb\xbf", b"\x00\x01", b"\xff\xfe"])
def test_a_text_without_words_is_no_caption(data):
    with pytest.raises(CaptionError, match="empty"):
        read_caption(data)


def test_an_endless_text_is_cut_between_two_words():
    assert clean_text("very " * 300) == " ".join(["very"] * 200)
    assert len(clean_text("v" * 3_000)) == 1_000


@pytest.mark.parametrize(
    "name", ["Beach/IMG_1.txt", "beach/img_1.TXT", "Beach/IMG_1.caption", "beach/img_1.jpg.txt"]
)
def test_a_text_belongs_to_the_picture_of_its_name_in_its_folder(name):
    files = files_in(
        ("Beach/IMG_1.JPG", photo(1)), ("IMG_1.jpg", photo(2)), (name, b"a dog in the rain")
    )
    assert {file.name: file.caption and file.caption.text for file in files} == {
        "Beach/IMG_1.JPG": "a dog in the rain",
        "IMG_1.jpg": None,
    }
    assert [file.caption.source for file in files if file.caption] == ["text file"]


def test_texts_in_a_tar_are_read_wherever_they_stand_in_it():
    data = tar_of(("b.txt", b"a dog"), ("a.txt", b"a cat"), ("b.jpg", photo()), ("a.jpg", photo()))
    captions = [file.caption for file in read_files(io.BytesIO(data), "")]
    assert [caption and caption.text for caption in captions] == ["a cat", "a dog"]


def test_one_text_may_belong_to_two_pictures_of_its_name():
    captions = captions_in(("1.jpg", photo(1)), ("1.jpeg", photo(2)), ("1.txt", b"a dog"))
    assert captions == {"1.jpg": "a dog", "1.jpeg": "a dog"}


def test_a_text_with_a_pictures_whole_name_belongs_to_that_one_alone():
    captions = captions_in(
        *(("1.jpg", photo(1)), ("1.png", encode(noise(9, 9)))),
        *(("1.jpg.txt", b"a dog"), ("1.txt", b"a cat")),
    )
    assert captions == {"1.jpg": "a dog", "1.png": "a cat"}


def test_of_two_texts_for_one_picture_the_txt_is_used_and_this_is_said():
    (file,) = files_in(("1.caption", b"a cat"), ("1.jpg", photo()), ("1.txt", b"a dog"))
    assert file.caption
    assert file.caption.text == "a dog"
    assert file.remarks == ("several texts have its name: one is used, .txt before .caption",)


@pytest.mark.parametrize(
    ("text", "words"), [(b"", "it is empty"), (b"very " * 20_000, "more than 64 KiB")]
)
def test_a_text_that_cannot_be_used_does_not_cost_the_picture(text, words):
    (file,) = files_in(("1.jpg", photo()), ("1.txt", text))
    assert (file.data, file.caption) == (photo(), None)
    assert words in file.remarks[0]


def test_a_text_beside_a_mask_that_cannot_be_used_is_told_of_the_mask():
    (file,) = files_in(("1.jpg", photo()), ("1_mask.jpg", photo(2)), ("1_mask.txt", b""))
    assert file.remarks == ("the text of its mask's name is not used: it is empty",)


def test_a_text_without_a_picture_is_told_and_is_not_a_picture():
    files = files_in(("1.jpg", photo()), ("2.txt", b"a dog"), ("x/1.txt", b"a dog"))
    assert [(file.is_picture, file.problem[:35]) for file in files] == [
        (True, ""),
        (False, "a text, but no picture has its name"),
        (False, "a text, but no picture has its name"),
    ]


def test_a_picture_is_a_picture_even_if_it_is_called_a_text():
    assert [file.is_picture for file in files_in(("1.jpg", photo()), ("1.txt", photo()))] == [
        True,
        True,
    ]


def test_a_text_goes_before_a_table_and_a_table_before_a_name():
    table = b"file_name,text\na dog in the rain.jpg,a cat\n"
    picture = ("a dog in the rain.jpg", photo())
    text = ("a dog in the rain.txt", b"a bird")
    assert captions_in(picture) == {"a dog in the rain.jpg": "a dog in the rain"}
    assert captions_in(picture, ("captions.csv", table)) == {"a dog in the rain.jpg": "a cat"}
    assert captions_in(picture, ("captions.csv", table), text) == {
        "a dog in the rain.jpg": "a bird"
    }


def prepare(folder: Path, *files: tuple[str, bytes], custom_prompts: tuple[str, ...] = ()):
    return prepare_examples(
        archive=write(folder, zip_of(*files)),
        urls=(),
        task="object",
        resolution=64,
        custom_prompts=custom_prompts,
    )


MIXED = (
    ("1.jpg", photo(1)),
    ("1.txt", b"a secret dog in the rain"),
    ("2.jpg", photo(2)),
    ("3.jpg", photo(3)[:900]),
    ("4.jpg", photo(4)),
    ("captions.csv", b"file_name,text\n2.jpg,[trigger] asleep\n"),
)


def test_a_mixed_set_is_trained_with_captions_and_templates(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    prepared = prepare(tmp_path, *MIXED)
    assert [example.prompts for example in prepared.examples] == [
        ("{} a secret dog in the rain",),
        ("{} asleep",),
        TEMPLATES["object"],
    ]
    sources = [report.caption_source for report in prepared.reports]
    assert sources == ["text file", "table", "", "templates"]
    assert "2 of the 4 pictures sent brought one (text file 1, table 1)" in caplog.text
    assert "(picture no. 1): the subject is put in front" in caplog.text
    assert "secret" not in caplog.text


def test_custom_prompts_stay_with_their_pictures_beside_captions(tmp_path):
    prompts = ("{} one", "{} two", "{} three", "{} four")
    prepared = prepare(tmp_path, *MIXED, custom_prompts=prompts)
    assert [example.prompts for example in prepared.examples] == [
        ("{} a secret dog in the rain",),
        ("{} asleep",),
        ("{} four",),
    ]


def test_names_are_captions_only_without_custom_prompts(tmp_path):
    files = (("a dog in the rain.jpg", photo(1)), ("a fox on the grass.jpg", photo(2)))
    prompts = ("{} one", "{} two")
    assert [example.prompts for example in prepare(tmp_path, *files).examples] == [
        ("{} a dog in the rain",),
        ("{} a fox on the grass",),
    ]
    named = prepare(tmp_path, *files, custom_prompts=prompts)
    assert [example.prompts for example in named.examples] == [("{} one",), ("{} two",)]
    assert [report.caption_source for report in named.reports] == ["its prompt"] * 2


def test_a_name_keeps_its_capital_letters_and_its_place_for_the_subject(tmp_path):
    files = (("Dogs/TOK asleep.JPG", photo(1)), ("Dogs/TOK and Ann at Sea.jpg", photo(2)))
    assert [example.prompts for example in prepare(tmp_path, *files).examples] == [
        ("{} and Ann at Sea",),
        ("{} asleep",),
    ]


def test_texts_alone_are_no_pictures(tmp_path):
    files = (("1.txt", b"a dog"), ("captions.csv", b"file_name,text\n1.jpg,a dog\n"))
    with pytest.raises(PictureError, match=r"No usable pictures.*none of its rows.*a text, but no"):
        prepare(tmp_path, *files)


def test_a_single_picture_is_not_called_by_the_name_of_its_upload(tmp_path):
    path = write(tmp_path, photo(), "a dog in the rain.jpg")
    prepared = prepare_examples(
        archive=path, urls=(), task="object", resolution=64, custom_prompts=()
    )
    assert prepared.examples[0].prompts == TEMPLATES["object"]
