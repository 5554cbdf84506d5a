"""The web form and the HTTP API, as Cog serves them."""

# ruff: noqa: B008  # Cog wants the form as calls in the defaults

import logging
import math
import os
import pathlib
import re
import sys
import tempfile
import time
import unicodedata
from typing import Optional

from cog import BasePredictor, Input, Path, URLPath

from preprocessing.threads import start
from service.answers import answered, free_memory
from service.cog_downloads import fetch, leave_downloads_to_runs
from service.cog_files import COGS_FOLDER, close_to_others, remove_old
from service.job import MadeLora, Request, log_machine, make_lora
from service.server_watch import stopped_with_the_server
from service.workplace import Workplace
from training.base_card import base_model_folder
from training.base_model import load_base_model
from training.compute import pick_compute
from training.settings import SettingsError, TrainingInputs

logger = logging.getLogger(__name__)

COG_PREFIX = re.compile(r"^tmp[a-z0-9_]{8}")  # what Cog puts before the name of a downloaded file
NAMELESS = {"", "file"}  # Cog calls an upload that has no name "file"
MAX_NAME_LENGTH = 100
REPLICATE_MINUTES = 30


class Predictor(BasePredictor):  # type: ignore[misc]  # Cog's classes are not typed
    """What Cog serves."""

    def setup(self) -> None:
        """Load the base model that BASE_MODEL names; every run starts from it."""
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
        self.workplace = Workplace(pathlib.Path(tempfile.gettempdir()))
        self.workplace.use_for_temporary_files()
        close_to_others(COGS_FOLDER)
        remove_old(COGS_FOLDER)
        leave_downloads_to_runs(URLPath, self.workplace)
        start(bool)  # the first takes longest, and nobody can cancel it here
        self.max_seconds = max_training_seconds()
        self.base = load_base_model(base_model_folder(), pick_compute())
        log_machine(self.base)

    def predict(
        self,
        instance_data: Optional[Path] = Input(
            default=None,
            description="A zip of 3 to 100 pictures of one face, object, style or place; leave it empty only if you give instance_data_urls.",
        ),
        instance_data_urls: Optional[str] = Input(
            default=None,
            description="Web addresses of pictures or zips, one a line or as a JSON list; fill it in if your pictures are already online, instead of a zip or beside it.",
        ),
        custom_prompts: Optional[str] = Input(
            default=None,
            description="Your own sentences about the pictures, one a line or as a JSON list, with {} where the new word goes; fill it in only if each picture shows much besides your subject that should not be learned.",
        ),
        task: str = Input(
            default="face",
            choices=["face", "object", "style", "location"],
            description="What your pictures have in common: choose face for a person, object for a thing or an animal, style for a way of drawing, location for a place.",
        ),
        resolution: int = Input(
            default=512,
            ge=64,
            le=1024,
            description="Every picture is made into a square of this many pixels a side; leave it at the size that the base model knows best (512 for Stable Diffusion 1.5), or go lower to finish sooner.",
        ),
        max_train_steps_ti: int = Input(
            default=700,
            ge=0,
            le=20000,
            description="How many pictures are shown while the word that stands for your subject is learned, which happens first; double it if the results hardly resemble your subject.",
        ),
        max_train_steps_tuning: int = Input(
            default=700,
            ge=0,
            le=20000,
            description="How many pictures are shown while the model itself learns to draw your subject, which happens second; raise it if details are missing, lower it if the results only repeat your pictures.",
        ),
        learning_rate_text: float = Input(
            default=1e-5,
            ge=0,
            le=1,
            description="How strongly each picture changes the part that reads the prompt; leave it alone unless your subject ignores the rest of the prompt, then lower it.",
        ),
        learning_rate_ti: float = Input(
            default=5e-4,
            ge=0,
            le=1,
            description="How strongly each picture changes the new word while that is learned; lower it if the run fails with the words that the loss stopped being a number in inversion.",
        ),
        learning_rate_unet: float = Input(
            default=2e-4,
            ge=0,
            le=1,
            description="How strongly each picture changes the part that draws; lower it if the results look burnt or noisy, raise it if they look like the base model's.",
        ),
        lr_scheduler: str = Input(
            default="constant",
            choices=[
                "linear",
                "cosine",
                "cosine_with_restarts",
                "polynomial",
                "constant",
                "constant_with_warmup",
            ],
            description="How the three learning rates change during the run; constant suits nearly everyone, and linear or cosine, which end gently, are worth a try in long runs.",
        ),
        lora_rank: int = Input(
            default=16,
            ge=1,
            le=128,
            description="How much the file can hold; raise it for a subject with many fine details, lower it for a smaller file.",
        ),
        seed: int = Input(
            default=0,
            ge=0,
            le=2147483647,
            description="The number that all chance in a run depends on; leave it to repeat a run with the same inputs, change it for another try at the same subject.",
        ),
        output_format: str = Input(
            default="lora_diffusion",
            choices=["lora_diffusion", "kohya", "diffusers"],
            description="Which programs can read the file; leave it for lora_diffusion and Replicate's LoRA models, choose kohya for AUTOMATIC1111, Forge, ComfyUI or InvokeAI, diffusers for today's Python library of that name.",
        ),
        save_precision: str = Input(
            default="fp16",
            choices=["fp16", "bf16", "fp32"],
            description="How exactly the file stores its numbers; leave it at fp16, which loses nothing that can be seen, unless a program asks for another or you go on calculating with them (fp32, twice as large).",
        ),
    ) -> Path:
        """Coerce what JSON leaves open (5.0 is a whole number, 1 is a rate) and make the LoRA."""
        self.workplace.clear(keep=[instance_data])  # what the run before left for Cog to read
        remove_old(COGS_FOLDER)
        inputs = TrainingInputs(
            task=task,  # type: ignore[arg-type]  # checked there, as all the others
            resolution=whole(resolution),
            max_train_steps_ti=whole(max_train_steps_ti),
            max_train_steps_tuning=whole(max_train_steps_tuning),
            learning_rate_text=learning_rate_text,
            learning_rate_ti=learning_rate_ti,
            learning_rate_unet=learning_rate_unet,
            lr_scheduler=lr_scheduler,  # type: ignore[arg-type]
            lora_rank=whole(lora_rank),
            seed=whole(seed),
            output_format=output_format,  # type: ignore[arg-type]
            save_precision=save_precision,  # type: ignore[arg-type]
        )
        archive = uploaded(instance_data)
        request = Request(
            instance_data=archive,
            instance_data_urls=instance_data_urls,
            custom_prompts=custom_prompts,
            inputs=inputs,
            name=output_name(COG_PREFIX.sub("", archive.name) if archive else ""),
        )
        try:
            with answered(inputs), stopped_with_the_server():
                path = self.make(request)
            free_memory()
        except BaseException:  # a cancellation can come at any moment
            self.workplace.clear()
            raise
        return Path(path)

    def make(self, request: Request) -> pathlib.Path:
        """Make the file. Cog reads it after `predict` returned: it stays until the next run."""
        last_second = time.monotonic() + self.max_seconds
        fetch(request.instance_data, self.max_seconds)
        folder, seconds_left = self.workplace.new_folder(), last_second - time.monotonic()
        made = make_lora(
            self.base, request, folder, lambda now: logger.info(now.line()), seconds_left
        )
        self.record_metrics(made)
        return made.path

    def record_metrics(self, made: MadeLora) -> None:
        """Put a few figures beside Cog's own; they must never cost a finished run."""
        metrics: dict[str, float] = {"pictures": len(made.prepared.examples)}
        metrics |= {f"seconds.{stage}": round(value, 3) for stage, value in made.seconds.items()}
        for phase in made.trained.histories:
            if phase.losses:
                num_steps = len(phase.losses) * phase.batch_size
                metrics[f"final_loss.{phase.name}"] = round(phase.losses[-1], 6)
                metrics[f"steps_per_second.{phase.name}"] = round(num_steps / phase.seconds, 3)
        for name, value in metrics.items():
            try:
                self.record_metric(name, value)
            except Exception as error:
                logger.warning("metric %s was not recorded: %s", name, error)


