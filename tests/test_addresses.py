"""Which addresses are asked at all, and where a shared link leads."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from preprocessing.download import PUBLIC_ADDRESSES, DownloadPolicy, read_addresses
from preprocessing.errors import DownloadError
from preprocessing.share_links import direct_link
from tests.loopback import Answer, Server, running_server
from tests.pictures import photo

THIS_MACHINE_TOO = replace(PUBLIC_ADDRESSES, allow_loopback=True)


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server() as server:
        yield server


def problem_with(url: str, policy: DownloadPolicy = THIS_MACHINE_TOO) -> str:
    (file,) = read_addresses((url,), policy)
    assert file.data == b""
    return file.problem


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0x7f.1",
        "017700000001",
        "0.0.0.0",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "10.0.0.1",
        "0xa000001",
        "3232235777",
        "192.168.1.1",
        "172.16.0.1",
        "169.254.169.254",
        "[fd00::1]",
        "[fe80::1]",
        "100.64.0.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
    ],
)
def test_private_networks_are_not_asked(host):
    problem = problem_with(f"http://{host}:9/1.jpg", PUBLIC_ADDRESSES)
    is_unknown_here = ":" in host and "cannot be reached" in problem  # a machine without IPv6
    assert "leads into a private network" in problem or is_unknown_here


@pytest.mark.parametrize("target", ["http://169.254.169.254/latest/meta-data", "http://10.0.0.1/"])
def test_private_networks_are_not_asked_after_a_redirect_either(server, target):
    url = server.offer("/1.jpg", Answer(status=302, headers={"Location": target}))
    assert "leads into a private network" in problem_with(url)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://example.com/1.jpg", "data:,hello"])
def test_only_web_addresses_are_followed(server, target):
    url = server.offer("/1.jpg", Answer(status=302, headers={"Location": target}))
    assert "other than http or https" in problem_with(url)


@pytest.mark.parametrize("url", ["", "me.jpg", "/etc/passwd", "file:///etc/passwd", "http://", "h"])
def test_what_is_no_web_address_is_said(url):
    assert "no web address" in problem_with(url)


@pytest.mark.parametrize(
    "url", ["https://my aunt's garden", "note://garden", "http://garden a.com"]
)
def test_a_sentence_in_the_wrong_field_is_not_repeated(url):
    problem = problem_with(url)
    assert "no web address" in problem
    assert "garden" not in problem


@pytest.mark.parametrize("sign", ["\0", "\x1b[31m", "\u202e", "\x7f", "\r\nX: y"])
def test_what_would_change_a_log_is_not_repeated(sign):
    for url in (f"http://{sign}.com/1.jpg", f"http://a.com/{sign}"):
        problem = problem_with(url)
        assert "no web address" in problem
        assert problem.isprintable()


@pytest.mark.parametrize("url", ["https://a.com/1.jpg, https://a.com/2.jpg", "http://[::1/1.jpg"])
def test_a_malformed_address_is_said(url):
    assert "no web address" in problem_with(url)


def test_an_endless_address_does_not_flood_the_report():
    (file,) = read_addresses(("http://" + "a" * 100_000 + "/1.jpg",), THIS_MACHINE_TOO)
    assert "no web address" in file.problem
    assert len(file.problem) < 500


def test_too_many_addresses_are_refused():
    with pytest.raises(DownloadError, match="holds 1,001 addresses"):
        list(read_addresses(("http://example.com/1.jpg",) * 1001, THIS_MACHINE_TOO))


def test_all_that_addresses_lead_to_is_bounded_together(server, monkeypatch):
    monkeypatch.setattr("preprocessing.download.MAX_UNPACKED_BYTES", 2 * len(photo()))
    urls = tuple(server.offer(f"/{number}.jpg", Answer((photo(),))) for number in range(3))
    with pytest.raises(DownloadError, match="instance_data_urls leads to more than"):
        list(read_addresses(urls, THIS_MACHINE_TOO))


def test_no_proxy_is_asked_as_it_would_ask_private_networks_for_us(server, monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # where nobody listens
    url = server.offer("/1.jpg", Answer((photo(),)))
    (file,) = read_addresses((url,), THIS_MACHINE_TOO)
    assert file.data == photo()


def test_files_are_asked_for_as_they_are_and_not_in_a_librarys_name(server):
    list(read_addresses((server.offer("/1.jpg", Answer((photo(),))),), THIS_MACHINE_TOO))
    (headers,) = server.asked
    assert headers["Accept-Encoding"] == "identity"
    assert headers["User-Agent"].startswith("Mozilla/5.0 ")


# The two forms of the old manual, and what is behind them: past the page that warns of large files.
DRIVE_FILE = "https://drive.usercontent.google.com/download?id=1LJuL5i4ihcNPY93-81uEUS2tOyY-25TN&export=download&confirm=t"


@pytest.mark.parametrize(
    ("shared", "direct"),
    [
        (
            "https://drive.google.com/file/d/1LJuL5i4ihcNPY93-81uEUS2tOyY-25TN/view?usp=sharing",
            DRIVE_FILE,
        ),
        ("https://drive.google.com/file/d/1LJuL5i4ihcNPY93-81uEUS2tOyY-25TN/edit", DRIVE_FILE),
        ("https://drive.google.com/file/u/0/d/1LJuL5i4ihcNPY93-81uEUS2tOyY-25TN/view", DRIVE_FILE),
        ("https://drive.google.com/uc?id=1LJuL5i4ihcNPY93-81uEUS2tOyY-25TN", DRIVE_FILE),
        (
            "https://drive.google.com/open?id=1LJuL5i4ihcNPY93-81uEUS2tOyY-25TN&usp=drive_copy",
            DRIVE_FILE,
        ),
        (
            "https://drive.google.com/file/d/1LJuL5i4ihcNPY93-81uEUS2tOyY-25TN/view?resourcekey=0-a",
            f"{DRIVE_FILE}&resourcekey=0-a",
        ),
        ("https://www.dropbox.com/s/a/1.jpg?dl=0", "https://www.dropbox.com/s/a/1.jpg?dl=1"),
        (
            "https://www.dropbox.com/scl/fi/a/1.zip?rlkey=b&dl=0",
            "https://www.dropbox.com/scl/fi/a/1.zip?rlkey=b&dl=1",
        ),
        (
            "https://github.com/me/pictures/blob/main/blob/1.jpg",
            "https://github.com/me/pictures/raw/main/blob/1.jpg",
        ),
        ("https://example.com/file/d/1?id=2", "https://example.com/file/d/1?id=2"),
        ("https://drive.google.com.evil.com/uc?id=1", "https://drive.google.com.evil.com/uc?id=1"),
    ],
)
def test_share_links_lead_to_the_file(shared, direct):
    assert direct_link(shared) == direct


def test_a_google_drive_folder_is_explained():
    assert "a Google Drive folder" in problem_with("https://drive.google.com/drive/folders/1LJuL5")
