"""Where the command line finds and puts things."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from training.settings import SettingsError, Task

REPOSITORY = Path(__file__).resolve().parent.parent
EXAMPLES = REPOSITORY / "examples"
OUTPUT = REPOSITORY / "output"
TRIAL_BYTES = 2**20  # less than any result: a disk without even this much left is full


@dataclass(frozen=True, kw_only=True)
class ExampleZip:
    """What goes with a zip that comes with the repository."""

    task: Task | None = None
    evaluate: Path | None = None


def first_example() -> Path:
    names = list(read_examples()) or sorted(path.name for path in EXAMPLES.glob("*.zip"))
    if not names:
        raise SettingsError("There is no zip in examples/. Name one: script/train my-pictures.zip")
    return near(EXAMPLES / names[0])


def find_example(archive: Path | None) -> ExampleZip | None:
    """What examples.json says about this zip, if it is one of the repository's own."""
    if archive is None or archive.resolve().parent != EXAMPLES:
        return None
    entry = read_examples().get(archive.name, {})
    held_out = entry.get("evaluate")
    return ExampleZip(
        task=entry.get("task"),
        evaluate=near(EXAMPLES / held_out) if held_out else None,
    )


def read_examples() -> dict[str, dict[str, Any]]:
    """Name of a zip -> its task, and the zip of other pictures to measure on."""
    path = EXAMPLES / "examples.json"
    if not path.is_file():
        return {}
    table: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return table


def near(path: Path) -> Path:
    """Relative to where the command was given, if it is under it: shorter to read."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def beside(out: Path, ending: str) -> Path:
    """photos.safetensors -> photos.safetensors.<ending>"""
    return out.with_name(f"{out.name}.{ending}")


def words_beside(out: Path) -> Path:
    """photos.safetensors -> photos-words.safetensors: programs call an embedding by its file."""
    return out.with_name(f"{out.stem}-words{out.suffix}")


def require_file(path: Path | None) -> None:
    if path is not None and path.parts[:1] in (("http:",), ("https:",)):
        raise SettingsError(
            "An address is no file. Give it as --instance_data_urls, or fetch it and name the file."
        )
    if path is not None and path.is_dir():
        raise SettingsError(f"{str(path)!r} is a folder. Zip the pictures in it, and name the zip.")
    if path is not None and not path.is_file():
        raise SettingsError(f"There is no file {str(path)!r}. Check its name, and where you are.")


def require_writable(out: Path) -> None:
    """Try it: better told before the work than after it.

    Raises: SettingsError.
    """
    if not out.name:
        raise SettingsError(f"--out must end in a name for the files; got {str(out)!r}.")
    prefix, suffix = f".{out.name}.", "-words"  # no name that is written with it is longer
    with writing_to(out), NamedTemporaryFile(prefix=prefix, suffix=suffix, dir=out.parent) as file:
        file.write(bytes(TRIAL_BYTES))


@contextmanager
def writing_to(out: Path, name: str = "--out") -> Iterator[None]:
    """Make its folder if need be.

    Args:
        name: what the command calls it.

    Raises: SettingsError, for what the system cannot write.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise SettingsError(
            f"Nothing can be written to {str(out)!r}: {error.strerror}. Choose another {name}."
        ) from error
