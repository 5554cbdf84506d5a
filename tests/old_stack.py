"""lora_diffusion with the diffusers and transformers of its time, run by a Python of their own."""

import copy
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.conftest import REPOSITORY, TINY
from tests.models import merge
from training.trained_lora import TrainedLora

PYTHON = Path(os.environ.get("INTEROP_PYTHON", REPOSITORY / ".venv-interop" / "bin" / "python"))
SCRIPT = REPOSITORY / "tests" / "interop" / "patch_pipe.py"
PROMPT = "a photo of <s1><s2>"  # as in SCRIPT


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What went into the old stack, and what came out of it, by the file's name.

    Attributes:
        pipeline: the base model, as today's stack has it.
        inputs: the UNet's `sample` (1, 4, 16, 16) and `timestep` ().
        outputs: `input_ids`, `text` and `unet`, and the same as `managed_...`.
        errors: of files that the model broke on.
    """

    pipeline: StableDiffusionPipeline
    inputs: dict[str, Tensor]
    outputs: dict[str, dict[str, Tensor]]
    errors: dict[str, str]


def judge(pipeline: StableDiffusionPipeline, folder: Path) -> Judged:
    """Have the old stack read every LoRA in folder/files."""
    save_for_the_old_stack(pipeline, folder / "model")
    generator = torch.Generator().manual_seed(1)
    inputs = {
        "sample": torch.randn(1, 4, 16, 16, generator=generator),
        "timestep": torch.tensor(300),
    }
    save_file(inputs, folder / "inputs.safetensors")
    command = [str(PYTHON), "-I", str(SCRIPT), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    written = sorted((folder / "outputs").iterdir())
    return Judged(
        pipeline=pipeline,
        inputs=inputs,
        outputs={p.stem: load_file(p) for p in written if p.suffix == ".safetensors"},
        errors={p.stem: p.read_text(encoding="utf-8") for p in written if p.suffix == ".txt"},
    )


def save_for_the_old_stack(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    pipeline.unet.save_pretrained(folder / "unet")
    pipeline.text_encoder.config.save_pretrained(folder / "text_encoder")
    tensors = {  # transformers 5 dropped the prefix
        f"text_model.{name.removeprefix('text_model.')}": tensor
        for name, tensor in pipeline.text_encoder.state_dict().items()
    }
    save_file(tensors, folder / "text_encoder" / "model.safetensors", {"format": "pt"})
    shutil.copytree(TINY / "tokenizer", folder / "tokenizer")


@torch.no_grad()
def expected_outputs(judged: Judged, lora: TrainedLora) -> dict[str, Tensor]:
    """The trained model's own, in today's stack."""
    trained = merge(copy.deepcopy(judged.pipeline), lora)
    ids = trained.tokenizer(PROMPT, padding="max_length", return_tensors="pt").input_ids
    text = trained.text_encoder(ids)[0]
    unet = trained.unet(judged.inputs["sample"], judged.inputs["timestep"], text).sample
    return {"input_ids": ids, "text": text, "unet": unet}
