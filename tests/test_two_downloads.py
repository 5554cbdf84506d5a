"""Two processes that fetch the same model would write into each other's files."""

from pathlib import Path

import pytest

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
