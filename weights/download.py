"""Fetch a base model from the hub into weights/: `script/download-weights [--model NAME]`."""

import argparse
import json
import logging
import shutil
import sys
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from weights.manifest import MODELS, HubModel

logger = logging.getLogger(__name__)

WEIGHTS = Path(__file__).resolve().parent
DEFAULT_MODEL = "stable-diffusion-v1-5"


class DownloadFailedError(RuntimeError):
    """The model is not here; the message says what stood in the way and what to do."""


def download(name: str, destination: Path) -> Path:
    """Fetch a model's files, whole or not at all; what an earlier try fetched is not fetched again.

    Returns:
        `destination`.

    Raises:
        DownloadFailedError: when the network, the hub or the disk stands in the way.
    """
    if destination.exists():
        logger.info("%s is already there", destination.name)
        return destination
    model = MODELS[name]
    partial = destination.with_name(f"{destination.name}.partial")
    try:
        fetch_files(model, partial)
        arrange(model, partial)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise DownloadFailedError(
            f"{name} could not be fetched: {type(error).__name__}, {error}. Check the network, the"
            f" free disk space ({model.gigabytes} GB are needed) and"
            f" whether {model.repository} can be seen on the hub; then run this again: it goes on"
            " where it stopped."
        ) from error
    partial.rename(destination)
    return destination


def fetch_files(model: HubModel, folder: Path) -> None:
    """The hub's client resumes, checks sizes, and shows a bar for each large file."""
    for number, path in enumerate(model.files, 1):
        logger.info("%d/%d %s", number, len(model.files), path)
        hf_hub_download(model.repository, path, revision=model.revision, local_dir=folder)


def arrange(model: HubModel, folder: Path) -> None:
    """Give the files the names that diffusers looks for, and lay the card beside them."""
    for hub_path, path in model.files.items():
        if hub_path != path:
            (folder / hub_path).rename(folder / path)
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the client's notes
    card = json.dumps(model.card, indent=2) + "\n"
    (folder / "training.json").write_text(card, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/download-weights", description=__doc__)
    parser.add_argument("--model", choices=sorted(MODELS), default=DEFAULT_MODEL)
    name = parser.parse_args().model
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    model = MODELS[name]
    logger.info("%s, %s GB, licence %s", model.repository, model.gigabytes, model.licence)
    try:
        download(name, WEIGHTS / name)
    except DownloadFailedError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    logger.info("done: weights/%s", name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
