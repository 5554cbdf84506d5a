"""lora_diffusion's own training loops, an update at a time: run by the Python that has it.

    python -I benchmarks/prior_worker.py FOLDER

FOLDER holds `unet`, `text_encoder` and `tokenizer` in the layout of their time,
`pictures.safetensors` (latents, input_ids, lengths) and `lesson.json`. Its `train_inversion` and
`perform_tuning` run as they are; the data loader that they are given waits between two stretches of
updates. Lines of JSON: in comes a number of updates, out goes the clock after each of them.
"""

import importlib
import importlib.util
import itertools
import json
import os
import re
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.optimization import get_scheduler
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

Lesson = dict[str, Any]  # as benchmarks/prior_trainer.py writes it
WITHOUT_END = 10**9  # updates: the data loader says when to stop
MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024
# Its trainer imports these beside what it trains with: pictures from files, samples, a command
# line, a log on the web. None of it is called here.
UNUSED_MODULES = ("torchvision", "torchvision.transforms", "wandb", "fire")
UNUSED_NAMES = ("PivotalTuningDatasetCapation", "prepare_clip_model_sets", "evaluate_pipe")


class LessonIsOverError(Exception):
    """Nobody asks for more."""


class Feed:
    """Endless batches of the trainer's own data loader; between two it may wait."""

    def __init__(self, loader: Any, passes_per_update: int, losses: list[Tensor]) -> None:
        self.loader = loader
        self.passes_per_update = passes_per_update
        self.losses = losses
        self.moments: list[tuple[float, float]] = []
        self.num_wanted = 0
        self.answers = sys.stdout  # as it is before the loop's own lines are sent elsewhere

    def __len__(self) -> int:
        return WITHOUT_END

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        self.await_wish()
        batches = itertools.chain.from_iterable(itertools.repeat(self.loader))
        for num_passes, batch in enumerate(batches, 1):
            yield batch
            # Inversion takes its first update after one pass, then one after every second.
            if num_passes % self.passes_per_update == 1 % self.passes_per_update:
                self.mark()

    def mark(self) -> None:
        self.moments.append((time.perf_counter(), time.process_time()))
        if len(self.moments) == self.num_wanted:
            self.answer()
            self.await_wish()

    def answer(self) -> None:
        losses = [float(loss) for loss in self.losses]
        told = {"moments": self.moments, "losses": losses, "peak_bytes": peak_of_this_process()}
        self.answers.write(json.dumps(told) + "\n")
        self.answers.flush()

    def await_wish(self) -> None:
        """Raises: LessonIsOverError, when the other end is closed."""
        self.moments.clear()
        self.losses.clear()
        line = sys.stdin.readline()
        if not line:
            raise LessonIsOverError
        self.num_wanted = int(line)


def peak_of_this_process() -> int:
    """As benchmarks/machine.py, which this Python cannot import."""
    status = Path("/proc/self/status")
    if status.exists():
        (peak,) = re.findall(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE)
        return 1024 * int(peak)
    return MAXRSS_BYTES * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(folder: Path) -> None:
    lesson: Lesson = json.loads((folder / "lesson.json").read_text(encoding="utf-8"))
    torch.set_num_threads(lesson["threads"])
    torch.manual_seed(lesson["seed"])
    trainer = import_trainer()
    losses: list[Tensor] = []
    record_losses(trainer, losses)
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", local_files_only=True)
    text_encoder = CLIPTextModel.from_pretrained(folder / "text_encoder")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    tokenizer.model_max_length = text_encoder.config.max_position_embeddings
    add_words(tokenizer, text_encoder, lesson)
    freeze(unet, text_encoder)
    loader = trainer.text2img_dataloader(
        read_pictures(folder), 1, tokenizer, vae=None, text_encoder=text_encoder
    )
    feed = Feed(loader, lesson["passes_per_update"], losses)
    teach = {"inversion": invert, "tuning": tune}[lesson["phase"]]
    # The loop prints at every step, which is part of what it costs, and not for our reader.
    with (
        Path(os.devnull).open("w") as nowhere,
        redirect_stdout(nowhere),
        redirect_stderr(nowhere),
        suppress(LessonIsOverError),
    ):
        teach(
            trainer,
            lesson,
            unet=unet,
            vae=None,
            text_encoder=text_encoder,
            dataloader=feed,
            num_steps=WITHOUT_END,
            scheduler=DDPMScheduler(**lesson["noise_schedule"]),
            save_steps=WITHOUT_END,
            placeholder_token_ids=(),
            placeholder_tokens=lesson["placeholder_tokens"],
            save_path="",
            tokenizer=tokenizer,
            test_image_path="",
            cached_latents=True,
        )


