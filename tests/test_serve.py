"""script/serve, as it is typed: what keeps a server from starting is a sentence."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli.serve import main
from tests.cog_server import STOP_SECONDS, CogServer, free_port
from tests.conftest import REPOSITORY


@pytest.mark.parametrize("port", ["abc", "0", "65536", "-1", "5000.0"])
def test_what_is_no_port_is_refused(
    port: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PORT", port)

    assert main([]) == 1

    sentence = f"PORT must be a whole number from 1 to 65535; got '{port}'.\n"
    assert capsys.readouterr().err == sentence


def test_a_port_that_is_taken_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        monkeypatch.setenv("PORT", str(other.getsockname()[1]))
        assert main([]) == 1

    told = capsys.readouterr().err
    assert "cannot be used: Address already in use. Choose another: PORT=" in told
    assert told.count("\n") == 1


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / ".cog").write_text("where a folder should be made")

    run = subprocess.run(
        [sys.executable, "-m", "cli", "serve"],
        cwd=tmp_path,
        env={**os.environ, "PORT": str(free_port()), "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 1
    assert run.stderr == "The server's form cannot be written: .cog: File exists.\n"


def test_help_starts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    assert "$PORT, default 5000" in capsys.readouterr().out


def start(temporary: Path, port: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(REPOSITORY / "script" / "serve")],
        env={**os.environ, "PORT": str(port), "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.5, 2.0])
def test_ctrl_c_while_it_starts_is_answered_with_a_word(seconds: float, tmp_path: Path) -> None:
    process = start(tmp_path, free_port())
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)

    _, errors = process.communicate(timeout=STOP_SECONDS)

    assert (process.returncode, errors) == (130, "Stopped.\n")


@pytest.mark.slow
def test_ctrl_c_ends_a_server_that_is_ready_and_leaves_nothing(tmp_path: Path) -> None:
    port = free_port()
    process, server = start(tmp_path, port), CogServer(f"http://127.0.0.1:{port}", tmp_path)
    server.wait_until("READY")
    os.killpg(process.pid, signal.SIGINT)

    output, errors = process.communicate(timeout=STOP_SECONDS)

    assert process.returncode == 0
    assert "says READY when the model is loaded." in errors
    assert "Traceback" not in output + errors
    assert server.files() == []
