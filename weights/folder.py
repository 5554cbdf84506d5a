"""What every base model's folder holds beside the weights, and how it is checked afterwards."""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from weights.manifest import HubModel

CHECKSUMS = "checksums.json"
NUM_BYTES_AT_ONCE = 2**22


class WeightsError(RuntimeError):
    """The base model is not here, or not whole; the message says what to do."""


def sha256_of(path: Path) -> str:
    """In hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(NUM_BYTES_AT_ONCE):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Make the folder if need be, and be the only process that works in it.

    Raises:
        WeightsError: when another process does. One that ends, however it ends, lets go.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise WeightsError(
            f"Another process is making {folder.stem} just now. Wait until it is done, then run"
            " this again."
        ) from error
    finally:
        os.close(descriptor)


def complete(folder: Path, model: HubModel, name: str) -> None:
    """Lay the index, the card and the checksums beside weights that were found to be good.

    Args:
        name: what the logs call the model.

    Raises:
        WeightsError: when the scheduler's config is damaged.
    """
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json").get("_class_name")
    if scheduler is None:
        raise WeightsError(
            "scheduler/scheduler_config.json does not say which scheduler it is for (_class_name)."
            " Take another copy of the model."
        )
    write_json(folder / "model_index.json", pipeline_index(str(scheduler)))
    if not (folder / "training.json").is_file():
        write_json(folder / "training.json", model.card | {"name": name})
    files = {
        str(path.relative_to(folder)): {"size": path.stat().st_size, "sha256": sha256_of(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != CHECKSUMS
    }
    write_json(folder / CHECKSUMS, files)


def check_complete(folder: Path) -> None:
    """Compare every file with the checksums that were recorded when it came.

    Raises:
        WeightsError: when one is missing, or is not what it was.
    """
    if not (folder / CHECKSUMS).is_file():
        raise WeightsError(
            f"{folder.name} is there, but has no {CHECKSUMS}, so nothing says whether it is whole."
            " Move it away and run this again."
        )
    for path, recorded in read_json(folder / CHECKSUMS).items():
        file = folder / path
        is_there = file.is_file()
        has_its_size = is_there and file.stat().st_size == recorded["size"]
        if has_its_size and sha256_of(file) == recorded["sha256"]:
            continue
        raise WeightsError(
            f"{folder.name} is there, but {path} {'has changed' if is_there else 'is missing'}."
            " Move the folder away and run this again."
        )


def pipeline_index(scheduler: str) -> dict[str, object]:
    """What diffusers reads first. The hub's own asks for a safety checker, which is not here."""
    return {
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", scheduler],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }


def read_json(path: Path) -> dict[str, Any]:
    """Raises: WeightsError, when it holds anything but a JSON object."""
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        contents = None
    if not isinstance(contents, dict):
        raise WeightsError(
            f"{path.parent.name}/{path.name} is damaged: it holds no JSON object. Take another copy"
            " of the model."
        )
    return contents


def write_json(path: Path, contents: object) -> None:
    path.write_text(json.dumps(contents, indent=2) + "\n", encoding="utf-8")
