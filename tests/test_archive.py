"""A file that was sent -> the files in it."""

import io
import struct
import warnings
import zipfile

import pytest

from preprocessing.archive import File
from preprocessing.errors import ArchiveError
from tests.archives import files_in, names_in, patch, problem_with
from tests.pictures import HEIC, encode, noise, photo, zip_of


def test_photos_are_found_in_folders_of_any_depth():
    files = files_in(zip_of(("a/b/c/one.jpg", photo(1)), ("two.jpg", photo(2))))
    assert [(file.name, file.data, file.problem) for file in files] == [
        ("a/b/c/one.jpg", photo(1), ""),
        ("two.jpg", photo(2), ""),
    ]


def test_the_case_of_a_name_does_not_matter():
    files = files_in(zip_of(("IMG_1.JPG", photo()), ("Scan.Png", encode(noise(9, 9)))))
    assert all(file.data for file in files)


def test_content_decides_what_is_a_picture_and_not_its_name():
    text, picture = files_in(zip_of(("a.jpg", b"dear diary"), ("b.txt", photo())))
    assert "a text, not a picture" in text.problem
    assert picture.problem == ""
    assert picture.data == photo()


def test_two_photos_with_the_same_name_in_different_folders_are_both_used():
    files = files_in(zip_of(("x/1.jpg", photo(1)), ("y/1.jpg", photo(2))))
    assert [file.data for file in files] == [photo(1), photo(2)]


def test_two_photos_with_the_very_same_name_are_both_used():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's, at writing such a zip
        data = zip_of(("x/1.jpg", photo(1)), ("x/1.jpg", photo(2)))
    files = files_in(data)
    assert [file.data for file in files] == [photo(1), photo(2)]
    assert [file.name for file in files] == ["x/1.jpg", "x/1 (2).jpg"]


def test_thousands_of_files_with_the_very_same_name_are_no_trouble():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = zip_of(*(("1.md", b"") for _ in range(5_000)), ("1 (2).md", b""))
    assert len(set(names_in(data))) == 5_001


def test_files_come_in_the_order_of_their_names():
    data = zip_of(("c.jpg", photo()), ("a.jpg", photo()), ("b.jpg", photo()))
    assert names_in(data) == ["a.jpg", "b.jpg", "c.jpg"]


def test_the_order_of_names_is_that_of_their_characters():
    """docs/pictures.md says so, for who looks for the picture of a number."""
    data = zip_of(*((f"{stem}.jpg", photo()) for stem in ("a", "2", "Z", "10")))
    assert names_in(data) == ["10.jpg", "2.jpg", "Z.jpg", "a.jpg"]


def test_what_computers_leave_behind_is_passed_over():
    litter = (
        *("__MACOSX/._1.jpg", "x/._1.jpg", ".DS_Store", "x/Thumbs.db", "desktop.ini", ".git/a"),
        *("IMG_1.AAE", "x/Icon\r"),
    )
    data = zip_of(*((name, photo()) for name in litter), ("x/", b""), ("x/1.jpg", photo()))
    assert names_in(data) == ["x/1.jpg"]


@pytest.mark.parametrize(
    "name", ["../../etc/1.jpg", "/etc/1.jpg", "..\\..\\etc\\1.jpg", "etc/./../1.jpg"]
)
def test_a_name_cannot_point_out_of_the_archive(name):
    assert names_in(zip_of((name, photo()))) == ["etc/1.jpg"]


def test_names_from_windows_are_understood():
    assert names_in(zip_of(("holiday\\beach\\1.jpg", photo()))) == ["holiday/beach/1.jpg"]


def test_names_in_another_alphabet_do_no_harm():
    data = zip_of(("写真_xx.jpg", photo()))
    mangled = data.replace("写真".encode(), "写真".encode("shift-jis") + b"__")
    not_utf8 = patch(patch(mangled, b"PK\3\4", 6, b"\0\0"), b"PK\1\2", 8, b"\0\0")
    (file,) = files_in(not_utf8)
    assert file.data == photo()


@pytest.mark.parametrize("name", ["表", "能力", "予定/十"])
def test_a_letter_that_ends_like_a_backslash_is_no_folder(name):
    """As Windows packs it in Japan: the picture was taken for a hidden one, and passed over."""
    written = name.encode("shift-jis")
    placeholder = b"x" * len(written)
    data = zip_of((f"{placeholder.decode()}.jpg", photo())).replace(placeholder, written)
    (file,) = files_in(data)
    assert file.data == photo()
    assert file.name.count("/") == name.count("/")


def test_a_macs_names_are_read_though_they_are_not_marked_as_utf8():
    data = zip_of(("xxxx.jpg", photo())).replace(b"xxxx", "Öl".encode() + b"1")
    assert names_in(data) == ["Öl1.jpg"]


