"""script/setup, run with a real environment but for what is put into it: one small package."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow

VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
WHEEL = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The script alone, with this Python on the PATH in `tmp_path`/bin, and one requirement."""
    folder = tmp_path / "repository"
    (folder / "script").mkdir(parents=True)
    shutil.copy(REPOSITORY / "script" / "setup", folder / "script")
    require(folder, "1.0")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / VERSION).symlink_to(Path(sys.executable).resolve())
    return folder


def require(folder: Path, version: str) -> None:
    """A requirement on this machine's disk: the module `lessons_learned`, which does nothing."""
    name = f"lessons_learned-{version}"
    about = f"Metadata-Version: 2.1\nName: lessons-learned\nVersion: {version}\n"
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("lessons_learned.py", f"VERSION = {version!r}\n")
        wheel.writestr(f"{name}.dist-info/METADATA", about)
        wheel.writestr(f"{name}.dist-info/WHEEL", WHEEL)
        wheel.writestr(f"{name}.dist-info/RECORD", "")
    (folder / "requirements-dev.txt").write_text(f"./{name}-py3-none-any.whl\n")


def start(checkout: Path, **variables: str) -> subprocess.Popen[str]:
    path = f"{checkout.parent / 'bin'}:/usr/bin:/bin"
    return subprocess.Popen(
        [checkout / "script" / "setup"],
        env={"PATH": path, "HOME": str(checkout.parent), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def set_up(checkout: Path, **variables: str) -> str:
    """What it tells."""
    with start(checkout, **variables) as setup:
        output, errors = setup.communicate()
    assert (setup.returncode, output) == (0, ""), errors
    return errors


def installed_version(checkout: Path) -> str:
    python, code = checkout / ".venv/bin/python", "import lessons_learned as l; print(l.VERSION)"
    run = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    return run.stdout.strip()


def test_it_installs_when_the_requirements_change_and_after_an_interruption(checkout: Path) -> None:
    assert set_up(checkout).startswith("Installing the pinned requirements")
    assert set_up(checkout) == ""
    assert installed_version(checkout) == "1.0"

    require(checkout, "2.0")
    with (checkout / "requirements-dev.txt").open("a") as file:
        file.write("./missing-1.0-py3-none-any.whl\n")
    with start(checkout) as setup:
        setup.communicate()
    assert setup.returncode != 0
    require(checkout, "1.0")  # as before, but who knows what is installed by now

    assert set_up(checkout).startswith("Installing the pinned requirements")


@pytest.mark.parametrize("kind", ["of another version", "gone"])
def test_an_environment_whose_python_does_not_fit_is_made_anew(checkout: Path, kind: str) -> None:
    """Made by hand with what `python3` is here, or with a Python that was since removed."""
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    if kind == "gone":
        (python.parent / VERSION).symlink_to(checkout / "no-longer-here")
        python.symlink_to(VERSION)
    else:
        python.write_text("#!/bin/sh\nexit 1\n")
        python.chmod(0o755)

    set_up(checkout)

    assert installed_version(checkout) == "1.0"


def test_what_other_programs_set_does_not_reach_the_environment(checkout: Path) -> None:
    theirs = checkout.parent / "theirs"
    with zipfile.ZipFile(checkout / "lessons_learned-1.0-py3-none-any.whl") as wheel:
        wheel.extractall(theirs)

    set_up(checkout, PYTHONPATH=str(theirs), PYTHONHOME=str(theirs), PIP_USER="yes")

    assert installed_version(checkout) == "1.0"


def test_of_two_at_a_time_the_second_waits_and_installs_nothing(checkout: Path) -> None:
    """Two pips would write the same files at once, and neither looks out for the other."""
    record = checkout.parent / "record"
    with start(checkout, PIP_LOG=str(record)) as one, start(checkout, PIP_LOG=str(record)) as other:
        for setup in (one, other):
            _, errors = setup.communicate()
            assert setup.returncode == 0, errors

    assert record.read_text().count("Processing ./lessons_learned") == 1
    assert installed_version(checkout) == "1.0"
    assert set_up(checkout) == ""
