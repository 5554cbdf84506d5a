"""What was typed after `script/train`, read and checked."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields
from inspect import signature
from pathlib import Path
from typing import Any, get_args

from cli.files import OUTPUT, find_example, first_example, near, require_file
from cli.parser import Parser, path_of
from predict import Predictor, output_name
from training.base_card import base_model_folder
from training.compute import DTYPES
from training.settings import (
    LrScheduler,
    OutputFormat,
    SavePrecision,
    SettingsError,
    Task,
    TrainingInputs,
)

TEXT_INPUTS = ("instance_data_urls", "custom_prompts")
METAVARS = {int: "N", float: "RATE", str: "TEXT"}
CHOICES = {
    "task": get_args(Task),
    "lr_scheduler": get_args(LrScheduler),
    "output_format": get_args(OutputFormat),
    "save_precision": get_args(SavePrecision),
}


@dataclass(frozen=True, kw_only=True)
class Command:
    """One call of `script/train`.

    Attributes:
        archive: None when all photos come by URL.
        evaluate: other photos of the same subject, never trained on; None: the trained ones.
        precision, gradient_checkpointing: None leaves them to the environment or the machine.
        inputs: form input -> value, only those that were typed or that go with an example.
    """

    archive: Path | None
    out: Path
    evaluate: Path | None
    base: Path
    precision: str | None
    gradient_checkpointing: bool | None
    instance_data_urls: str | None
    custom_prompts: str | None
    inputs: dict[str, str | int | float]


def parse_command(arguments: Sequence[str]) -> Command:
    """Raises: SettingsError, for what cannot be meant."""
    parser = build_parser()
    try:
        typed = vars(parser.parse_args(arguments))
    except argparse.ArgumentError as error:
        parser.error(str(error))
    names = [field.name for field in fields(TrainingInputs)]
    inputs = {name: typed[name] for name in names if typed[name] is not None}
    archive: Path | None = typed["zip"]
    if archive is None and typed["instance_data_urls"] is None:
        archive = first_example()
    example = find_example(archive)
    if example and example.task:
        inputs.setdefault("task", example.task)
    evaluate = typed["evaluate"] or (example.evaluate if example else None)
    for path in (archive, evaluate):
        require_file(path)
    return Command(
        archive=archive,
        out=checked_out(typed["out"] or default_out(archive)),
        evaluate=evaluate,
        base=typed["base"] or base_model_folder(),
        precision=typed["precision"],
        gradient_checkpointing=typed["gradient_checkpointing"],
        inputs=inputs,
        **{name: typed[name] for name in TEXT_INPUTS},
    )


def build_parser() -> Parser:
    """The form's inputs, with the form's own words about them."""
    parser = Parser(
        prog="script/train",
        description="Train a LoRA from a zip of pictures; show and measure what it learned.",
        epilog="What is not given here is what the base model recommends, or else the form's.",
    )
    parser.add_argument("zip", nargs="?", type=path_of, help="pictures; default: the first example")
    parser.add_argument(
        "--out", type=path_of, metavar="FILE", help="default: output/<name of the zip>.safetensors"
    )
    parser.add_argument(
        "--evaluate", type=path_of, metavar="ZIP", help="other pictures to measure on"
    )
    parser.add_argument("--base", type=path_of, metavar="DIR", help="another base model")
    parser.add_argument(
        "--precision", choices=DTYPES, help="of the frozen weights; default: what the device does"
    )
    parser.add_argument(
        "--gradient-checkpointing",
        action=argparse.BooleanOptionalAction,
        help="take less memory and more time; default: where a GPU is small",
    )
    form = signature(Predictor.predict).parameters
    types = {field.name: type(field.default) for field in fields(TrainingInputs)}
    for name in (*TEXT_INPUTS, *types):
        parser.add_argument(
            *dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}")),
            dest=name,
            type=types.get(name, str),
            choices=CHOICES.get(name),
            metavar=None if name in CHOICES else METAVARS[types.get(name, str)],
            help=describe(form[name].default),
        )
    return parser


def describe(field: Any) -> str:
    """The form's words about an input, its range and its default."""
    facts = [f"{field.ge} to {field.le}"] if field.ge is not None else []
    facts += [f"the form's default: {field.default}"] if field.default is not None else []
    text = f"{field.description} ({'; '.join(facts)})" if facts else field.description
    return str(text.replace("%", "%%"))


def default_out(archive: Path | None) -> Path:
    return near(OUTPUT / f"{output_name(archive.name if archive else '')}.safetensors")


def checked_out(out: Path) -> Path:
    if out.suffix != ".safetensors":
        raise SettingsError(f"--out must name a .safetensors file; got {str(out)!r}.")
    if out.is_dir():
        raise SettingsError(f"{str(out)!r} is a folder. Choose another --out.")
    try:
        str(out).encode()
    except UnicodeEncodeError as error:
        raise SettingsError(
            f"--out must be UTF-8, or its file could not be read back; got {str(out)!r}."
        ) from error
    return out