@pytest.mark.parametrize("preface", [b"MZ" + bytes(1000), b"#!/bin/sh\n"])
def test_a_zip_that_unpacks_itself_is_read_like_any_other(preface):
    assert names_in(preface + zip_of(("1.jpg", photo()), ("2.jpg", photo()))) == ["1.jpg", "2.jpg"]


def test_a_zip_for_huge_files_and_one_with_a_comment_are_read():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.comment = b"from Lisbon"
        with archive.open("1.jpg", "w", force_zip64=True) as entry:
            entry.write(photo())
    (file,) = files_in(buffer.getvalue())
    assert file.data == photo()


def test_a_zip_that_was_written_as_a_stream_is_read():
    class Stream(io.BytesIO):
        def seekable(self):
            return False

    stream = Stream()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.jpg", photo(1))
        archive.writestr("2.jpg", photo(2))
    assert [file.data for file in files_in(stream.getvalue())] == [photo(1), photo(2)]


def test_a_file_without_a_name_does_no_harm():
    assert names_in(zip_of(("", photo()), ("1.jpg", photo()))) == ["1.jpg"]


def test_a_file_behind_a_password_is_skipped_with_the_reason():
    data = patch(zip_of(("1.jpg", photo())), b"PK\1\2", 8, b"\1\0")
    assert "password" in problem_with(data)


@pytest.mark.parametrize("method", [9, 14, 93, zipfile.ZIP_BZIP2])
def test_an_unusual_compression_is_skipped_with_the_reason(method):
    data = patch(zip_of(("1.jpg", photo())), b"PK\1\2", 10, struct.pack("<H", method))
    assert f"method {method}" in problem_with(data)
    assert "Deflate" in problem_with(data)


def test_a_photo_with_a_wrong_checksum_is_skipped_and_still_counts_as_a_picture():
    data = zip_of(("1", photo()))
    broken = data.replace(photo()[600:640], bytes(40))
    (file,) = files_in(broken)
    assert file.problem == "damaged inside the archive"
    assert file.is_picture


def test_a_zip_in_a_zip_is_skipped_with_advice():
    assert "zip the pictures themselves" in problem_with(
        zip_of(("a.zip", zip_of(("1.jpg", photo()))))
    )


def test_a_page_or_xml_in_a_zip_is_called_so_without_talk_of_links():
    page, xml = files_in(zip_of(("a.html", b"<!doctype html><p>"), ("b.xml", b"<?xml version='1'")))
    assert page.problem == "a web page, not a picture. Send the pictures themselves."
    assert xml.problem == "an XML file, not a picture. Send the pictures themselves."


def test_a_text_does_not_count_as_a_picture_and_a_damaged_jpg_does():
    files = files_in(zip_of(("a.txt", b"hello"), ("b.jpg", b"")))
    assert [file.is_picture for file in files] == [False, True]


@pytest.mark.parametrize(
    "picture", [photo(), encode(noise(9, 9), "WEBP"), encode(noise(9, 9), "AVIF"), HEIC]
)
def test_a_single_picture_is_a_set_of_one(picture):
    (file,) = files_in(picture)
    assert file == File(name="holiday.zip", data=picture, problem="", is_picture=True)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html>Sign in</html>", "a web page"),
        (b"Rar!\x1a\x07\x01\x00", "a RAR archive"),
        (b"7z\xbc\xaf\x27\x1c\x00\x04", "a 7-Zip archive"),
        (b"BZh91AY&SY", "a bzip2 archive"),
        (b"\xfd7zXZ\x00\x00\x04", "an xz archive"),
        (b"%PDF-1.7 ...", "a PDF"),
        (b"\x00\x00\x00\x18ftypmp42", "a video"),
        (b"\x00\x00\x00\x18ftypcrx ", "a camera's raw file"),
        (b"my holiday pictures", "a text"),
        (b"\x00\x01\x02\x03\x04", "a file of an unknown kind"),
    ],
)
def test_what_is_no_zip_is_called_by_its_name(data, words):
    with pytest.raises(ArchiveError, match=f"neither a zip nor a picture but {words}"):
        files_in(data)


@pytest.mark.parametrize("num_missing", [1, 30, 200, 1000])
def test_a_zip_that_was_cut_off_says_so(num_missing):
    data = zip_of(("1.jpg", photo()), ("2.jpg", photo()))
    with pytest.raises(ArchiveError, match="cut off"):
        files_in(data[:-num_missing])


def test_an_empty_zip_says_so():
    with pytest.raises(ArchiveError, match="holds no files"):
        files_in(zip_of())


def test_a_zip_of_nothing_but_litter_is_an_empty_zip():
    with pytest.raises(ArchiveError, match="holds no files"):
        files_in(zip_of(("__MACOSX/._1.jpg", photo()), (".DS_Store", b"x")))
