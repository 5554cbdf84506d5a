"""`script/inspect`: what a training would do with these pictures, without one.

Nothing here imports torch, so that it starts at once; the detector of faces will, when it runs.
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, get_args

from cli.contact_sheet import write_contact_sheet
from cli.files import OUTPUT, beside, find_example, near, require_file
from cli.pictures import describe_pictures
from preprocessing.errors import PictureError
from preprocessing.prepare import prepare_examples
from preprocessing.prompts import parse_list
from training.base_card import base_model_folder, read_card
from training.settings import SettingsError, Task, TrainingInputs

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What was asked for.

    Attributes:
        archive: None when all photos come by URL.
        out: without an ending.
        inputs: of a training; what matters here is its task and resolution.
    """

    archive: Path | None
    instance_data_urls: str | None
    custom_prompts: str | None
    inputs: TrainingInputs
    out: Path


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message[0].upper()}{message[1:]}. See script/inspect --help.")


def main(arguments: Sequence[str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        run(parse_inspection(arguments))
    except (SettingsError, PictureError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("Stopped.\n")
        return 130
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
    return Inspection(
        archive=typed.zip,
        instance_data_urls=typed.instance_data_urls,
        custom_prompts=typed.custom_prompts,
        inputs=TrainingInputs(task=task, resolution=pick_resolution(typed.resolution, typed.base)),
        out=typed.out or near(OUTPUT / (typed.zip.stem if typed.zip else "lora")),
    )


def build_parser() -> Parser:
    parser = Parser(
        prog="script/inspect",
        description="Say and show what a training would do with pictures, without training.",
        epilog="Writes NAME.pictures.png and NAME.report.json.",
    )
    parser.add_argument("zip", nargs="?", type=Path, help="of pictures; or one picture")
    parser.add_argument(
        "--out", type=Path, metavar="NAME", help="default: output/<name of the zip>"
    )
    parser.add_argument("--task", choices=get_args(Task), help=f"default: {TrainingInputs().task}")
    parser.add_argument(
        "--resolution", type=int, metavar="N", help="default: what the base model recommends"
    )
    parser.add_argument("--base", type=Path, metavar="DIR", help="another base model")
    for name in ("instance_data_urls", "custom_prompts"):
        parser.add_argument(
            f"--{name}", f"--{name.replace('_', '-')}", metavar="TEXT", help="as on the form"
        )
    return parser


def pick_resolution(typed: int | None, base: Path | None) -> int:
    """What was typed, or else what script/train would take: it asks the base model.

    Raises: SettingsError, for a size that is not one of the base model that was named.
    """
    if typed is not None and base is None:
        return typed
    folder = base or base_model_folder()
    if not folder.is_dir():
        raise SettingsError(
            f"There is no base model in {str(folder)!r} to ask for its sizes. Give --resolution 512"
            " (what Stable Diffusion 1.5 is trained at), or run script/download-weights."
        )
    card = read_card(folder)
    recommended = int(card.recommended.get("resolution", TrainingInputs().resolution))
    resolution = recommended if typed is None else typed
    card.resolution.check(resolution, card.name)
    return resolution


def run(inspection: Inspection) -> None:
    """The table goes to the log, the rest into two files."""
    inputs = inspection.inputs
    logger.info("task %s, resolution %d", inputs.task, inputs.resolution)
    prepared = prepare_examples(
        archive=inspection.archive,
        urls=parse_list(inspection.instance_data_urls, "instance_data_urls"),
        task=inputs.task,
        resolution=inputs.resolution,
        custom_prompts=parse_list(inspection.custom_prompts, "custom_prompts"),
    )
    report = {
        "inputs": {"task": inputs.task, "resolution": inputs.resolution},
        "pictures": describe_pictures(prepared),
    }
    sheet, table = (beside(inspection.out, name) for name in ("pictures.png", "report.json"))
    sheet.parent.mkdir(parents=True, exist_ok=True)
    write_contact_sheet(prepared, sheet)
    table.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    for path in (sheet, table):
        logger.info("wrote %s", path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
