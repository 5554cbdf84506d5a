"""One run: photos in, a LoRA file out. The web form, the API and the command line all call this."""

import importlib.metadata
import logging
import math
import os
import pathlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import training
from preprocessing.prepare import Prepared, prepare_examples
from preprocessing.prompts import parse_list
from service.workplace import storage_error
from training.base_model import BaseModel
from training.formats import check_layers, write_lora
from training.origin import Origin
from training.phase import Report
from training.pivotal import Trained, lora_without_numbers, train
from training.settings import (
    SettingsError,
    TrainingInputs,
    TrainingSettings,
    share_out,
    translate,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Request:
    """One run, as it was asked for.

    Attributes:
        instance_data: a zip of photos; None when all of them come by URL.
        instance_data_urls, custom_prompts: lists as text, see `parse_list`.
        name: of the file to write, without its ending.
    """

    instance_data: pathlib.Path | None
    instance_data_urls: str | None
    custom_prompts: str | None
    inputs: TrainingInputs
    name: str


@dataclass(frozen=True, kw_only=True)
class MadeLora:
    """The file, and how it came about.

    Attributes:
        seconds: stage -> how long it took.
    """

    path: pathlib.Path
    prepared: Prepared
    trained: Trained
    seconds: dict[str, float]


def make_lora(
    base: BaseModel,
    request: Request,
    folder: pathlib.Path,
    report: Report,
    max_seconds: float = math.inf,
) -> MadeLora:
    """Photos in, `<folder>/<name>.safetensors` out.

    Args:
        max_seconds: for all of it; a run that would take longer is refused before it trains.

    Raises:
        SettingsError, PictureError: mistakes of the caller's; the message says what to do.
        FormatError: the file has no place for the model's layers, or the training went astray.
        TrainingDivergedError: the training went astray.
        StorageError: the file could not be written.
    """
    inputs, seconds = request.inputs, dict[str, float]()
    last_second = time.monotonic() + max_seconds
    base.card.resolution.check(inputs.resolution, base.card.name)
    settings = settings_of(base, inputs)
    # Before the training, that a mistake is told before it.
    date = date_to_write()
    check_layers(lora_without_numbers(base), inputs.output_format)
    log_settings(settings)

    with timed("pictures", seconds):
        prepared = prepare_once(base, request)
    with timed("training", seconds):
        seconds_left = last_second - time.monotonic()
        trained = train(base, prepared.examples, settings, report, seconds_left)
    origin = origin_of(base, inputs, settings, len(prepared.examples))
    lora = replace(trained.lora, origin=replace(origin, date=date))
    path = folder / f"{request.name}.safetensors"
    with timed("writing", seconds):
        try:
            write_lora(lora, path, inputs.output_format, inputs.save_precision)
        except OSError as error:
            raise storage_error("The result could not be written", error) from error
    stages = ", ".join(f"{stage} {value:.1f} s" for stage, value in seconds.items())
    logger.info("wrote %d kB; %s", path.stat().st_size // 1000, stages)
    trained = Trained(lora, trained.histories)
    return MadeLora(path=path, prepared=prepared, trained=trained, seconds=seconds)


def join_in(base: BaseModel, request: Request) -> None:
    """Train along with the first process, which runs `make_lora` of the same, and tells of it.

    Raises: TrainingDivergedError, as there.
    """
    prepared = prepare_once(base, request)
    train(base, prepared.examples, settings_of(base, request.inputs), lambda progress: None)


def prepare_once(base: BaseModel, request: Request) -> Prepared:
    """Of several processes the first does it, and all get the same pictures."""
    return base.compute.processes.of_first(
        lambda: prepare_examples(
            archive=request.instance_data,
            urls=parse_list(request.instance_data_urls, "instance_data_urls"),
            task=request.inputs.task,
            resolution=request.inputs.resolution,
            custom_prompts=parse_list(request.custom_prompts, "custom_prompts"),
        )
    )


def settings_of(base: BaseModel, inputs: TrainingInputs) -> TrainingSettings:
    """What the inputs mean to the processes that train together."""
    return share_out(translate(inputs), base.compute.processes.num)


def origin_of(
    base: BaseModel, inputs: TrainingInputs, settings: TrainingSettings, num_pictures: int
) -> Origin:
    """What the file says of the run, but for the date."""
    inversion, tuning = settings.inversion, settings.tuning
    return Origin(
        base_model=base.card.name,
        prediction_type=base.noise_scheduler.config.prediction_type,
        task=inputs.task,
        resolution=inputs.resolution,
        num_pictures=num_pictures,
        inversion_steps=inversion.num_updates * inversion.batch_size,
        tuning_steps=tuning.num_updates * tuning.batch_size,
        learning_rate_ti=inversion.learning_rate,
        learning_rate_unet=tuning.unet_learning_rate,
        learning_rate_text=tuning.text_learning_rate,
        lr_scheduler=settings.lr_scheduler,
        seed=settings.seed,
        version=training.__version__,
    )


def date_to_write() -> str | None:
    """What SOURCE_DATE_EPOCH says, in seconds, as ISO 8601; else None: no clock is asked.

    Raises: SettingsError.
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if not epoch:
        return None
    try:
        return datetime.fromtimestamp(int(epoch), UTC).isoformat()
    except (ValueError, OverflowError, OSError) as error:
        raise SettingsError(
            f"SOURCE_DATE_EPOCH must be a time in seconds since 1970; got {epoch[:40]!r}."
        ) from error


@contextmanager
def timed(stage: str, seconds: dict[str, float]) -> Iterator[None]:
    """Add how long the block took to `seconds`."""
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start


def log_machine(base: BaseModel) -> None:
    packages = ("torch", "diffusers", "transformers", "peft")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    compute, precision = base.compute, str(base.compute.dtype).removeprefix("torch.")
    logger.info("base model %s on %s in %s", base.card.name, compute.device, precision)
    logger.info("because %s; %s", compute.reason, versions)


def log_settings(settings: TrainingSettings) -> None:
    """The updates and rates that are used; they are not the numbers that were typed."""
    words, lora = settings.inversion, settings.tuning
    logger.info(
        "updates: %d for the words, with %d pictures each; %d for the LoRA of rank %d, with %d",
        *(words.num_updates, words.batch_size, lora.num_updates, lora.rank, lora.batch_size),
    )
    logger.info(
        "learning rates: words %g, UNet %g, text encoder %g; schedule %s, mirror %s, seed %d",
        *(words.learning_rate, lora.unet_learning_rate, lora.text_learning_rate),
        *(settings.lr_scheduler, "yes" if settings.mirror else "no", settings.seed),
    )
    if not (words.learns or lora.learns):
        logger.warning("nothing will be learned: every learning rate that is used is 0")