def invert(trainer: ModuleType, lesson: Lesson, **arguments: Any) -> None:
    table = arguments["text_encoder"].get_input_embeddings()
    is_known = torch.arange(len(table.weight)) < len(table.weight) - len(
        lesson["placeholder_tokens"]
    )
    optimizer = torch.optim.AdamW(
        table.parameters(), lr=lesson["learning_rate"], betas=(0.9, 0.999), weight_decay=0.0
    )
    trainer.train_inversion(
        **arguments,
        index_no_updates=is_known,
        optimizer=optimizer,
        lr_scheduler=schedule(lesson, optimizer),
        accum_iter=lesson["passes_per_update"],
        mixed_precision=False,
    )


def tune(trainer: ModuleType, lesson: Lesson, **arguments: Any) -> None:
    unet, text_encoder = arguments["unet"], arguments["text_encoder"]
    rank = lesson["lora_rank"]
    text_encoder.requires_grad_(False)
    unet_targets, text_targets = {"CrossAttention", "Attention", "GEGLU"}, {"CLIPAttention"}
    groups = []
    for module, targets, rate in (
        (unet, unet_targets, lesson["unet_learning_rate"]),
        (text_encoder, text_targets, lesson["text_learning_rate"]),
    ):
        matrices, _ = trainer.inject_trainable_lora(module, r=rank, target_replace_module=targets)
        groups.append({"params": itertools.chain(*matrices), "lr": rate})
    optimizer = torch.optim.AdamW(groups, weight_decay=lesson["weight_decay"])
    trainer.perform_tuning(
        **arguments,
        optimizer=optimizer,
        lr_scheduler_lora=schedule(lesson, optimizer),
        lora_unet_target_modules=unet_targets,
        lora_clip_target_modules=text_targets,
        mask_temperature=1.0,
        out_name="",
    )


def schedule(lesson: Lesson, optimizer: torch.optim.Optimizer) -> Any:
    return get_scheduler(
        lesson["lr_scheduler"], optimizer, num_warmup_steps=0, num_training_steps=WITHOUT_END
    )


def record_losses(trainer: ModuleType, losses: list[Tensor]) -> None:
    """Of every picture; they are read when a stretch is over, so that it costs the loop nothing."""
    loss_step = trainer.loss_step

    def recorded(*arguments: Any, **keywords: Any) -> Tensor:
        loss: Tensor = loss_step(*arguments, **keywords)
        losses.append(loss.detach())
        return loss

    trainer.loss_step = recorded  # type: ignore[attr-defined]


def add_words(tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, lesson: Lesson) -> None:
    num_words = tokenizer.add_tokens(lesson["placeholder_tokens"])
    assert num_words == len(lesson["placeholder_tokens"])
    text_encoder.resize_token_embeddings(len(tokenizer))
    rows = text_encoder.get_input_embeddings().weight.data[-num_words:]
    rows.copy_(lesson["initial_std"] * torch.randn_like(rows))


def freeze(unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
    """All but the token table, as the trainer does before inversion."""
    unet.requires_grad_(False)
    text_encoder.requires_grad_(False)
    text_encoder.get_input_embeddings().requires_grad_(True)


def read_pictures(folder: Path) -> list[dict[str, Any]]:
    """What its data set gives for each picture once the latents are cached."""
    told = load_file(folder / "pictures.safetensors")
    ids = zip(told["input_ids"].tolist(), told["lengths"].tolist(), strict=True)
    return [
        {"instance_images": latents, "instance_prompt_ids": row[:length]}
        for latents, (row, length) in zip(told["latents"], ids, strict=True)
    ]


def import_trainer() -> ModuleType:
    """`lora_diffusion.cli_lora_pti`, without what it imports and these loops do not call."""
    found = importlib.util.find_spec("lora_diffusion")
    assert found is not None, "lora_diffusion is not installed: run script/interop"
    assert found.submodule_search_locations is not None
    package = ModuleType("lora_diffusion")
    package.__path__ = list(found.submodule_search_locations)
    sys.modules["lora_diffusion"] = package
    vars(package).update(vars(importlib.import_module("lora_diffusion.lora")))
    vars(package).update(dict.fromkeys(UNUSED_NAMES))
    for name in UNUSED_MODULES:
        sys.modules.setdefault(name, ModuleType(name))
    vars(sys.modules["torchvision"])["transforms"] = sys.modules["torchvision.transforms"]
    return importlib.import_module("lora_diffusion.cli_lora_pti")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
