"""Addresses -> the files behind them."""

import errno
import io
import itertools
import logging
import tarfile
import time
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import unquote

import pytest

from preprocessing.archive import File
from preprocessing.download import PUBLIC_ADDRESSES, DownloadPolicy, read_addresses
from preprocessing.errors import PictureError
from preprocessing.prepare import prepare_examples
from tests.disk import LARGEST_FILE_BYTES, full_disk
from tests.loopback import Answer, Server, chunked, running_server
from tests.pictures import photo, write, zip_of
from tests.watch import allocating_less_than

THIS_MACHINE_TOO = replace(PUBLIC_ADDRESSES, allow_loopback=True)
IN_A_HURRY = replace(THIS_MACHINE_TOO, file_seconds=0.3, read_seconds=0.2, num_tries=1)


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server() as server:
        yield server


def download(*urls: str, policy: DownloadPolicy = THIS_MACHINE_TOO) -> list[File]:
    return list(read_addresses(urls, policy))


def problem_with(url: str, policy: DownloadPolicy = THIS_MACHINE_TOO) -> str:
    (file,) = download(url, policy=policy)
    assert file.data == b""
    assert file.is_picture
    return file.problem


def test_pictures_come_in_the_order_of_their_addresses_however_fast_they_are(server):
    urls = [
        server.offer(f"/{seed}.jpg", Answer((photo(seed), b""), pause_seconds=0.1 * (seed < 3)))
        for seed in range(9)
    ]
    assert [file.data for file in download(*urls)] == [photo(seed) for seed in range(9)]


def test_a_zip_behind_an_address_is_unpacked(server):
    url = server.offer("/set", Answer((zip_of(("1.jpg", photo(1)), ("2.jpg", photo(2))),)))
    assert [file.data for file in download(url)] == [photo(1), photo(2)]


def test_a_tar_behind_an_address_is_unpacked(server):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo("1.jpg")
        member.size = len(photo())
        archive.addfile(member, io.BytesIO(photo()))
    (file,) = download(server.offer("/set", Answer((buffer.getvalue(),))))
    assert file.data == photo()


def test_a_full_disk_is_not_told_as_a_broken_download(server):
    url = server.offer("/1.jpg", Answer((photo() + bytes(2 * LARGEST_FILE_BYTES),)))
    with full_disk(), pytest.raises(OSError, match="too large") as failure:
        download(url)
    assert failure.value.errno == errno.EFBIG


@pytest.mark.slow
def test_many_zips_together_keep_the_limits_of_one(server):
    texts = zip_of(*((f"{number}.md", b"hello") for number in range(5_001)))
    urls = [server.offer(f"/{number}.zip", Answer((texts,))) for number in range(2)]
    with pytest.raises(PictureError, match="More than 10,000 files"):
        prepare_examples(
            archive=None,
            urls=tuple(urls),
            task="object",
            resolution=64,
            custom_prompts=(),
            policy=THIS_MACHINE_TOO,
        )


