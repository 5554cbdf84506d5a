"""The examples on a page of documentation, and the commands that run them.

Each is a fenced block below a comment that says what is done with it.
"""

import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

BLOCK = re.compile(
    r"^<!-- (?P<marker>[^\n]+) -->\n```(?P<language>\w+)\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
SUFFIX = {"bash": ".sh", "python": ".py", "js": ".mjs"}
RUN = {"bash": ["bash", "-euo", "pipefail"], "python": [sys.executable], "js": ["node"]}
CHECK = {
    "bash": ["bash", "-n"],
    "python": [sys.executable, "-m", "py_compile"],
    "js": ["node", "--check"],
}
NEEDS = {"bash": ("bash", "curl", "jq"), "python": (), "js": ("node",)}


@dataclass(frozen=True, kw_only=True)
class Example:
    """A block of the page.

    Attributes:
        line: where its fence is, from 1.
        marker: the comment above it: what is done with it, and what it must do.
    """

    line: int
    marker: str
    language: str
    code: str

    def words_after(self, word: str) -> list[str]:
        """What the marker says it "makes" or "prints"."""
        parts = self.marker.split(", ")
        return [part.removeprefix(f"{word} ") for part in parts if part.startswith(f"{word} ")]

    def name(self) -> str:
        return f"line-{self.line}-{self.language}"


def examples_in(page: str) -> list[Example]:
    return [
        Example(line=page[: match.start("code")].count("\n"), **match.groupdict())
        for match in BLOCK.finditer(page)
    ]


def command(
    example: Example, how: dict[str, list[str]], folder: Path, changed: dict[str, str]
) -> list[str]:
    """The words that run or check the example, which is written to a file."""
    for tool in NEEDS[example.language]:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    code = example.code
    for shown, real in changed.items():
        code = code.replace(shown, real)
    path = folder / f"{example.name()}{SUFFIX[example.language]}"
    path.write_text(code, encoding="utf-8")
    return [*how[example.language], str(path)]
