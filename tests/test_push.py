"""script/push, run in a copy of this repository, with a stand-in for Cog that says what it got."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from cli.download_weights import main
from tests.conftest import REPOSITORY, TINY

pytestmark = pytest.mark.slow

COG = """#!/bin/sh
printf '%s\\n' "$@" > {seen}/arguments
find . -type f | sort > {seen}/files
exit {status}
"""
MODEL = "r8.im/somebody/face-lora"
FOLDER = "weights/stable-diffusion-v1-5"


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=A", "-c", "user.email=a@example.com"]
    command = ["git", *who, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """These files, committed, with the environment that is installed here and a base model."""
    folder = tmp_path_factory.mktemp("repository")
    listing = git(REPOSITORY, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for path in filter(None, listing.split("\0")):
        if (REPOSITORY / path).is_file():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / path, folder / path)
    git(folder, "init", "-q")
    git(folder, "add", "--all")
    git(folder, "commit", "-q", "-m", "As it is")
    (folder / ".venv").symlink_to(REPOSITORY / ".venv")
    assert main(["--from", str(TINY)], folder / "weights") == 0
    return folder


@pytest.fixture
def seen(tmp_path: Path) -> Path:
    """Where the stand-in writes; it is on the PATH in `tmp_path`/bin."""
    (tmp_path / "seen").mkdir()
    (tmp_path / "bin").mkdir()
    write_cog(tmp_path, status=0)
    return tmp_path / "seen"


def write_cog(folder: Path, *, status: int) -> None:
    cog = folder / "bin" / "cog"
    cog.write_text(COG.format(seen=folder / "seen", status=status), encoding="utf-8")
    cog.chmod(0o755)


def push(checkout: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{folder / 'bin'}:/usr/bin:/bin"}
    return subprocess.run(
        [checkout / "script" / "push", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_cog_gets_the_commit_and_the_base_model_and_nothing_else(
    checkout: Path, seen: Path
) -> None:
    (checkout / "my-photos.txt").write_text("not for the world", encoding="utf-8")

    result = push(checkout, seen.parent, MODEL)

    assert result.returncode == 0, result.stderr
    assert (seen / "arguments").read_text().split() == ["push", MODEL, "--separate-weights"]
    files = {line.removeprefix("./") for line in (seen / "files").read_text().splitlines()}
    model = {
        str(path.relative_to(checkout)) for path in (checkout / FOLDER).rglob("*") if path.is_file()
    }
    assert f"{FOLDER}/unet/diffusion_pytorch_model.safetensors" in model
    committed = set(git(checkout, "ls-files").splitlines())
    assert files == committed | model
    assert "predict.py" in files
    assert not list(checkout.glob(".push.*"))
    (checkout / "my-photos.txt").unlink()


def test_what_is_not_committed_is_said_to_stay(checkout: Path, seen: Path) -> None:
    path = checkout / "predict.py"
    before = path.read_text(encoding="utf-8")
    path.write_text(before + "# changed\n", encoding="utf-8")

    result = push(checkout, seen.parent, MODEL)

    path.write_text(before, encoding="utf-8")
    assert "What is not committed is not pushed." in result.stderr


@pytest.mark.parametrize("arguments", [(), (MODEL, "more")])
def test_without_a_model_nothing_happens(
    checkout: Path, seen: Path, arguments: tuple[str, ...]
) -> None:
    result = push(checkout, seen.parent, *arguments)

    assert result.returncode == 2
    assert result.stderr.startswith("Which model? script/push ")
    assert not list(seen.iterdir())


def test_without_cog_a_sentence_says_where_to_get_it(checkout: Path, tmp_path: Path) -> None:
    result = push(checkout, tmp_path, MODEL)

    assert result.returncode == 1
    assert result.stderr == "cog is not installed: see docs/deploy.md.\n"


def test_damaged_weights_are_not_pushed(checkout: Path, seen: Path) -> None:
    path = checkout / FOLDER / "unet" / "config.json"
    before = path.read_bytes()
    path.write_bytes(before.replace(b"4", b"5", 1))

    result = push(checkout, seen.parent, MODEL)

    path.write_bytes(before)
    assert result.returncode == 1
    assert "unet/config.json has changed" in result.stderr
    assert not list(seen.iterdir())


def test_a_failed_push_is_a_failure_and_leaves_nothing_behind(checkout: Path, seen: Path) -> None:
    write_cog(seen.parent, status=7)

    result = push(checkout, seen.parent, MODEL)

    assert result.returncode == 7
    assert (seen / "arguments").exists()
    assert not list(checkout.glob(".push.*"))
    assert (checkout / FOLDER / "unet" / "config.json").is_file()
