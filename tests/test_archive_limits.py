"""Zips that hold too much or lie about it: refused early, and without filling the memory."""

import io
import struct
import zipfile

import pytest

from preprocessing.archive import read_files
from preprocessing.errors import ArchiveError, PictureError
from tests.archives import files_in, patch, problem_with
from tests.pictures import encode, noise, photo, zip_of
from tests.watch import allocating_less_than


def test_too_many_pictures_are_refused_before_the_first_is_read():
    files = read_files(io.BytesIO(zip_of(*((f"{n}.jpg", photo()) for n in range(1_001)))), "")
    with pytest.raises(PictureError, match="More than 1,000 pictures"):
        next(files)


def test_a_zip_with_too_many_files_is_refused():
    with pytest.raises(ArchiveError, match="holds 10,001 files"):
        files_in(zip_of(*((f"{number}", b"") for number in range(10_001))))


@pytest.mark.slow
def test_a_zip_of_two_hundred_thousand_files_is_refused_before_they_are_listed():
    source = io.BytesIO(zip_of(*((f"{number}", b"") for number in range(200_000))))
    with (
        allocating_less_than(2**20),
        pytest.raises(ArchiveError, match="far more than 10,000 files"),
    ):
        list(read_files(source, ""))


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
        with allocating_less_than(2**20), pytest.raises(ArchiveError, match="table of contents"):
            list(read_files(source, "sparse.zip"))


def test_an_archive_that_is_too_large_is_refused_by_its_size(tmp_path):
    with (tmp_path / "sparse.zip").open("w+b") as source:
        source.truncate(2**31 + 1)
        with pytest.raises(ArchiveError, match="larger than 2 GiB"):
            list(read_files(source, "sparse.zip"))


def test_a_single_picture_that_is_too_large_is_told_and_not_read(tmp_path):
    with (tmp_path / "1.jpg").open("w+b") as source:
        source.write(photo())
        source.truncate(201 * 2**20)
        with allocating_less_than(2**20):
            (file,) = read_files(source, "1.jpg")
    assert "201 MiB is too large" in file.problem
    assert file.data == b""


def test_only_one_photo_is_held_in_memory_at_a_time():
    bmp = encode(noise(600, 600), "BMP")
    source = io.BytesIO(zip_of(*((f"{number}.bmp", bmp) for number in range(20))))
    with allocating_less_than(5 * len(bmp)):
        assert sum(len(file.data) for file in read_files(source, "")) == 20 * len(bmp)


def test_a_picture_is_held_with_its_own_mask_and_text_only():
    bmp = encode(noise(600, 600), "BMP")
    numbers = range(100, 120)
    company = {".bmp": bmp, "_mask.bmp": bmp, ".txt": b"very " * 10_000}
    files = ((f"{n}{ending}", data) for n in numbers for ending, data in company.items())
    source = io.BytesIO(zip_of(*files))
    with allocating_less_than(8 * len(bmp)):
        for file in read_files(source, ""):
            assert file.mask == bmp
            assert file.caption