def test_zip_and_addresses_are_merged_and_this_is_said(server, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    prepared = prepare_examples(
        archive=write(tmp_path, zip_of(("1.jpg", photo(1)))),
        urls=(server.offer("/2.jpg", Answer((photo(2),))) + "?key=secret",),
        task="face",
        resolution=64,
        custom_prompts=(),
        policy=THIS_MACHINE_TOO,
    )
    assert [report.used for report in prepared.reports] == [True, True]
    assert "both are used" in caplog.text


def test_zips_that_hold_the_same_names_keep_all_their_pictures_and_their_order(server, tmp_path):
    zips = [zip_of(("z.jpg", photo(n)), ("z_mask.jpg", photo(n + 1))) for n in (0, 2, 4)]
    prepared = prepare_examples(
        archive=write(tmp_path, zips[0]),
        urls=tuple(server.offer(f"/{n}.zip", Answer((zips[n],))) for n in (1, 2)),
        task="style",
        resolution=64,
        custom_prompts=(),
        policy=THIS_MACHINE_TOO,
    )
    assert [report.name for report in prepared.reports] == 3 * ["z.jpg", "z_mask.jpg"]
    assert not any("the same" in report.remarks for report in prepared.reports)


@pytest.mark.parametrize("path", ["/2.jpg", "/%C3%A9t%C3%A9.jpg"])
def test_a_redirect_to_the_picture_is_followed(server, path):
    server.offer(path, Answer((photo(),)))
    unquoted = unquote(path, encoding="latin-1")  # as many servers send it
    url = server.offer("/a/1.jpg", Answer(status=302, headers={"Location": unquoted}))
    (file,) = download(url)
    assert file.data == photo()


def test_what_comes_with_a_redirect_is_not_read(server):
    target = server.offer("/2.jpg", Answer((photo(),)))
    body = itertools.repeat(bytes(2**20), 64)
    url = server.offer("/1.jpg", Answer(body, status=302, headers={"Location": target}))
    with allocating_less_than(2**24):
        (file,) = download(url)
    assert file.data == photo()


def test_a_redirect_in_a_circle_ends(server):
    url = server.offer("/1.jpg", Answer(status=302, headers={"Location": "/1.jpg"}))
    assert "redirects without end" in problem_with(url)


def test_a_web_page_is_explained(server):
    url = server.offer("/view", Answer((b"<!doctype html><title>Sign in</title>" + b" " * 999,)))
    problem = problem_with(url)
    assert "not a picture but a web page. The link leads to a page about the file" in problem
    assert "share the file with everyone" in problem_with(url)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, "status 404 (Not Found). Open it in a browser"),
        (403, "everyone who has the link"),
        (429, "status 429 (Too Many Requests). Try again later"),
        (599, "status 599 (unknown). Try again later"),
    ],
)
def test_an_error_of_the_other_side_is_explained(server, status, words):
    url = server.offer("/1.jpg", Answer(status=status))
    assert words in problem_with(url, IN_A_HURRY)


def test_a_busy_server_is_asked_again(server):
    url = server.offer("/1.jpg", Answer(status=503), Answer(status=429), Answer((photo(),)))
    (file,) = download(url)
    assert file.data == photo()


def test_a_server_that_hangs_up_is_asked_again(server):
    url = server.offer("/1.jpg", Answer((b"",), is_raw=True), Answer((photo(),)))
    (file,) = download(url)
    assert file.data == photo()


def test_a_server_that_stays_busy_is_asked_three_times_and_no_more(server):
    url = server.offer("/1.jpg", *[Answer(status=503)] * 3, Answer((photo(),)))
    assert "status 503" in problem_with(url)


def test_an_error_that_will_stay_is_not_asked_about_again(server):
    url = server.offer("/1.jpg", Answer(status=404), Answer((photo(),)))
    assert "status 404" in problem_with(url)


def test_a_host_that_does_not_exist_is_said():
    assert "cannot be reached" in problem_with("http://nowhere.invalid/1.jpg", IN_A_HURRY)


def test_a_picture_that_breaks_off_is_refused(server):
    length = {"Content-Length": str(len(photo()) + 1)}
    url = server.offer("/1.jpg", Answer((photo(),), headers=length))
    assert "broke off" in problem_with(url)


def test_a_picture_of_unknown_length_is_read(server):
    url = server.offer("/1.jpg", chunked(photo()[:500], photo()[500:], b""))
    (file,) = download(url)
    assert file.data == photo()


def test_a_picture_of_unknown_length_that_breaks_off_is_refused(server):
    url = server.offer("/1.jpg", chunked(photo()[:500]))
    assert "broke off" in problem_with(url)


def test_an_answer_that_contradicts_itself_is_refused(server):
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nContent-Length: 9\r\n\r\n" + photo()
    assert "contradicts itself" in problem_with(server.offer("/1.jpg", Answer((raw,), is_raw=True)))


