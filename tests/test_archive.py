"""A file that was sent -> the files in it."""

import io
import struct
import tracemalloc
import warnings
import zipfile

import pytest

from preprocessing.archive import File, read_files
from preprocessing.errors import ArchiveError, PictureError
from tests.pictures import HEIC, encode, noise, photo, zip_of


def files_in(data: bytes) -> list[File]:
    return list(read_files(io.BytesIO(data), "holiday.zip"))


def names_in(data: bytes) -> list[str]:
    return [file.name for file in files_in(data)]


def problem_with(data: bytes) -> str:
    (file,) = files_in(data)
    assert file.data == b""
    return file.problem


def patch(data: bytes, mark: bytes, offset: int, value: bytes) -> bytes:
    """Overwrites bytes at `offset` behind the last `mark`: what a forger would do."""
    start = data.rindex(mark) + offset
    return data[:start] + value + data[start + len(value) :]


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


def test_too_many_pictures_are_refused_before_the_first_is_read():
    files = read_files(io.BytesIO(zip_of(*((f"{n}.jpg", photo()) for n in range(1_001)))), "")
    with pytest.raises(PictureError, match="More than 1,000 pictures"):
        next(files)


def test_files_come_in_the_order_of_their_names():
    data = zip_of(("c.jpg", photo()), ("a.jpg", photo()), ("b.jpg", photo()))
    assert names_in(data) == ["a.jpg", "b.jpg", "c.jpg"]


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


def test_a_zip_with_too_many_files_is_refused():
    with pytest.raises(ArchiveError, match="holds 10,001 files"):
        files_in(zip_of(*((f"{number}", b"") for number in range(10_001))))


@pytest.mark.slow
def test_a_zip_of_two_hundred_thousand_files_is_refused_before_they_are_listed():
    source = io.BytesIO(zip_of(*((f"{number}", b"") for number in range(200_000))))
    tracemalloc.start()
    with pytest.raises(ArchiveError, match="far more than 10,000 files"):
        list(read_files(source, ""))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 2**20


def test_a_zip_that_unpacks_to_too_much_is_refused_before_it_is_unpacked():
    bomb = zip_of(*((f"{n}.bmp", bytes(2**20)) for n in range(2)), compression=zipfile.ZIP_DEFLATED)
    huge = struct.pack("<I", 2**32 - 2)
    with pytest.raises(ArchiveError, match=r"unpack to 4\.0 GiB"):
        files_in(patch(bomb, b"PK\1\2", 24, huge))


def test_one_file_that_unpacks_to_too_much_is_skipped():
    bomb = zip_of(("1.bmp", bytes(2**20)), compression=zipfile.ZIP_DEFLATED)
    forged = patch(bomb, b"PK\1\2", 24, struct.pack("<I", 2**30))
    assert "1024 MiB is too large" in problem_with(forged)


def test_a_file_larger_than_the_zip_says_is_not_read_to_its_end():
    bmp = encode(noise(200, 200), "BMP")
    forged = patch(zip_of(("1.bmp", bmp)), b"PK\1\2", 24, struct.pack("<I", 1000))
    assert problem_with(forged) == "damaged inside the archive"


def test_a_zip_whose_files_share_their_bytes_is_refused():
    data = zip_of(("1.jpg", photo(1)), ("2.jpg", photo(2)))
    overlapping = patch(data, b"PK\1\2", 42, struct.pack("<I", 0))
    with pytest.raises(ArchiveError, match="overlap"):
        files_in(overlapping)


def test_a_zip_that_claims_more_bytes_than_it_has_is_refused():
    data = patch(zip_of(("1.jpg", photo())), b"PK\1\2", 20, struct.pack("<I", 2**31))
    with pytest.raises(ArchiveError, match="reach past its end"):
        files_in(data)


def test_a_table_of_contents_of_gigabytes_is_refused_before_it_is_read(tmp_path):
    end_of_zip = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, 2**30, 4, 0)
    with (tmp_path / "sparse.zip").open("w+b") as source:
        source.write(b"PK\3\4")
        source.seek(2**30 + 4)
        source.write(end_of_zip)
        tracemalloc.start()
        with pytest.raises(ArchiveError, match="table of contents"):
            list(read_files(source, "sparse.zip"))
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak_bytes < 2**20


def test_an_archive_that_is_too_large_is_refused_by_its_size(tmp_path):
    with (tmp_path / "sparse.zip").open("w+b") as source:
        source.truncate(2**31 + 1)
        with pytest.raises(ArchiveError, match="larger than 2 GiB"):
            list(read_files(source, "sparse.zip"))


def test_only_one_photo_is_held_in_memory_at_a_time():
    bmp = encode(noise(600, 600), "BMP")
    source = io.BytesIO(zip_of(*((f"{number}.bmp", bmp) for number in range(20))))
    tracemalloc.start()
    assert sum(len(file.data) for file in read_files(source, "")) == 20 * len(bmp)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 5 * len(bmp)


def test_a_picture_is_held_with_its_own_mask_and_text_only():
    bmp = encode(noise(600, 600), "BMP")
    numbers = range(100, 120)
    company = {".bmp": bmp, "_mask.bmp": bmp, ".txt": b"very " * 10_000}
    files = ((f"{n}{ending}", data) for n in numbers for ending, data in company.items())
    source = io.BytesIO(zip_of(*files))
    tracemalloc.start()
    for file in read_files(source, ""):
        assert file.mask == bmp
        assert file.caption
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 8 * len(bmp)
