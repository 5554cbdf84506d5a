"""The image and a developer's machine differ in torch and in tools, in nothing else."""

import re

from tests.conftest import REPOSITORY


def pins(name: str) -> dict[str, str]:
    lines = (REPOSITORY / name).read_text(encoding="utf-8").splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    matches = [re.fullmatch(r"([A-Za-z0-9_.-]+)==([A-Za-z0-9.]+)", line) for line in wanted]
    assert all(matches), f"{name}: every line must be name==version"
    return {match[1].lower(): match[2] for match in matches if match}


def test_a_developer_tests_what_the_image_runs() -> None:
    image, developer = pins("requirements.txt"), pins("requirements-dev.txt")
    assert {name: developer.get(name) for name in image if name != "torch"} == {
        name: version for name, version in image.items() if name != "torch"
    }


def test_every_direct_dependency_has_its_reason_written_down() -> None:
    reasons = (REPOSITORY / "docs" / "dependencies.md").read_text(encoding="utf-8").lower()
    for name in {**pins("requirements.txt"), **pins("requirements-dev.txt")}:
        assert f"`{name}`" in reasons, f"docs/dependencies.md does not say why {name} is needed"


def test_what_the_old_reader_is_installed_from_is_pinned_too() -> None:
    lines = (REPOSITORY / "requirements-interop.txt").read_text(encoding="utf-8").splitlines()
    *libraries, reader = [line for line in lines if not line.startswith("#")]
    for line in libraries:
        assert re.fullmatch(r"[a-z-]+==[0-9.]+", line)
    commit = r"lora-diffusion @ git\+https://github\.com/cloneofsimo/lora@[0-9a-f]{40}"
    assert re.fullmatch(commit, reader)
