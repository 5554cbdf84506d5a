"""`script/convert`: a LoRA file of one format into another, or an account of what a file is."""

import argparse
import logging
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from cli.files import writing_to
from cli.parser import Parser, path_of
from cli.progress import in_words, tell_progress
from training.formats.errors import FormatError
from training.formats.kohya import bundle_name
from training.formats.table import FORMATS, PRECISIONS, StoredLora, read_lora, write_lora
from training.formats.textual_inversion import write_embeddings
from training.settings import SettingsError

logger = logging.getLogger(__name__)

DEFAULT_FORMAT = "kohya"
DESCRIPTION = """\
Read a LoRA file of any of the formats lora_diffusion, kohya and diffusers, made here or elsewhere,
and write it in another. Nothing is lost: the learned words travel along in every format. Without
OUT, say what the file is."""


def main(arguments: Sequence[str]) -> int:
    tell_progress(logging.INFO)
    try:
        run(build_parser().parse_args(arguments))
    except (FormatError, SettingsError, OSError) as error:
        sys.stderr.write(f"{in_words(error)}\n")
        return 1
    return 0


def build_parser() -> Parser:
    parser = Parser(prog="script/convert", description=DESCRIPTION)
    parser.add_argument("source", type=path_of, metavar="IN")
    parser.add_argument("destination", nargs="?", type=path_of, metavar="OUT")
    parser.add_argument(
        "--format",
        choices=tuple(FORMATS),
        help=f"of OUT; default: {DEFAULT_FORMAT}, which most programs read",
    )
    parser.add_argument(
        "--precision", choices=tuple(PRECISIONS), help="of OUT; default: that of IN"
    )
    parser.add_argument(
        "--no-embeddings",
        action="store_true",
        help="leave the bundled words out of a kohya file, because diffusers refuses them",
    )
    parser.add_argument(
        "--embeddings",
        type=path_of,
        metavar="FILE",
        help="also write the learned words, as a textual-inversion file",
    )
    return parser


def run(typed: argparse.Namespace) -> None:
    """Raises: FormatError, SettingsError, OSError."""
    check_paths(typed)
    check_options(typed)
    stored = read_lora(typed.source)
    for line in describe(stored):
        logger.info("%s", line)
    if typed.destination is not None:
        precision = typed.precision or stored.save_precision
        output_format, bundle = typed.format or DEFAULT_FORMAT, not typed.no_embeddings
        with writing_to(typed.destination, "OUT"):
            write_lora(stored.lora, typed.destination, output_format, precision, bundle)
        logger.info("wrote %s: %s, %s", typed.destination, output_format, precision)
    if typed.embeddings is not None:
        with writing_to(typed.embeddings, "--embeddings"):
            write_embeddings(stored.lora, typed.embeddings)
        logger.info("wrote %s: the words as an embedding", typed.embeddings)


def check_paths(typed: argparse.Namespace) -> None:
    """Raises: SettingsError; OSError, if there is no IN."""
    if typed.source.exists() and not typed.source.is_file():
        raise SettingsError(f"{typed.source} is not a file. Name a .safetensors file.")
    refuse_pictures(typed.source)
    for path in (typed.destination, typed.embeddings):
        if path is not None and path.suffix != ".safetensors":
            raise SettingsError(
                f"The name of a file to write must end in .safetensors; got {path}."
            )
    destination, words = typed.destination, typed.embeddings
    if destination is not None and destination.exists() and destination.samefile(typed.source):
        raise SettingsError("IN and OUT are the same file. Choose another OUT.")
    others = [path.resolve() for path in (typed.source, destination) if path]
    if words is not None and words.resolve() in others:
        raise SettingsError("--embeddings must name a file of its own, neither IN nor OUT.")


def refuse_pictures(source: Path) -> None:
    """A zip may also be a model that PyTorch pickled, which `read_lora` refuses in its own words.

    Raises: SettingsError.
    """
    if not zipfile.is_zipfile(source):
        return
    try:
        with zipfile.ZipFile(source) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:  # one by its end, and broken before it
        names = []
    if not any(name.endswith("data.pkl") for name in names):
        raise SettingsError(f"{source} is a zip, not a LoRA. Name a .safetensors file.")


def check_options(typed: argparse.Namespace) -> None:
    """Raises: SettingsError."""
    about_out = typed.format or typed.precision or typed.no_embeddings
    if about_out and typed.destination is None:
        raise SettingsError(
            "--format, --precision and --no-embeddings are about OUT, which is not given."
        )
    if typed.no_embeddings and typed.format not in (None, "kohya"):
        raise SettingsError(
            f"--no-embeddings is for --format kohya only: {typed.format} files "
            + ("hold no bundled words." if typed.format == "diffusers" else "need their words.")
        )


def describe(stored: StoredLora) -> list[str]:
    """What the file is, line by line."""
    lora = stored.lora
    lines = [
        f"{stored.output_format}, {stored.save_precision}, rank {lora.rank}:"
        f" {len(lora.unet)} layers of the UNet, {len(lora.text_encoder)} of the text encoder"
    ]
    if lora.embeddings:
        words = "".join(lora.embeddings)
        lines.append(f"words: {words} (in AUTOMATIC1111: {bundle_name(lora)})")
    else:
        lines.append("words: none, only a LoRA")
    known = {name: value for name, value in asdict(lora.origin).items() if value is not None}
    return [*lines, *(f"{name}: {value}" for name, value in known.items())]
