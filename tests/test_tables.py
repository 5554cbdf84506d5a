"""Tables of captions that came with the pictures."""

import json
import logging
import unicodedata
import warnings

import pytest

from preprocessing.tables import read_table
from tests.pictures import photo
from tests.test_captions import captions_in, files_in

JSONL = '{"file_name": "1.jpg", "text": "a dog"}\n\n{"file_name": "x/2.JPG", "text": "a cat"}\n'


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("metadata.jsonl", JSONL),
        ("captions.JSONL", JSONL.replace("file_name", "File_Name").replace("text", "Text ")),
        ("metadata.csv", "file_name,text\n1.jpg,a dog\nX/2.jpg,a cat\n"),
        ("captions.csv", "image_file,caption\r\n1.jpg,a dog\r\nx\\2.jpg,a cat\r\n"),
        ("captions.csv", "filename,text\n1.jpg,a dog\nx/2.jpg,a cat"),
        ("Caption.csv", 'Caption;Likes;File_Name\n"a dog";3;./1.jpg\na cat;;x/2.jpg'),
        ("captions.csv", "\ufefffile_name\ttext\n1.jpg\ta dog\nx/2.jpg\ta cat"),
    ],
)
def test_a_table_names_pictures_and_their_captions(name, table):
    files = (("1.jpg", photo(1)), ("x/2.jpg", photo(2)), ("3.jpg", photo(3)))
    assert captions_in((name, table.encode()), *files) == {
        "1.jpg": "a dog",
        "x/2.jpg": "a cat",
        "3.jpg": "",
    }


@pytest.mark.parametrize(
    "row",
    [
        "1.jpg,a dog, asleep, on a sofa",
        '1.jpg, "a dog, asleep, on a sofa"',
        '1.jpg,"a dog, asleep, on a sofa",,',
    ],
)
def test_a_caption_keeps_its_commas_whether_or_not_it_stands_in_quotes(row):
    table = f"file_name,text\n{row}\n".encode()
    assert read_table(table, "captions.csv") == {"1.jpg": "a dog, asleep, on a sofa"}


def test_what_has_no_column_is_no_part_of_a_caption_in_another():
    assert read_table(b"text,file_name\na dog,1.jpg,5,6\n", "captions.csv") == {"1.jpg": "a dog"}


def test_a_table_speaks_of_the_pictures_in_its_own_folder():
    table = b"file_name,text\n1.jpg,a dog\n"
    files = (("1.jpg", photo(1)), ("x/1.jpg", photo(2)), ("x/metadata.csv", table))
    assert captions_in(*files) == {"1.jpg": "", "x/1.jpg": "a dog"}


def test_a_cell_in_quotes_may_have_lines_and_a_bare_quote_is_a_character():
    table = b'file_name,text\n1.jpg,"a dog,\nasleep"\n2.jpg,a cat\n'
    assert read_table(table, "captions.csv") == {"1.jpg": "a dog, asleep", "2.jpg": "a cat"}
    table = b'file_name,text\n1.jpg,a 5" dog\n2.jpg,a cat\n'
    assert read_table(table, "captions.csv") == {"1.jpg": 'a 5" dog', "2.jpg": "a cat"}


def test_rows_without_a_picture_are_counted_in_the_log_and_not_named(caplog):
    caplog.set_level(logging.DEBUG)
    table = b"file_name,text\n1.jpg,a dog\nsecret.jpg,a cat\nsecret2.jpg,a cat\n"
    captions_in(("1.jpg", photo()), ("captions.csv", table))
    assert "rows of a table that name no picture: 2" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("name", "table", "words"),
    [
        ("metadata.jsonl", "{", "line 1 is not JSON"),
        ("metadata.jsonl", JSONL + "[" * 100_000, "line 4 is not JSON"),
        ("metadata.jsonl", "[1]", "line 1 is not an object"),
        ("metadata.jsonl", '{"file_name": 1, "text": null}', "no row has both"),
        ("captions.csv", "", "no row has both"),
        ("captions.csv", "\nfile_name,text\n1.jpg,a dog", "no row has both"),
        ("captions.csv", "1.jpg,a dog\n2.jpg,a cat", "no row has both a file's name"),
        ("captions.csv", f"file_name,text\n1.jpg,{'v' * 200_000}", "not in the form of a CSV"),
        ("captions.csv", 'text,file_name\na cat,2.jpg\n"a dog,1.jpg\na bird,3.jpg', "in its row 2"),
        ("captions.csv", 'file_name,text\n1.jpg,"a dog\n2.jpg,"a cat"\n', "in its row 1"),
        ("captions.csv", "file_name,text\nz.jpg,a dog", "none of its rows names a picture"),
        ("captions.csv", "file_name,text\n" + "1.jpg,a dog\n" * 400_000, "more than 4,096 KiB"),
    ],
)
def test_a_table_that_cannot_be_used_is_told_with_the_reason(name, table, words):
    broken, picture = files_in((name, table.encode()), ("1.jpg", photo()))
    assert broken.problem.startswith("a table of captions that is not used: ")
    assert words in broken.problem
    assert not broken.is_picture
    assert picture.caption is None


def test_two_tables_of_one_name_and_a_picture_of_that_name_are_kept_apart():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's, at writing such a zip
        files = files_in(("captions.csv", b"?"), ("captions.csv", b"??"), ("captions.csv", photo()))
    assert len({file.name for file in files}) == 3


def test_all_tables_together_are_bounded():
    rows = b"file_name,text\n" + 150_000 * b"1.jpg,a red dog\n"
    tables = tuple((f"{n}/metadata.csv", rows) for n in range(3))
    pictures = tuple((f"{n}/1.jpg", photo(n)) for n in range(3))
    problems = [file.problem for file in files_in(*tables, *pictures) if not file.is_picture]
    assert len(problems) == 2
    assert all("more than" in problem for problem in problems)


def test_the_first_of_two_rows_for_a_picture_is_used():
    rows = [{"file_name": "1.jpg", "text": text} for text in ("", "a dog", "a cat")]
    table = "\n".join(json.dumps(row) for row in rows).encode()
    assert read_table(table, "metadata.jsonl") == {"1.jpg": "a dog"}


def test_the_first_of_two_tables_that_name_a_picture_is_used():
    tables = (
        ("captions.csv", b"file_name,text\n1.jpg,a dog\n"),
        ("metadata.csv", b"file_name,text\n1.jpg,a cat\n2.jpg,a bird\n"),
    )
    captions = captions_in(("1.jpg", photo(1)), ("2.jpg", photo(2)), *tables)
    assert captions == {"1.jpg": "a dog", "2.jpg": "a bird"}


def test_a_letter_may_be_stored_apart_from_its_accent_as_macs_do():
    name = "Café.jpg"
    apart = unicodedata.normalize("NFD", name)
    assert apart != name
    table = ("metadata.csv", f"file_name,text\n{name},a dog\n".encode())
    assert captions_in((apart, photo()), table) == {apart: "a dog"}
    text = (f"{name}.txt", b"a cat")
    assert captions_in((apart, photo()), text) == {apart: "a cat"}
