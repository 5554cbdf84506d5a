"""`script/train`: photos in, a LoRA file out, with a picture and a report of what it learned."""

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from PIL import Image

from cli.arguments import Command, parse_command
from cli.comparison import Comparison, compare
from cli.contact_sheet import write_contact_sheet
from cli.files import beside, require_writable, words_beside
from cli.measure import asked_for
from cli.preview import Row, write_preview
from cli.progress import in_words, tell_progress
from cli.report import TrainingRun, write_report
from cli.showcase import NUM_COLUMNS, Scene, scenes
from preprocessing.decoders import DecoderError
from preprocessing.errors import PictureError
from preprocessing.example import Example
from preprocessing.prepare import prepare_examples
from service.job import MadeLora, Request, join_in, log_machine, make_lora, timed
from service.workplace import StorageError
from training.base_model import BaseModel, BaseModelError, load_base_model
from training.compute import pick_compute
from training.formats import FormatError
from training.formats.textual_inversion import write_embeddings
from training.loop import TrainingDivergedError
from training.parallel import ProcessesError, joined_processes, speaker
from training.settings import SettingsError, TrainingInputs, translate

logger = logging.getLogger(__name__)

MAX_MEASURED = 32  # pictures the loss is measured on: more would only take longer

# How long the other processes wait for the first, which alone fetches and reads the pictures.
PATIENCE = timedelta(minutes=30)

# What the caller can mend: told in a sentence, without a traceback.
EXPECTED = (
    *(SettingsError, PictureError, DecoderError, BaseModelError),
    *(TrainingDivergedError, FormatError, OSError, ProcessesError),
)


def main(arguments: Sequence[str]) -> int:
    level = logging.ERROR if speaker(os.environ) else logging.INFO  # one of several tells enough
    tell_progress(level)
    try:
        run(parse_command(arguments))
    except EXPECTED as error:
        sys.stderr.write(f"{speaker(os.environ)}{in_words(error)}\n")
        return 1
    except KeyboardInterrupt as stop:
        sys.stderr.write(f"{speaker(os.environ)}{' '.join(('Stopped.', *stop.args))}\n")
        return 130
    return 0


def run(command: Command) -> None:
    """Train; the first process of several, or the only one, then compares, shows and tells."""
    require_writable(command.out)
    compute = pick_compute(command.precision, command.gradient_checkpointing)
    seconds: dict[str, float] = {}
    with joined_processes(compute.device, PATIENCE) as (device, processes):
        compute = compute.among(device, processes)
        with timed("loading", seconds):
            base = load_base_model(command.base, compute)
        request = request_for(command, base)
        if processes.index > 0:
            join_in(base, request)
            return
        log_machine(base)
        announce(command, request)
        # Read first: a bad zip is better told before the training than after it.
        others = read_others(command, request)
        made = make(command, base, request)
    with lora_is_written(command.out):
        show(command, base, request, replace(made, seconds=seconds | made.seconds), others)


def make(command: Command, base: BaseModel, request: Request) -> MadeLora:
    """As `make_lora`, but for a full disk's advice. Raises: SettingsError besides."""
    try:
        return make_lora(base, request, command.out.parent, lambda now: logger.info(now.line()))
    except StorageError as error:
        reason = getattr(error.__cause__, "strerror", "the disk refuses")
        raise SettingsError(
            f"The training is done, but {str(command.out)!r} cannot be written: {reason}."
            " Its result is lost. Free some disk space, or choose another --out, and train again."
        ) from error


@contextmanager
def lora_is_written(out: Path) -> Iterator[None]:
    """Raises: SettingsError, for what goes beside it and cannot be written; KeyboardInterrupt."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{out} is written, and whole.") from None
    except OSError as error:
        raise SettingsError(
            f"{out} is written, and whole; but not all that goes beside it: {error.strerror}."
        ) from error


def show(
    command: Command,
    base: BaseModel,
    request: Request,
    made: MadeLora,
    others: Sequence[Example],
) -> None:
    """Write all that goes beside the file."""
    write_embeddings(made.trained.lora, words_beside(command.out))
    write_contact_sheet(made.prepared, beside(command.out, "pictures.png"))
    seconds = dict(made.seconds)
    examples = (others or made.prepared.examples)[:MAX_MEASURED]
    words = "".join(translate(request.inputs).placeholder_tokens)
    shown = scenes(request.inputs.task)
    with timed("comparing", seconds):
        comparison = compare(base, made.path, words, examples, shown)
    rows = preview_rows(made, comparison, shown)
    write_preview(rows, beside(command.out, "preview.png"))
    finished = TrainingRun(
        base=base,
        request=request,
        made=made,
        comparison=comparison,
        measured_on=f"the pictures of {command.evaluate}" if others else "the training pictures",
        num_measured=len(examples),
        seconds=seconds,
    )
    write_report(finished, beside(command.out, "report.json"))
    tell(command, finished)


def request_for(command: Command, base: BaseModel) -> Request:
    """What was typed, else what suits the base model, else the form's defaults."""
    return Request(
        instance_data=command.archive,
        instance_data_urls=command.instance_data_urls,
        custom_prompts=command.custom_prompts,
        inputs=TrainingInputs(**{**base.card.recommended, **command.inputs}),  # type: ignore[arg-type]
        name=command.out.stem,
    )


def announce(command: Command, request: Request) -> None:
    source = command.archive or "the addresses in instance_data_urls"
    logger.info("training on %s (task: %s)", source, request.inputs.task)
    logger.info("writing to %s", command.out)


def read_others(command: Command, request: Request) -> tuple[Example, ...]:
    """The pictures of --evaluate, made ready in the same way; none without it."""
    if command.evaluate is None:
        return ()
    return prepare_examples(
        archive=command.evaluate,
        urls=(),
        task=request.inputs.task,
        resolution=request.inputs.resolution,
        custom_prompts=(),
    ).examples


def preview_rows(made: MadeLora, comparison: Comparison, shown: Sequence[Scene]) -> list[Row]:
    trained_on = [example.image for example in made.prepared.examples]
    rows = [Row(caption=training_caption(len(trained_on)), images=trained_on[:NUM_COLUMNS])]
    for index, scene in enumerate(shown):
        for who, impression in (("base model", comparison.before), ("trained", comparison.after)):
            rows.append(scene_row(who, scene, impression.words, impression.samples[index]))
    return rows


def training_caption(num_pictures: int) -> str:
    if num_pictures > NUM_COLUMNS:
        return f"training pictures ({NUM_COLUMNS} of {num_pictures})"
    return "training pictures"


def scene_row(who: str, scene: Scene, words: str, images: Sequence[Image.Image]) -> Row:
    caption = f'{who}: "{asked_for(scene.title, words)}"'
    return Row(caption=caption, images=images, labels=scene.labels)


def tell(command: Command, finished: TrainingRun) -> None:
    before, after = finished.comparison.before.loss, finished.comparison.after.loss
    logger.info(
        "denoising loss %.4f -> %.4f (%+.1f percent) on %d pictures: %s",
        before,
        after,
        100 * (after / before - 1),
        finished.num_measured,
        finished.measured_on,
    )
    others = ("pictures.png", "preview.png", "report.json")
    beside_it = (words_beside(command.out), *(beside(command.out, ending) for ending in others))
    for path in (command.out, *beside_it):
        logger.info("wrote %s", path)