def test_a_picture_that_says_it_is_too_large_is_not_read(server):
    length = {"Content-Length": str(2**40)}
    url = server.offer("/1.jpg", Answer((photo(), b""), headers=length, pause_seconds=5))
    start = time.monotonic()
    assert "more than 200 MiB" in problem_with(url)
    assert time.monotonic() - start < 2


def test_a_server_that_never_answers_is_left(server):
    url = server.offer("/1.jpg", Answer((b"", b""), pause_seconds=5, is_raw=True))
    assert "did not answer in time" in problem_with(url, IN_A_HURRY)


def test_a_server_that_stops_sending_is_left(server):
    url = server.offer("/1.jpg", Answer((photo()[:900], b""), pause_seconds=5))
    assert "broke off" in problem_with(url, IN_A_HURRY)


def test_a_server_that_drips_its_headers_is_left_when_the_time_is_up(server):
    drops = (b"HTTP/1.1 200 OK\r\nServer: ", *[b"a"] * 1000)
    url = server.offer("/1.jpg", Answer(drops, pause_seconds=0.02, is_raw=True))
    start = time.monotonic()
    assert "took too long" in problem_with(url, IN_A_HURRY)
    assert time.monotonic() - start < 4


def test_a_server_that_drips_is_left_when_the_time_is_up(server):
    drops = tuple(photo()[place : place + 1] for place in range(1000))
    url = server.offer("/1.jpg", Answer(drops, pause_seconds=0.02))
    start = time.monotonic()
    assert "took too long" in problem_with(url, IN_A_HURRY)
    assert time.monotonic() - start < 2


def test_all_addresses_together_have_a_time_limit(server):
    url = server.offer("/1.jpg", Answer((photo(), b""), pause_seconds=0.2))
    policy = replace(THIS_MACHINE_TOO, total_seconds=0.5, num_threads=1)
    files = download(*[url] * 9, policy=policy)
    assert files[0].data == photo()
    assert "took too long" in files[-1].problem


def test_an_endless_picture_is_left_at_the_limit(server):
    pieces = itertools.chain([photo()], itertools.repeat(bytes(2**20)))
    url = server.offer("/1.jpg", Answer(pieces))
    assert "more than 200 MiB" in problem_with(url)


@pytest.mark.parametrize("encoding", ["", "identity", "Identity "])
def test_an_answer_that_says_that_it_is_as_it_is_is_used(server, encoding):
    url = server.offer("/1.jpg", Answer((photo(),), headers={"Content-Encoding": encoding}))
    assert [file.data for file in download(url)] == [photo()]


def test_a_compressed_answer_is_not_unpacked(server):
    url = server.offer("/1.jpg", Answer((b"\x1f\x8b",), headers={"Content-Encoding": "gzip"}))
    assert "compressed" in problem_with(url)


def test_a_failure_names_the_number_and_the_host_only(server, caplog):
    caplog.set_level(logging.DEBUG)
    good = server.offer("/1.jpg", Answer((photo(),)))
    bad = server.offer("/private/me.jpg", Answer(status=404)) + "?token=secret"
    prepared = prepare_examples(
        archive=None,
        urls=(good, bad),
        task="face",
        resolution=64,
        custom_prompts=("{} one", "{} two"),
        policy=THIS_MACHINE_TOO,
    )
    assert [example.prompts for example in prepared.examples] == [("{} one",)]
    assert prepared.reports[1].reason.startswith("address 2 (127.0.0.1): answered with status 404")
    assert prepared.reports[1].name == "127.0.0.1/me.jpg"
    assert caplog.records
    for record in caplog.records:
        assert "me.jpg" not in record.getMessage()
        assert "secret" not in record.getMessage()


def test_when_every_address_fails_all_reasons_are_given(server):
    with pytest.raises(PictureError, match=r"address 1 \(127.0.0.1\): answered with status 404"):
        prepare_examples(
            archive=None,
            urls=(server.offer("/1.jpg", Answer(status=404)),),
            task="face",
            resolution=64,
            custom_prompts=(),
            policy=THIS_MACHINE_TOO,
        )
