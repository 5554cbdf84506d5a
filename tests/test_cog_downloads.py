"""The zip behind an address in instance_data: whatever the web server does, the download ends."""

import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cog import Path as CogPath
from cog import URLPath

from preprocessing.errors import DownloadError
from service import cog_downloads
from service.cog_downloads import fetch, leave_downloads_to_runs
from service.workplace import StorageError, Workplace
from tests.cog_server import data_uri, serve
from tests.disk import LARGEST_FILE_BYTES, full_disk
from tests.loopback import Answer, Server, running_server
from tests.test_server import PHOTOS, SMALL

MAX_SECONDS_TO_STOP = 3.0
DRIP = tuple(PHOTOS[i : i + 1] for i in range(len(PHOTOS)))


@pytest.fixture
def web() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """As after setup()."""
    for owner, name in ((URLPath, "convert"), (tempfile, "tempdir"), (tempfile, "gettempdir")):
        monkeypatch.setattr(owner, name, getattr(owner, name))  # to be put back after the test
    workplace = Workplace(tmp_path)
    workplace.use_for_temporary_files()
    leave_downloads_to_runs(URLPath, workplace)
    return workplace


def made_by_cog(address: str) -> Path:
    """As Cog does before it calls the predictor."""
    path: Path = CogPath.validate(address).convert()
    return path


def fetched(address: str, max_seconds: float = 60.0) -> bytes:
    path = made_by_cog(address)
    assert path.read_bytes() == b""
    fetch(path, max_seconds)
    return path.read_bytes()


def test_the_run_fills_the_file_that_cog_made(web: Server) -> None:
    address = web.offer("/pictures.zip", Answer((PHOTOS[:700], PHOTOS[700:])))
    assert fetched(address) == PHOTOS


def test_what_came_without_an_address_is_left_as_it_is() -> None:
    path = made_by_cog(data_uri(PHOTOS))
    fetch(path, 60.0)
    assert path.read_bytes() == PHOTOS
    fetch(None, 60.0)


def test_an_upload_that_does_not_fit_is_told_and_makes_room_again(workplace: Workplace) -> None:
    """What Cog leaves of it would fill the disk: the next upload, however small, would not fit."""
    too_large = data_uri(bytes(LARGEST_FILE_BYTES + 1))
    with full_disk(), pytest.raises(StorageError, match=r"^instance_data .* Free some disk space"):
        made_by_cog(too_large)
    assert list(workplace.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(status=404), r"answered with status 404 \(Not Found\)"),
        (Answer(status=403), "refused .status 403"),
        (Answer((PHOTOS[:900],), headers={"Content-Length": str(len(PHOTOS))}), "broke off"),
        (Answer(headers={"Content-Length": str(3 << 30)}), "more than 2,048 MiB"),
        (Answer(DRIP, pause_seconds=0.2), "took too long"),
    ],
)
def test_what_cannot_be_fetched_is_told_by_its_host(
    web: Server, answer: Answer, reason: str
) -> None:
    address = web.offer("/secret.zip", answer)
    with pytest.raises(DownloadError, match=rf"^instance_data \(127.0.0.1\): {reason}") as told:
        fetched(address + "?secret", max_seconds=1.0)
    assert "secret" not in str(told.value)


def test_a_zip_without_an_end_is_left_at_the_limit(
    web: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cog_downloads, "MAX_ARCHIVE_BYTES", 1 << 20)
    endless = iter(lambda: bytes(1 << 16), None)
    with pytest.raises(DownloadError, match=r"more than .* MiB"):
        fetched(web.offer("/endless.zip", Answer(endless)))


def test_a_download_that_is_given_up_ends(web: Server) -> None:
    address = web.offer("/drip.zip", Answer(iter(lambda: b"x", None), pause_seconds=0.05))
    before = threading.active_count()
    with pytest.raises(DownloadError, match="took too long"):
        fetched(address, max_seconds=0.5)
    web.is_over.set()
    deadline = time.monotonic() + MAX_SECONDS_TO_STOP
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= before


@pytest.mark.slow
@pytest.mark.parametrize("how", ["cancelled", "stopped"])
def test_a_server_does_not_wait_for_a_zip_that_drips(web: Server, tmp_path: Path, how: str) -> None:
    """Cog's own download would have gone on for half an hour."""
    address = web.offer("/drip.zip", Answer(DRIP, pause_seconds=1.0))
    with ThreadPoolExecutor() as pool:
        with serve(tmp_path) as server:
            server.wait_until("READY")
            asking = pool.submit(server.predict_as, "drip", instance_data=address, **SMALL)
            server.wait_until("BUSY")
            time.sleep(1)
            assert server.files()
            start = time.monotonic()
            if how == "cancelled":
                server.cancel("drip")
                assert asking.result().json()["status"] == "canceled"
                assert time.monotonic() - start < MAX_SECONDS_TO_STOP
                assert server.files() == []
        # serve() has sent SIGTERM, and waited for the end.
        asking.exception(timeout=20)
    assert server.files() == []
