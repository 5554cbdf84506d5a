"""`script/inspect`: what a training would do with these pictures, without one.

Nothing here imports torch, so that it starts at once; the detector of faces will, when it runs.
"""

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from cli.contact_sheet import write_contact_sheet
from cli.files import (
    OUTPUT,
    beside,
    find_example,
    near,
    require_file,
    require_writable,
    writing_to,
)
from cli.parser import Parser, path_of
from cli.pictures import describe_pictures
from cli.progress import in_words, tell_progress
from preprocessing.decoders import DecoderError
from preprocessing.errors import PictureError
from preprocessing.prepare import NothingUsableError, Prepared, prepare_examples
from preprocessing.prompts import parse_list
from training.base_card import BaseCard, ResolutionLimits, base_model_folder, read_card
from training.settings import SettingsError, Task, TrainingInputs
from weights.manifest import MODELS, STABLE_DIFFUSION_1_5

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What was asked for.

    Attributes:
        archive: None when all photos come by URL.
        resolution_reason: where the resolution comes from, in words.
        out: without an ending.
        inputs: of a training; what matters here is its task and resolution.
    """

    archive: Path | None
    instance_data_urls: str | None
    custom_prompts: str | None
    inputs: TrainingInputs
    resolution_reason: str
    out: Path


def main(arguments: Sequence[str]) -> int:
    tell_progress(logging.INFO)
    try:
        run(parse_inspection(arguments))
    except (SettingsError, PictureError, DecoderError, OSError) as error:
        sys.stderr.write(f"{in_words(error)}\n")
        return 1
    return 0


def parse_inspection(arguments: Sequence[str]) -> Inspection:
    """Raises: SettingsError, for what cannot be meant."""
    parser = build_parser()
    typed = parser.parse_args(arguments)
    if typed.zip is None and typed.instance_data_urls is None:
        parser.error("name a zip of pictures, or give --instance_data_urls")
    require_file(typed.zip)
    example = find_example(typed.zip)
    task = typed.task or (example and example.task) or TrainingInputs().task
    resolution, reason = pick_resolution(typed.resolution, typed.base)
    return Inspection(
        archive=typed.zip,
        instance_data_urls=typed.instance_data_urls,
        custom_prompts=typed.custom_prompts,
        inputs=TrainingInputs(task=task, resolution=resolution),
        resolution_reason=reason,
        out=typed.out or default_out(typed.zip),
    )


def default_out(archive: Path | None) -> Path:
    return near(OUTPUT / (archive.stem.removesuffix(".tar") if archive else "lora"))


def build_parser() -> Parser:
    parser = Parser(
        prog="script/inspect",
        description="Say and show what a training would do with pictures, without training.",
        epilog="Writes NAME.pictures.png and NAME.report.json.",
    )
    parser.add_argument("zip", nargs="?", type=path_of, help="of pictures; or one picture")
    parser.add_argument(
        "--out", type=path_of, metavar="NAME", help="default: output/<name of the zip>"
    )
    parser.add_argument("--task", choices=get_args(Task), help=f"default: {TrainingInputs().task}")
    parser.add_argument(
        "--resolution", type=int, metavar="N", help="default: what the base model recommends"
    )
    parser.add_argument("--base", type=path_of, metavar="DIR", help="another base model")
    for name in ("instance_data_urls", "custom_prompts"):
        parser.add_argument(
            f"--{name}", f"--{name.replace('_', '-')}", metavar="TEXT", help="as on the form"
        )
    return parser


def pick_resolution(typed: int | None, base: Path | None) -> tuple[int, str]:
    """What was typed, or else what script/train would take: it asks the base model. And why.

    Raises: SettingsError, for a size that is not one of the base model that was named.
    """
    if typed is not None and base is None:
        return typed, who_takes(typed)
    folder = base or base_model_folder()
    if not folder.is_dir():
        raise SettingsError(
            f"There is no base model in {str(folder)!r} to ask for its sizes. Give --resolution 512"
            " (what Stable Diffusion 1.5 is trained at), or run script/download-weights."
        )
    card = card_of(folder)
    recommended = int(card.recommended.get("resolution", TrainingInputs().resolution))
    resolution = recommended if typed is None else typed
    card.resolution.check(resolution, card.name)
    if typed is not None:
        return resolution, f"{card.name} takes it"
    return resolution, f"what {card.name} takes{advice_for_others(card.name)}"


def card_of(folder: Path) -> BaseCard:
    """Raises: SettingsError, when that folder holds no base model."""
    try:
        return read_card(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            f"The folder {str(folder)!r} is no whole base model: its sizes cannot be read from its"
            " training.json, or else the config.json of its vae and unet. Name another --base."
        ) from error


def advice_for_others(name: str) -> str:
    """Whoever has only the small model here may mean to train a larger one elsewhere."""
    if name in MODELS:
        return ""
    usual = STABLE_DIFFUSION_1_5.name
    return f"; for {usual}: --resolution {sizes_known()[usual].native}"


def who_takes(resolution: int) -> str:
    """Of the base models known here; it may be meant for another, so that none is no mistake."""
    sizes = sizes_known()
    names = [name for name, limits in sizes.items() if limits.takes(resolution)]
    if names:
        return f"{' and '.join(names)} {'takes' if len(names) == 1 else 'take'} it"
    known = ", ".join(
        f"{name} {limits.smallest} to {limits.largest} in steps of {limits.step}"
        for name, limits in sizes.items()
    )
    return f"no base model known here takes it: {known}"


def sizes_known() -> dict[str, ResolutionLimits]:
    """Name of a base model -> its sizes: the one that script/train would take, if it is here, and
    those that script/download-weights can bring."""
    sizes = {
        name: ResolutionLimits(**model.card["resolution"])  # type: ignore[arg-type]
        for name, model in MODELS.items()
    }
    if not base_model_folder().is_dir():
        return sizes
    card = card_of(base_model_folder())
    return {card.name: card.resolution} | sizes


def run(inspection: Inspection) -> None:
    """The table goes to the log, the rest into two files, also when no picture can be used."""
    inputs = inspection.inputs
    reason = inspection.resolution_reason
    logger.info("task %s, resolution %d (%s)", inputs.task, inputs.resolution, reason)
    require_writable(inspection.out)
    try:
        prepared = prepare_examples(
            archive=inspection.archive,
            urls=parse_list(inspection.instance_data_urls, "instance_data_urls"),
            task=inputs.task,
            resolution=inputs.resolution,
            custom_prompts=parse_list(inspection.custom_prompts, "custom_prompts"),
        )
    except NothingUsableError as error:
        write_account(error.prepared, inspection)
        raise
    write_account(prepared, inspection)


def write_account(prepared: Prepared, inspection: Inspection) -> None:
    """Raises: SettingsError, if they cannot be written."""
    inputs = inspection.inputs
    report = {
        "inputs": {"task": inputs.task, "resolution": inputs.resolution},
        "pictures": describe_pictures(prepared),
    }
    sheet, table = (beside(inspection.out, name) for name in ("pictures.png", "report.json"))
    with writing_to(inspection.out):
        write_contact_sheet(prepared, sheet)
        table.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    for path in (sheet, table):
        logger.info("wrote %s", path)
