"""What a base model can do, read from its small text files: no weights, and no torch."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from training.settings import SettingsError


@dataclass(frozen=True, kw_only=True)
class ResolutionLimits:
    """Pixels a side: what the model was trained on, and what it still copes with."""

    native: int
    smallest: int
    largest: int
    step: int

    def takes(self, resolution: int) -> bool:
        return resolution == self._nearest(resolution)

    def check(self, resolution: int, model: str) -> None:
        """Raises: SettingsError, naming the nearest resolution that works."""
        if not self.takes(resolution):
            nearest = self._nearest(resolution)
            raise SettingsError(
                f"{model} trains on {self.smallest} to {self.largest} pixels a side, in steps of"
                f" {self.step}; resolution is {resolution}. The nearest that works is {nearest}."
            )

    def _nearest(self, resolution: int) -> int:
        inside = min(max(resolution, self.smallest), self.largest)
        return round(inside / self.step) * self.step


@dataclass(frozen=True, kw_only=True)
class BaseCard:
    """`training.json` beside the weights.

    Attributes:
        placeholder_norm: the L2 norm toward which the rows of new words are pulled: about that of
            the words the model knows well. The prior service's 0.4 suits SD 1.5's text encoder.
        recommended: form input -> the value that suits this model; for the command line.
    """

    name: str
    resolution: ResolutionLimits
    placeholder_norm: float = 0.4
    recommended: dict[str, int | float | str] = field(default_factory=dict)


def read_card(folder: Path) -> BaseCard:
    """The folder's training.json; without one, what the configs of its VAE and UNet tell."""
    path = folder / "training.json"
    if path.is_file():
        card = json.loads(path.read_text(encoding="utf-8"))
        return BaseCard(
            resolution=ResolutionLimits(**card.pop("resolution")),
            **card,
        )
    vae, unet = (
        json.loads((folder / part / "config.json").read_text(encoding="utf-8"))
        for part in ("vae", "unet")
    )
    # pixels per latent along a side: every encoder block but the last halves the picture
    factor = 2 ** (len(vae["block_out_channels"]) - 1)
    native = int(unet["sample_size"]) * factor
    return BaseCard(
        name=folder.name,
        resolution=ResolutionLimits(
            native=native, smallest=native // 2, largest=2 * native, step=max(8, factor)
        ),
    )


def base_model_folder() -> Path:
    """BASE_MODEL, relative to the repository; by default the small one that comes with it."""
    repository = Path(__file__).resolve().parent.parent
    return repository / (os.environ.get("BASE_MODEL") or "weights/tiny")
