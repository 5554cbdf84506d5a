"""Two processes that make the same model would write into each other's files."""

from pathlib import Path

import pytest

from cli.download_weights import main
from tests.conftest import TINY
from weights.download import download
from weights.folder import WeightsError, claimed
from weights.manifest import STABLE_DIFFUSION_1_5


def test_the_second_is_told_to_wait_and_touches_nothing(tmp_path: Path) -> None:
    partial = tmp_path / "stable-diffusion-v1-5.partial"
    with (
        claimed(partial),
        pytest.raises(WeightsError, match="Another process is making stable-diffusion-v1-5 just"),
    ):
        download(STABLE_DIFFUSION_1_5, tmp_path / "stable-diffusion-v1-5")

    assert list(tmp_path.rglob("*")) == [partial]
    with claimed(partial):  # as soon as the first has let go
        pass


def test_the_second_import_is_told_to_wait_and_leaves_the_first_its_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    partial = tmp_path / "stable-diffusion-v1-5.importing"
    with claimed(partial):
        half_done = partial / "stable-diffusion-v1-5" / "unet"
        half_done.mkdir(parents=True)
        assert main(["--from", str(TINY)], tmp_path) == 1
        assert half_done.is_dir()

    assert "Another process is making stable-diffusion-v1-5 just now" in capsys.readouterr().err
    assert main(["--from", str(TINY)], tmp_path) == 0  # the first was killed
    assert [path.name for path in tmp_path.iterdir()] == ["stable-diffusion-v1-5"]
