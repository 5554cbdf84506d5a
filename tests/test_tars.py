"""A tar that was sent -> the files in it."""

import errno
import gzip
import io
import tarfile
import time
from collections.abc import Callable

import pytest

from preprocessing.archive import read_files
from preprocessing.errors import ArchiveError
from tests.archives import files_in
from tests.disk import LARGEST_FILE_BYTES, full_disk
from tests.pictures import encode, noise, photo, zip_of
from tests.watch import allocating_less_than

Change = Callable[[tarfile.TarInfo], None]


def tar_of(*files: tuple[str, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def tar_of_one(change: Change) -> bytes:
    """A tar of one member without data, made what `change` makes of it, and a photo."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("0.jpg")
        change(info)
        archive.addfile(info)
        picture = tarfile.TarInfo("1.jpg")
        picture.size = len(photo())
        archive.addfile(picture, io.BytesIO(photo()))
    return buffer.getvalue()


def with_checksum(header: bytes) -> bytes:
    """A tar's header with its checksum set right, as a forger would."""
    blank = header[:148] + b" " * 8 + header[156:]
    return header[:148] + b"%06o\0 " % sum(blank) + header[156:]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_photos_in_a_tar_are_found_in_the_order_of_their_names(format, pack):
    long = "a/" + 30 * "long name " + "/1.jpg"
    names = ("two.JPG", long, "写真.jpg") if format != tarfile.USTAR_FORMAT else ("two.JPG", "b/1")
    data = pack(tar_of(*((name, photo(n)) for n, name in enumerate(names)), format=format))
    files = files_in(data)
    assert [(file.name, file.data, file.problem) for file in files] == sorted(
        (name, photo(n), "") for n, name in enumerate(names)
    )


def test_folders_and_litter_in_a_tar_are_passed_over():
    def make_folder(info: tarfile.TarInfo) -> None:
        info.name, info.type = "0.jpg/", tarfile.DIRTYPE

    assert [file.name for file in files_in(tar_of_one(make_folder))] == ["1.jpg"]
    assert [f.name for f in files_in(tar_of(("._1.jpg", b"x"), ("1.jpg", photo())))] == ["1.jpg"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("target", ["/etc/passwd", "../../secret.jpg", "1.jpg", "0.jpg"])
def test_links_in_a_tar_are_not_followed(kind, target):
    def make_link(info: tarfile.TarInfo) -> None:
        info.type, info.linkname = kind, target

    link, picture = files_in(tar_of_one(make_link))
    assert (link.data, link.is_picture) == (b"", True)
    assert "a link to a file" in link.problem
    assert picture.data == photo()


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_in_a_tar_are_skipped_with_the_reason(kind):
    device, picture = files_in(tar_of_one(lambda info: setattr(info, "type", kind)))
    assert "neither a file nor a folder" in device.problem
    assert picture.data == photo()


def test_a_name_cannot_point_out_of_the_tar():
    names = [file.name for file in files_in(tar_of(("../../etc/1", photo()), ("/a/b", photo())))]
    assert names == ["a/b", "etc/1"]


def test_a_name_that_is_no_utf_8_can_be_written_down():
    data = tar_of(("\udcff.jpg", photo()), format=tarfile.GNU_FORMAT)
    (file,) = files_in(data)
    assert file.name.encode("utf-8") == b"?.jpg"


@pytest.mark.parametrize("num_missing", [513, 1024, 1024 + 512, 5_000])
def test_a_tar_that_was_cut_off_says_so(num_missing):
    data = tar_of(("1.jpg", photo()), ("2.jpg", photo()))
    end = data.rindex(photo()) + len(photo())
    whole = data[: end + -end % 512 + 1024]
    with pytest.raises(ArchiveError, match="the tar is damaged or cut off"):
        files_in(whole[:-num_missing])


def test_a_damaged_header_does_not_lose_the_files_behind_it_in_silence():
    data = tar_of(("1.jpg", photo(1)), ("2.jpg", photo(2)))
    start = data.index(b"2.jpg")
    with pytest.raises(ArchiveError, match="the tar is damaged"):
        files_in(data[:start] + b"!" + data[start + 1 :])


def test_a_tar_gz_that_was_cut_off_or_damaged_says_so():
    data = gzip.compress(tar_of(("1.jpg", photo(1)), ("2.jpg", photo(2))))
    for broken in (data[:-9], data[:2000], data[:3000] + b"!!!" + data[3003:], data + b"!!"):
        with pytest.raises(ArchiveError, match=r"the tar.gz is damaged or cut off"):
            files_in(broken)


def test_a_full_disk_is_not_told_as_a_damaged_tar_gz():
    data = gzip.compress(tar_of(("1.bmp", bytes(2 * LARGEST_FILE_BYTES))))
    with full_disk(), pytest.raises(OSError, match="too large") as failure:
        files_in(data)
    assert failure.value.errno == errno.EFBIG


@pytest.mark.parametrize("inside", [photo(), b"", b"hello", zip_of(("1.jpg", photo()))])
def test_a_gzip_file_without_a_tar_in_it_says_so(inside):
    with pytest.raises(ArchiveError, match=r"other than a tar in it\. Send the pictures as a zip"):
        files_in(gzip.compress(inside))


def test_an_empty_tar_says_so():
    with pytest.raises(ArchiveError, match="the tar holds no files"):
        files_in(tar_of((".DS_Store", b"x")))
    with pytest.raises(ArchiveError, match=r"the tar\.gz holds no files"):
        files_in(gzip.compress(tar_of((".DS_Store", b"x"))))


def test_a_tar_with_too_many_files_is_refused_before_all_are_counted():
    with pytest.raises(ArchiveError, match="the tar holds 10,001 files"):
        files_in(tar_of(*((f"{number}", b"") for number in range(10_050))))


def test_one_file_that_is_too_large_is_skipped(tmp_path):
    info = tarfile.TarInfo("0.jpg")
    info.size = 201 * 2**20
    with (tmp_path / "sparse.tar").open("w+b") as source:
        source.write(info.tobuf())
        source.seek(512 + info.size)
        source.write(tar_of(("1.jpg", photo())))
        large, picture = read_files(source, "")
    assert "201 MiB is too large" in large.problem
    assert picture.data == photo()


def test_a_tar_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(tmp_path):
    """Files with holes are how a tar says that it holds more than it does."""
    info = tarfile.TarInfo("0.bmp")
    info.size, info.type = 0, tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"%011o\0" % (4 * 2**30 + 1)  # the size with all holes
    data = with_checksum(bytes(header)) + bytes(1024)
    with pytest.raises(ArchiveError, match=r"the tar would unpack to 4\.0 GiB"):
        files_in(data)


def test_a_file_with_holes_is_skipped_with_the_reason():
    def make_holes(info: tarfile.TarInfo) -> None:
        info.type = tarfile.GNUTYPE_SPARSE

    data = tar_of_one(make_holes)
    holes, picture = files_in(
        with_checksum(data[:483] + b"%011o\0" % 5_000 + data[495:512]) + data[512:]
    )
    assert "stored with holes" in holes.problem
    assert picture.data == photo()


@pytest.mark.parametrize("size", [-512, -1024, -(2**40), 2**40, 2**62])
def test_a_forged_size_neither_leads_in_a_circle_nor_past_the_end(size):
    for kind in (tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
        info = tarfile.TarInfo("0.jpg")
        info.type = kind
        header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        header[124:136] = (b"\xff" if size < 0 else b"\x80") + size.to_bytes(11, "big", signed=True)
        data = tar_of(("1.jpg", photo()))[:-10240] + with_checksum(bytes(header)) + bytes(1024)
        with pytest.raises(ArchiveError, match="the tar"):
            files_in(data)


def test_headers_that_would_fill_the_memory_are_refused_before_they_are_read():
    info = tarfile.TarInfo("0.jpg")
    info.size, info.type = 64 * 2**20, tarfile.XHDTYPE
    data = info.tobuf() + bytes(info.size + 1024)
    source = io.BytesIO(data)
    with (
        allocating_less_than(2**20),
        pytest.raises(ArchiveError, match="headers take too much room"),
    ):
        list(read_files(source, ""))


def test_headers_that_would_take_for_ever_are_refused_at_once():
    """Python's own patterns take the square of a row of digits (CVE-2024-6232)."""
    info = tarfile.TarInfo("0.jpg")
    info.size, info.type = 63 * 2**10, tarfile.XHDTYPE
    data = (info.tobuf() + b"1" * info.size) * 200
    start = time.process_time()
    with pytest.raises(ArchiveError, match="the tar is damaged"):
        files_in(data)
    assert time.process_time() - start < 1


@pytest.mark.slow
def test_a_gzip_bomb_is_given_up_at_the_limit():
    """3 GiB of nothing behind a tar's header, in 3 MB."""
    header, zeros = tarfile.TarInfo("0.jpg").tobuf(), bytes(2**26)
    bomb = gzip.compress(header) + 48 * gzip.compress(zeros)
    with (
        allocating_less_than(16 * 2**20),
        pytest.raises(ArchiveError, match="unpacks to more than 2 GiB"),
    ):
        files_in(bomb)


def test_only_one_photo_is_held_in_memory_at_a_time():
    bmp = encode(noise(600, 600), "BMP")
    source = io.BytesIO(tar_of(*((f"{number}.bmp", bmp) for number in range(20))))
    with allocating_less_than(5 * len(bmp)):
        assert sum(len(file.data) for file in read_files(source, "")) == 20 * len(bmp)
