"""The finished model: the best candidate as a folder that diffusers loads."""

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from safetensors.torch import load_file

from weights.build_tiny.denoiser import candidate_name
from weights.build_tiny.models import (
    Denoiser,
    load_tokenizer,
    make_noise_scheduler,
    make_text_encoder,
    make_unet,
)

# What this base model can do, for those who train on it.
TRAINING_FACTS = {
    "name": "weights/tiny",
    "resolution": {"native": 64, "smallest": 64, "largest": 128, "step": 16},
    # Well-trained words ("dog", "icon", "of") have norms of 1.1 to 1.4 in the finished model.
    "placeholder_norm": 1.25,
    "recommended": {
        "resolution": 64,
        "max_train_steps_ti": 600,
        "max_train_steps_tuning": 1000,
        "learning_rate_ti": 0.005,
        "learning_rate_unet": 0.0005,
        "learning_rate_text": 0.0002,
        "lr_scheduler": "cosine",
        "lora_rank": 16,
    },
}


def best_step(denoiser_folder: Path) -> int:
    """The step with the lowest loss on held-out concepts: after it, the model learns by heart."""
    rows = json.loads((denoiser_folder / "losses.json").read_text(encoding="utf-8"))
    step: int = min(rows, key=lambda row: row["held_out_concepts"])["step"]
    return step


def assemble(work: Path, step: int) -> StableDiffusionPipeline:
    """The pipeline with the averaged weights of that step."""
    tokenizer = load_tokenizer(work / "tokenizer")
    unet, text_encoder = make_unet(), make_text_encoder(tokenizer)
    Denoiser(unet, text_encoder).load_state_dict(
        load_file(work / "denoiser" / candidate_name(step))
    )
    vae = AutoencoderKL.from_pretrained(work / "autoencoder", local_files_only=True)
    return StableDiffusionPipeline(
        vae=vae.eval(),
        text_encoder=text_encoder.eval(),
        tokenizer=tokenizer,
        unet=unet.eval(),
        scheduler=make_noise_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def edit_json(path: Path, changes: dict[str, str | None]) -> None:
    """Set entries of a JSON object in a file; None removes one."""
    entries = json.loads(path.read_text(encoding="utf-8")) | changes
    kept = {key: entry for key, entry in entries.items() if key not in changes or entry is not None}
    path.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def write_folder(work: Path, step: int) -> Path:
    """work/tiny: fp16 safetensors, tokenizer files old and new, training.json."""
    folder = work / "tiny"
    pipeline = assemble(work, step).to(dtype=torch.float16)
    pipeline.save_pretrained(folder, safe_serialization=True)
    # Otherwise transformers loads half precision unasked, and diffusers loads float32.
    edit_json(folder / "text_encoder" / "config.json", {"dtype": "float32"})
    # diffusers notes where on this machine a part was loaded from.
    edit_json(folder / "vae" / "config.json", {"_name_or_path": None})
    # transformers 5 writes tokenizer.json alone; other readers of CLIP vocabularies want these two.
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(work / "tokenizer" / name, folder / "tokenizer" / name)
    text = json.dumps(TRAINING_FACTS, indent=2) + "\n"
    (folder / "training.json").write_text(text, encoding="utf-8")
    return folder
