"""How a LoRA came about: what people want to know of a file they find on their disk."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Facts and figures only, never a word that a user wrote. None: not known.

    Attributes:
        base_model: its name, as its card says.
        prediction_type: what the UNet predicts: epsilon or v_prediction.
        resolution: pixels a side.
        inversion_steps, tuning_steps: pictures seen.
        learning_rate_ti, learning_rate_unet, learning_rate_text: as the optimiser used them.
        version: of this trainer.
        date: ISO 8601; only where SOURCE_DATE_EPOCH gives one, so that equal runs
            give equal files.
    """

    base_model: str | None = None
    prediction_type: str | None = None
    task: str | None = None
    resolution: int | None = None
    num_pictures: int | None = None
    inversion_steps: int | None = None
    tuning_steps: int | None = None
    learning_rate_ti: float | None = None
    learning_rate_unet: float | None = None
    learning_rate_text: float | None = None
    lr_scheduler: str | None = None
    seed: int | None = None
    version: str | None = None
    date: str | None = None


UNKNOWN = Origin()
