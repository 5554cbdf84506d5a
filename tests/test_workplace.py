"""Where temporary files go, and that they are gone whatever happens to the process."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from service.workplace import ROOT_NAME, StorageError, Workplace
from tests.conftest import REPOSITORY

WORKER = """
import sys, tempfile, time
from pathlib import Path
from service.workplace import Workplace
workplace = Workplace(Path(sys.argv[1]))
workplace.use_for_temporary_files()
(workplace.new_folder() / "face.safetensors").write_bytes(b"somebody's")
tempfile.NamedTemporaryFile(delete=False).write(b"somebody's")
print(workplace.folder, flush=True)
time.sleep(60 if sys.argv[2] == "wait" else 0)
"""


def start(parent: Path, what: str) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(parent), what],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        return process, Path(process.stdout.readline().strip())


def files(parent: Path) -> list[Path]:
    return [path for path in parent.rglob("*") if path.is_file()]


def test_the_folder_is_private_and_goes_with_its_process(tmp_path: Path) -> None:
    process, folder = start(tmp_path, "end")
    assert process.wait(timeout=60) == 0
    assert not folder.exists()
    assert files(tmp_path) == []


def test_a_folder_that_others_could_look_into_is_closed_to_them(tmp_path: Path) -> None:
    root = tmp_path / f"{ROOT_NAME}-{os.getuid()}"
    root.mkdir(mode=0o755)
    Workplace(tmp_path).remove()
    assert oct(root.stat().st_mode & 0o777) == "0o700"


def test_what_a_killed_process_left_is_removed_by_the_next_but_not_a_living_ones(
    tmp_path: Path,
) -> None:
    killed, abandoned = start(tmp_path, "wait")
    living, at_work = start(tmp_path, "wait")
    try:
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait(timeout=60)
        assert len(files(abandoned)) == 2  # the kernel tells nobody

        ours = Workplace(tmp_path)

        assert not abandoned.exists()
        assert len(files(at_work)) == 2
        for folder in (ours.folder, ours.folder.parent, at_work):
            assert oct(folder.stat().st_mode & 0o777) == "0o700"
        ours.remove()
    finally:
        living.kill()
        living.wait(timeout=60)


def test_all_is_cleared_but_what_is_to_be_kept(tmp_path: Path) -> None:
    workplace = Workplace(tmp_path)
    kept, gone = workplace.folder / "upload.zip", workplace.folder / "older.zip"
    kept.write_bytes(b"zip")
    gone.write_bytes(b"zip")
    (workplace.new_folder() / "result").write_bytes(b"LoRA")
    (workplace.folder / "link").symlink_to(tmp_path)

    workplace.clear(keep=[kept])

    assert list(workplace.folder.iterdir()) == [kept]
    assert tmp_path.exists()


def test_what_cannot_be_removed_does_not_end_a_run(tmp_path: Path) -> None:
    """As on a disk that became read-only: the error would name the file, and hide the run's own."""
    workplace = Workplace(tmp_path)
    folder, workplace.folder = workplace.folder, Path("/proc/self/fdinfo")  # the kernel's own files
    workplace.clear()
    workplace.folder = folder
    workplace.remove()


def test_somebody_elses_folder_of_that_name_is_left_alone(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "precious").write_bytes(b"data")
    (tmp_path / f"{ROOT_NAME}-{os.getuid()}").symlink_to(theirs)

    workplace = Workplace(tmp_path)

    assert (theirs / "precious").exists()
    assert theirs not in workplace.folder.parents
    workplace.remove()


def test_a_disk_that_cannot_be_written_to_is_told_in_a_sentence() -> None:
    with pytest.raises(StorageError, match=r"^Temporary files could not be written: .*\.$") as told:
        Workplace(Path("/proc"))  # nobody, root included, makes folders there
    assert "/proc" not in str(told.value)


@pytest.mark.slow
def test_processes_that_start_together_do_not_take_each_other_for_dead(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom service.workplace import Workplace\n"
        "for _ in range(60):\n"
        "    workplace = Workplace(Path(sys.argv[1]))\n"
        "    (workplace.new_folder() / 'file').write_bytes(b'x')\n"
        "    workplace.remove()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    starting = [subprocess.Popen(command, cwd=REPOSITORY) for _ in range(3)]
    assert [process.wait(timeout=120) for process in starting] == [0, 0, 0]


@pytest.mark.parametrize("is_root_gone", [False, True])
def test_a_folder_that_somebody_tidied_away_is_made_again(
    tmp_path: Path, is_root_gone: bool
) -> None:
    workplace = Workplace(tmp_path)
    workplace.remove()
    if is_root_gone:
        workplace.folder.parent.rmdir()
    workplace.clear()
    assert oct(workplace.folder.parent.stat().st_mode & 0o777) == "0o700"
    assert workplace.new_folder().exists()
    Workplace(tmp_path).remove()  # a server that starts must not take the new one for abandoned
    assert workplace.folder.exists()
    workplace.remove()


def test_an_upload_finds_the_folder_that_somebody_tidied_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tempdir", "gettempdir"):  # to be put back after the test
        monkeypatch.setattr(tempfile, name, getattr(tempfile, name))
    workplace = Workplace(tmp_path)
    workplace.use_for_temporary_files()
    shutil.rmtree(workplace.folder.parent)
    with tempfile.NamedTemporaryFile() as upload:  # as Cog does, before it calls the predictor
        assert Path(upload.name).parent == workplace.folder
    shutil.rmtree(tmp_path)
    with pytest.raises(StorageError, match="Set TMPDIR to a folder") as told:
        tempfile.mkdtemp()
    assert str(tmp_path) not in str(told.value)


def test_time_passes_without_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    from service.server_watch import is_listening, stopped_with_the_server
    from tests.cog_server import free_port

    port = free_port()
    assert not is_listening(port)
    monkeypatch.setenv("PORT", str(port))
    with stopped_with_the_server():
        time.sleep(0.1)


def test_a_run_is_stopped_when_its_server_closes_its_port(monkeypatch: pytest.MonkeyPatch) -> None:
    from service import server_watch

    monkeypatch.setattr(server_watch, "SECONDS_BETWEEN_LOOKS", 0.02)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("PORT", str(server.getsockname()[1]))

        def work() -> None:
            server.close()
            for _ in range(500):
                time.sleep(0.01)

        stopped = pytest.raises(server_watch.ServerStopped, match=r"^The server was stopped .*\.$")
        with stopped, server_watch.stopped_with_the_server():
            work()
