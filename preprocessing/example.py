"""What preprocessing hands to training."""

from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True, kw_only=True)
class Example:
    """One photo, ready to train on.

    Attributes:
        image: RGB, square, `resolution` pixels a side.
        mask: mode L, same size, white where the subject is; None: every pixel counts the same.
        prompts: at least one, each with `{}` for the placeholder tokens; one is drawn per step.
    """

    image: Image.Image
    mask: Image.Image | None
    prompts: tuple[str, ...]
