"""One of two processes that train together, for tests/test_parallel.py: what it is to do.

python -m tests.two_processes learn|leave|sleep FOLDER, with the variables that a launcher sets.
"""

import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file

from preprocessing.example import Example
from tests.conftest import TINY
from training.base_model import load_base_model
from training.compute import pick_compute
from training.parallel import ProcessesError, joined_processes, leave
from training.pivotal import train
from training.settings import InversionSettings, TrainingSettings, TuningSettings

PATIENCE = timedelta(seconds=8)
SETTINGS = TrainingSettings(
    inversion=InversionSettings(num_updates=3, learning_rate=5e-3, batch_size=4),
    tuning=TuningSettings(
        num_updates=3, unet_learning_rate=1e-2, text_learning_rate=1e-2, rank=2, batch_size=2
    ),
)


def learn(folder: Path) -> None:
    """Write what this process holds in the end.

    Each draws numbers of its own, as GPUs of different kinds do.
    """
    colours = ("crimson", "seagreen")
    compute = pick_compute()
    with joined_processes(compute.device, timedelta(minutes=5)) as (device, processes):
        base = load_base_model(TINY, compute.among(device, processes))
        settings = replace(SETTINGS, seed=processes.index)
        examples = processes.of_first(
            lambda: [
                Example(image=Image.new("RGB", (64, 64), c), mask=None, prompts=("a photo of {}",))
                for c in colours
            ]
        )
        lora = train(base, examples, settings, lambda progress: None).lora
        held = {f"unet.{path}.up": pair.up for path, pair in lora.unet.items()}
        held |= {f"text.{path}.down": pair.down for path, pair in lora.text_encoder.items()}
        save_file(held | lora.embeddings, folder / f"{processes.index}.safetensors")


def wait_in_vain(does_sleep: bool) -> None:
    """The first waits for a number that the second does not give."""
    try:
        with joined_processes(torch.device("cpu"), PATIENCE) as (_, processes):
            if processes.index == 1:
                time.sleep(600 if does_sleep else 0)
                sys.exit(1)
            processes.average(torch.zeros(3))
    except ProcessesError as error:
        sys.stderr.write(f"{error}\n")
        leave(1)


if __name__ == "__main__":
    what, where = sys.argv[1:]
    learn(Path(where)) if what == "learn" else wait_in_vain(does_sleep=what == "sleep")
