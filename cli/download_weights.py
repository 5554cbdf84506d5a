"""Put a base model into weights/: from the hub, or with --from PATH from this machine's disk.

PATH is a Stable Diffusion 1.x or 2.x: a folder in diffusers format, or one .safetensors checkpoint
in the original layout. What is there already is checked and kept.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from cli.parser import Parser, path_of
from cli.progress import in_words, tell_progress
from training.settings import SettingsError
from weights.download import download
from weights.folder import WeightsError, check_complete
from weights.manifest import MODELS, STABLE_DIFFUSION_1_5

logger = logging.getLogger(__name__)

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"


def main(arguments: Sequence[str], weights: Path = WEIGHTS) -> int:
    """The exit status: 1 with a sentence on stderr when the model is not there afterwards."""
    set_up_logging()
    try:
        get(build_parser().parse_args(arguments), weights)
    except (WeightsError, SettingsError, OSError) as error:
        sys.stderr.write(f"{in_words(error)}\n")
        return 1
    return 0


def build_parser() -> Parser:
    parser = Parser(prog="script/download-weights", description=__doc__)
    parser.add_argument("--model", choices=sorted(MODELS), default=STABLE_DIFFUSION_1_5.name)
    parser.add_argument("--from", dest="source", type=path_of, metavar="PATH")
    return parser


def get(options: argparse.Namespace, weights: Path) -> None:
    """Raises: WeightsError, OSError."""
    model, folder = MODELS[options.model], weights / options.model
    if folder.exists():
        if options.source:
            raise WeightsError(f"{folder.name} is there already. Move it away first.")
        logger.info("%s is there; checking it", folder.name)
        check_complete(folder)
    elif options.source:
        # torch and diffusers take seconds to load, and a download needs neither.
        from cli.trainable import check_trainable
        from weights.local import import_model

        # The last part of the path is what the model is called, also for `--from .`.
        import_model(model, options.source.absolute(), folder, check_trainable)
    else:
        gigabytes = model.num_bytes / 1e9
        logger.info("%s, %.1f GB, licence %s", model.repository, gigabytes, model.licence)
        download(model, folder)
    logger.info("weights/%s is complete", folder.name)


def set_up_logging() -> None:
    """Our own lines only: the client would print every address, with the signatures in it."""
    tell_progress(logging.INFO)
    logging.getLogger("httpx2").setLevel(logging.WARNING)
