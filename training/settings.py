"""What a run is asked to do: the form's inputs, checked, and what they mean to the optimisers."""

from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar, get_args

Task = Literal["face", "object", "style", "location"]
LrScheduler = Literal[
    "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup"
]
OutputFormat = Literal["lora_diffusion", "kohya", "diffusers"]
SavePrecision = Literal["fp16", "bf16", "fp32"]

# The prior service multiplied every learning rate by its gradient accumulation (2), also in the
# tuning phase, where it accumulated nothing. Callers' numbers were chosen against that.
RATE_FACTOR = 2
INVERSION_BATCH_SIZE = 2  # two accumulated micro-batches of one picture, here one batch of two


class SettingsError(ValueError):
    """A setting the caller can correct; the message is shown as it is."""


@dataclass(frozen=True, kw_only=True)
class TrainingInputs:
    """The choices and numbers of the form; the prior service's have its names and defaults.

    Attributes:
        resolution: pixels a side.
        max_train_steps_ti: pictures seen by textual inversion.
        max_train_steps_tuning: pictures seen by LoRA tuning.
        learning_rate_text, learning_rate_ti, learning_rate_unet: as typed; see `translate`.
        seed: same seed, inputs and machine: same bytes.
        output_format, save_precision: of the file, see training/formats.
    """

    task: Task = "face"
    resolution: int = 512
    max_train_steps_ti: int = 700
    max_train_steps_tuning: int = 700
    learning_rate_text: float = 1e-5
    learning_rate_ti: float = 5e-4
    learning_rate_unet: float = 2e-4
    lr_scheduler: LrScheduler = "constant"
    lora_rank: int = 16
    seed: int = 0
    output_format: OutputFormat = "lora_diffusion"
    save_precision: SavePrecision = "fp16"

    def __post_init__(self) -> None:
        """Raises: SettingsError, for what no base model could do."""
        _require_choice("task", self.task, get_args(Task))
        _require_choice("lr_scheduler", self.lr_scheduler, get_args(LrScheduler))
        _require_choice("output_format", self.output_format, get_args(OutputFormat))
        _require_choice("save_precision", self.save_precision, get_args(SavePrecision))
        _require_whole("resolution", self.resolution, 64, 1024)
        _require_whole("max_train_steps_ti", self.max_train_steps_ti, 0, 20_000)
        _require_whole("max_train_steps_tuning", self.max_train_steps_tuning, 0, 20_000)
        _require_whole("lora_rank", self.lora_rank, 1, 128)
        _require_whole("seed", self.seed, 0, 2**31 - 1)
        for name in ("learning_rate_text", "learning_rate_ti", "learning_rate_unet"):
            _require_rate(name, getattr(self, name))
        if self.max_train_steps_ti == self.max_train_steps_tuning == 0:
            raise SettingsError(
                "max_train_steps_ti and max_train_steps_tuning are both 0, so nothing would be"
                " learned. Set at least one of them; 700 each is the default."
            )


@dataclass(frozen=True, kw_only=True)
class InversionSettings:
    """Phase 1: learn the placeholder embeddings, everything else frozen."""

    num_updates: int
    learning_rate: float
    batch_size: int = INVERSION_BATCH_SIZE

    @property
    def learns(self) -> bool:
        return self.num_updates > 0 and self.learning_rate > 0


@dataclass(frozen=True, kw_only=True)
class TuningSettings:
    """Phase 2: learn LoRA layers with the embeddings fixed."""

    num_updates: int
    unet_learning_rate: float
    text_learning_rate: float
    rank: int
    batch_size: int = 1
    weight_decay: float = 1e-3
    # The noisiest fifth of the schedule teaches layout, not likeness: leave it out (T-LoRA agrees).
    max_timestep_fraction: float = 0.8
    max_grad_norm: float = 1.0

    @property
    def learns(self) -> bool:
        return self.num_updates > 0 and max(self.unet_learning_rate, self.text_learning_rate) > 0


_PhaseSettings = TypeVar("_PhaseSettings", InversionSettings, TuningSettings)


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """All that `train` needs to know beside the pictures.

    Attributes:
        mirror: also train on each picture's mirror image; a mirrored face is another face.
    """

    inversion: InversionSettings
    tuning: TuningSettings
    lr_scheduler: LrScheduler = "constant"
    mirror: bool = False
    seed: int = 0
    placeholder_tokens: tuple[str, ...] = field(default=("<s1>", "<s2>"))


def translate(inputs: TrainingInputs) -> TrainingSettings:
    """The prior service's effective rates and updates for these inputs.

    Its textual inversion stepped the optimiser on every second picture, so n steps are n/2 updates
    (rounded up: it stepped on the first) of 2 pictures; its tuning stepped on every picture. With
    the defaults: 350 updates at 1e-3, then 700 at 4e-4 (UNet) and 2e-5 (text encoder).
    """
    return TrainingSettings(
        inversion=InversionSettings(
            num_updates=-(-inputs.max_train_steps_ti // INVERSION_BATCH_SIZE),
            learning_rate=RATE_FACTOR * inputs.learning_rate_ti,
        ),
        tuning=TuningSettings(
            num_updates=inputs.max_train_steps_tuning,
            unet_learning_rate=RATE_FACTOR * inputs.learning_rate_unet,
            text_learning_rate=RATE_FACTOR * inputs.learning_rate_text,
            rank=inputs.lora_rank,
        ),
        lr_scheduler=inputs.lr_scheduler,
        mirror=inputs.task in ("object", "style"),
        seed=inputs.seed,
    )


def share_out(settings: TrainingSettings, num_processes: int) -> TrainingSettings:
    """What several processes do together for what these settings ask of one.

    Each sees as many pictures per update as one alone would, so an update sees more, and fewer
    updates (rounded up) see as many in all. The learning rates stay.
    """

    def together(phase: _PhaseSettings) -> _PhaseSettings:
        return replace(
            phase,
            num_updates=-(-phase.num_updates // num_processes),
            batch_size=phase.batch_size * num_processes,
        )

    return replace(
        settings, inversion=together(settings.inversion), tuning=together(settings.tuning)
    )


def _shown(value: object) -> str:
    """Enough of it to be recognised."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _require_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise SettingsError(f"{name} must be one of {', '.join(choices)}; got {_shown(value)}.")


def _require_whole(name: str, value: object, smallest: int, largest: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not smallest <= value <= largest:
        raise SettingsError(
            f"{name} must be a whole number from {smallest} to {largest}; got {_shown(value)}."
        )


def _require_rate(name: str, value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise SettingsError(f"{name} must be a number from 0 to 1; got {_shown(value)}.")
