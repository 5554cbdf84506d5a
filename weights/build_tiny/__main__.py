"""Make the tiny base model: `python -m weights.build_tiny`, see README.md."""

import argparse
import logging
import shutil
from pathlib import Path

import torch

from weights.build_tiny.autoencoder import AutoencoderPlan, train_autoencoder
from weights.build_tiny.denoiser import DenoiserPlan, train_denoiser
from weights.build_tiny.examples import write_examples
from weights.build_tiny.folder import best_step, write_folder
from weights.build_tiny.latents import write_latents
from weights.build_tiny.pictures import download_sets, draw_pictures
from weights.build_tiny.report import write_report
from weights.build_tiny.tokenizer import write_tokenizer
from weights.build_tiny.workers import LOG_FORMAT, run_on_all

NUM_PROCESSES = 2  # on a CPU; a GPU is used by one
SEED = 0

logger = logging.getLogger(__name__)


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m weights.build_tiny", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("output/build_tiny"))
    parser.add_argument("--start-from", type=Path, help="a diffusers folder, such as weights/tiny")
    parser.add_argument("--autoencoder-steps", type=int, default=2000)
    parser.add_argument("--denoiser-steps", type=int, default=6000)
    parser.add_argument("--batch-size", type=int, default=48)
    return parser.parse_args()


def take_over(start_from: Path, work: Path) -> None:
    """Keep the tokenizer and the autoencoder that the denoiser was trained with."""
    shutil.copytree(start_from / "tokenizer", work / "tokenizer", dirs_exist_ok=True)
    shutil.copytree(start_from / "vae", work / "autoencoder", dirs_exist_ok=True)


def train_autoencoder_once(work: Path, num_steps: int) -> None:
    """The autoencoder stage, unless it is finished."""
    if (work / "autoencoder" / "config.json").exists():
        return
    plan = AutoencoderPlan(work=work, num_steps=num_steps, batch_size=16, seed=SEED)
    run_on_all(train_autoencoder, plan, NUM_PROCESSES)


def main() -> None:
    """All stages in order."""
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    torch.set_num_threads(1)  # two threads collapse as soon as another process wants a core
    arguments = read_arguments()
    work: Path = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    download_sets(work)
    draw_pictures(work, NUM_PROCESSES)
    if arguments.start_from is not None:
        take_over(arguments.start_from, work)
    write_tokenizer(work / "tokenizer")
    train_autoencoder_once(work, arguments.autoencoder_steps)
    write_latents(work, SEED)
    plan = DenoiserPlan(
        work=work,
        start_from=arguments.start_from,
        num_steps=arguments.denoiser_steps,
        batch_size=arguments.batch_size,
        seed=SEED,
    )
    run_on_all(train_denoiser, plan, NUM_PROCESSES)
    step = best_step(plan.folder)
    logger.info("folder: weights of step %d, written to %s", step, write_folder(work, step))
    write_report(work)
    write_examples(work)


if __name__ == "__main__":
    main()
