"""What all scripts promise, from wherever they are called; tried with the quickest of them."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

SCRIPTS = sorted((REPOSITORY / "script").iterdir())


def help_of(command: str | Path, cwd: Path, **variables: str) -> str:
    """Of script/inspect, and what else is printed."""
    run = subprocess.run(
        [command, "--help"],
        cwd=cwd,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout


def test_a_link_to_a_script_does_as_the_script(tmp_path: Path) -> None:
    (tmp_path / "look").symlink_to(REPOSITORY / "script" / "inspect")

    assert help_of("look", tmp_path, PATH=f"{tmp_path}:{os.environ['PATH']}").startswith("usage")


def test_a_folder_of_the_same_name_on_the_shells_way_is_not_taken_for_it(tmp_path: Path) -> None:
    """`cd script/..` would look for it along CDPATH first, and tell where it went."""
    (tmp_path / "script").mkdir()

    for path in (str(tmp_path), f".:{tmp_path}"):
        assert help_of("script/inspect", REPOSITORY, CDPATH=path).startswith("usage")


def test_packages_of_another_python_are_left_to_it(tmp_path: Path) -> None:
    """Other programs name theirs in the environment, where Python looks first."""
    (tmp_path / "numpy.py").write_text("raise ImportError('for Python 3.10')\n")

    theirs = dict.fromkeys(("PYTHONPATH", "PYTHONHOME"), str(tmp_path))

    assert help_of(REPOSITORY / "script/inspect", tmp_path, **theirs).startswith("usage")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_script_finds_its_repository_in_that_way(script: Path) -> None:
    text = script.read_text(encoding="utf-8")

    assert text.count('cd "$(dirname "$(readlink -f "$0")")/.."\n') == 1


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_no_script_relies_on_where_the_environment_was_made(script: Path) -> None:
    """pip writes that place into the programs that it installs: only `python` may be moved."""
    text = script.read_text(encoding="utf-8")

    assert not re.search(r"\.venv(-interop)?/bin/(?!python\b)", text)
