"""Requests that Cog itself writes to disk, in a folder that TMPDIR does not move."""

import os
import time
from pathlib import Path

import pytest

from service.cog_files import COGS_FOLDER, SECONDS_IN_USE, close_to_others, remove_old
from service.workplace import StorageError
from tests.cog_server import data_uri, serve
from tests.test_server import PHOTOS, SMALL

LARGE = 7 << 20  # bytes; Cog writes a request of more than 6 MiB to disk


def mode(path: Path) -> str:
    return oct(path.stat().st_mode & 0o777)


def left_behind(folder: Path, name: str, seconds_ago: float) -> Path:
    """What a server leaves that is killed while it reads a request."""
    inputs = folder / "predictions" / name / "inputs"
    inputs.mkdir(parents=True)
    request = inputs / "spill.json"
    request.write_text('{"custom_prompts": "somebody\'s"}')
    then = time.time() - seconds_ago
    for path in (request, inputs, inputs.parent):
        os.utime(path, (then, then))
    return request


def test_nobody_else_can_look_into_cogs_folder(tmp_path: Path) -> None:
    folder = tmp_path / "coglet"
    for _ in range(2):
        close_to_others(folder)
        assert mode(folder) == "0o700"
        folder.chmod(0o755)  # as Cog makes it


def test_what_was_left_there_is_removed_but_not_what_cog_may_be_reading(tmp_path: Path) -> None:
    old = left_behind(tmp_path, "a-name-of-mine", SECONDS_IN_USE + 60)
    in_use = left_behind(tmp_path, "another-servers", SECONDS_IN_USE - 60)
    read_now = left_behind(tmp_path, "name-used-again", SECONDS_IN_USE + 60)
    (read_now.parent / "of-now.json").write_text("{}")

    remove_old(tmp_path)

    assert not old.parent.parent.exists()
    assert in_use.exists()
    assert read_now.exists()


def test_nothing_to_remove_is_no_mistake(tmp_path: Path) -> None:
    remove_old(tmp_path / "there is none")


@pytest.mark.parametrize("taken", ["coglet", "coglet/predictions"])
def test_a_folder_that_cog_cannot_use_is_told_at_the_start(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).parent.mkdir(exist_ok=True)
    (tmp_path / taken).touch()
    with pytest.raises(StorageError, match=r"where nothing can be written: .*Make room there"):
        close_to_others(tmp_path / "coglet")


def test_a_disk_that_takes_nothing_is_told_at_the_start() -> None:
    with pytest.raises(StorageError, match="where nothing can be written"):
        close_to_others(Path("/proc/coglet"))  # nobody, root included, makes folders there


@pytest.mark.slow
def test_a_server_keeps_a_large_request_from_others_and_leaves_nothing_of_it(
    tmp_path: Path,
) -> None:
    COGS_FOLDER.mkdir(exist_ok=True)
    COGS_FOLDER.chmod(0o755)
    name = f"large-{os.getpid()}"
    killed = left_behind(COGS_FOLDER, f"killed-{os.getpid()}", SECONDS_IN_USE + 60)
    with serve(tmp_path) as server:
        server.wait_until("READY")
        assert mode(COGS_FOLDER) == "0o700"
        assert not killed.parent.parent.exists()

        archive = PHOTOS + bytes(LARGE)  # a zip may be followed by anything
        answer = server.predict_as(name, instance_data=data_uri(archive), **SMALL)

        assert answer.status_code == 200
        folder = COGS_FOLDER / "predictions" / name
        assert folder.exists()  # else it is somewhere else that Cog writes
        assert [path for path in folder.rglob("*") if path.is_file()] == []
