"""What .dockerignore lets into the image, by Docker's own rules for its patterns."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
import yaml

from tests.conftest import REPOSITORY

PATTERNS = [
    line
    for line in (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
CONFIG = yaml.safe_load((REPOSITORY / "cog.yaml").read_text(encoding="utf-8"))
BASE_MODEL = dict(entry.split("=", 1) for entry in CONFIG["environment"])["BASE_MODEL"]

# A new name here should be a decision, not an accident.
IN_THE_IMAGE = {
    "LICENSE", "cog.yaml", "predict.py", "preprocessing", "requirements.txt", "service",
    "training", "weights",
}  # fmt: skip
# Cog takes for weights what has this size, and cannot copy it from where Docker does not look.
SIZE_OF_WEIGHTS = 10 * 2**20


def expression(pattern: str) -> str:
    """`**` is any number of folders, `*` and `?` stay within one; all are counted from the root."""
    pieces = re.split(r"(\*\*/|\*\*|\*|\?)", pattern.strip("/"))
    wild = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(wild.get(piece, re.escape(piece)) for piece in pieces)


def is_ignored(path: str, patterns: list[str]) -> bool:
    """The last pattern that fits the path or a folder above it decides; `!` lets it in again."""
    above = [str(parent) for parent in PurePosixPath(path).parents][:-1]
    ignored = False
    for pattern in patterns:
        wanted = re.compile(expression(pattern.removeprefix("!")))
        if any(wanted.fullmatch(name) for name in (path, *above)):
            ignored = not pattern.startswith("!")
    return ignored


@pytest.mark.parametrize(
    ("patterns", "path", "expected"),
    [
        (["*.md"], "README.md", True),
        (["*.md"], "docs/api.md", False),
        (["**/*.md"], "docs/deep/api.md", True),
        (["**/__pycache__"], "training/formats/__pycache__/a.pyc", True),
        (["**/__pycache__"], "__pycache__/a.pyc", True),
        ([".*"], ".venv/bin/python", True),
        (["docs"], "docs/images/a.png", True),
        (["docs"], "more/docs/a.png", False),
        (["weights/*", "!weights/tiny"], "weights/tiny/unet/config.json", False),
        (["weights/*", "!weights/tiny"], "weights/tiny.partial/unet/config.json", True),
        (["!weights/tiny", "weights/*"], "weights/tiny/unet/config.json", True),
        (["a?c"], "abc", True),
        (["a?c"], "a/c", False),
    ],
)
def test_this_file_reads_patterns_as_docker_does(
    patterns: list[str], path: str, expected: bool
) -> None:
    """The cases of Docker's reference for .dockerignore."""
    assert is_ignored(path, patterns) is expected


def tracked_files() -> list[str]:
    """What script/push hands to Cog, beside the base model."""
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return [path for path in listing.stdout.split("\0") if (REPOSITORY / path).is_file()]


def imported_from(module: Path) -> Iterator[Path]:
    """The files of this repository that a module names in its imports, at any depth."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            path = REPOSITORY / name.replace(".", "/")
            yield from (p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file())


def test_all_that_the_predictor_imports_is_in_the_image() -> None:
    needed, to_read = {REPOSITORY / "predict.py"}, [REPOSITORY / "predict.py"]
    while to_read:
        found = set(imported_from(to_read.pop())) - needed
        needed |= found
        to_read += found

    assert len(needed) > 20
    paths = [str(path.relative_to(REPOSITORY)) for path in needed]
    assert [path for path in paths if is_ignored(path, PATTERNS)] == []


@pytest.mark.parametrize("folder", [BASE_MODEL, "weights/tiny"])
def test_the_weights_are_in_the_image(folder: str) -> None:
    for path in (
        "model_index.json",
        "training.json",
        "tokenizer/vocab.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    ):
        assert not is_ignored(f"{folder}/{path}", PATTERNS)


@pytest.mark.parametrize(
    "path",
    [
        ".git/HEAD",
        ".venv/lib/python3.11/site-packages/torch/lib/libtorch_cpu.so",
        "training/__pycache__/loop.cpython-311.pyc",
        "output/penguin.safetensors",
        "weights/stable-diffusion-2-1/unet/diffusion_pytorch_model.safetensors",
        f"{BASE_MODEL}.partial/unet/diffusion_pytorch_model.safetensors.unfinished",
        f"{BASE_MODEL}.importing/stable-diffusion-v1-5/unet/diffusion_pytorch_model.safetensors",
        "tests/test_dockerignore.py",
    ],
)
def test_what_the_image_does_not_need_stays_out(path: str) -> None:
    assert is_ignored(path, PATTERNS)


def test_nothing_new_slips_in() -> None:
    carried = {path.split("/")[0] for path in tracked_files() if not is_ignored(path, PATTERNS)}

    assert carried <= IN_THE_IMAGE


def test_cog_finds_no_weights_where_docker_does_not_look() -> None:
    """`cog push --separate-weights` would stop at such a file: see script/push."""
    large = [p for p in tracked_files() if (REPOSITORY / p).stat().st_size >= SIZE_OF_WEIGHTS]

    assert [path for path in large if is_ignored(path, PATTERNS)] == []
