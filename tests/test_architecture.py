"""Who may import whom, and how large things may grow: read from the source, not from habit."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PACKAGES = ("preprocessing", "training", "weights", "service", "cli")
ALLOWED = {
    "preprocessing": set(),
    "training": {"preprocessing.example"},
    "weights": set(),
    "service": {"preprocessing", "training", "weights"},
    "predict": {"service", "preprocessing", "training", "weights"},
    "cli": {"predict", "service", "preprocessing", "training", "weights"},
}
# `accelerate launch -m training` has to start what `script/train` does.
ENTRIES = {"training/__main__.py": "cli"}


def modules() -> list[Path]:
    files = [REPOSITORY / "predict.py"]
    for package in PACKAGES:
        files += (REPOSITORY / package).rglob("*.py")
    return files


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or ""


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_imports_go_one_way(path: Path) -> None:
    relative = path.relative_to(REPOSITORY)
    home = ENTRIES.get(relative.as_posix(), relative.parts[0].removesuffix(".py"))
    for module in imports(path):
        top = module.split(".")[0]
        if top in (*PACKAGES, "predict", "tests", "benchmarks") and top != home:
            assert {top, module} & ALLOWED[home], f"{home} must not import {module}"


def test_only_the_predictor_and_the_schema_writer_know_cog() -> None:
    knowing = {
        str(p.relative_to(REPOSITORY))
        for p in modules()
        if "cog" in {name.split(".")[0] for name in imports(p)}
    }
    assert knowing <= {"predict.py", "cli/schema.py"}


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_files_stay_readable_at_one_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300