def whole(value: float) -> int:
    """5.0 -> 5, as JSON means it; anything else that is no whole number is left to be refused."""
    return int(value) if isinstance(value, float) and value.is_integer() else value  # type: ignore[return-value]


def uploaded(instance_data: object) -> pathlib.Path | None:
    """The uploaded file. Cog hands on text that is no URL as it is; it must never be opened.

    An empty text is no file, as in the form's other fields.
    """
    if instance_data is None or instance_data == "":
        return None
    if isinstance(instance_data, pathlib.Path):
        return instance_data
    raise SettingsError(
        "instance_data is neither an uploaded file nor an http(s) address. Upload the zip, or give"
        " its full address, beginning with https://."
    )


def output_name(archive_name: str) -> str:
    """The zip's name without its ending, as plain ASCII: it becomes the name of the download."""
    stem = pathlib.PurePath(archive_name).stem.removesuffix(".tar")
    ascii_stem = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", ascii_stem).strip("-.")[:MAX_NAME_LENGTH]
    return "lora" if name in NAMELESS else name


def max_training_seconds() -> float:
    """MAX_TRAINING_MINUTES; by default Replicate's own limit of a prediction.

    Raises: SettingsError.
    """
    text = os.environ.get("MAX_TRAINING_MINUTES") or str(REPLICATE_MINUTES)
    try:
        minutes = float(text)
    except ValueError:
        minutes = math.nan
    if not minutes > 0:
        raise SettingsError(f"MAX_TRAINING_MINUTES must be a number above 0; got {text!r}.")
    return 60 * minutes
