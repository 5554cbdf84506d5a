"""What lora_diffusion itself makes of LoRA files: run by the Python that script/interop sets up.

python tests/interop/patch_pipe.py FOLDER

FOLDER holds `model` (unet, text_encoder, tokenizer), `inputs.safetensors` (sample, timestep) and
`files`, the LoRAs. Each file's outputs go to `outputs` under its name, through both ways in:
`patch_pipe`, and the `LoRAManager` of Replicate's inference service (`managed_...`). Where the
model breaks on a file there is a .txt with the error instead.
"""

import copy
import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    base = load_pipe(folder / "model")
    inputs = load_file(folder / "inputs.safetensors")
    (folder / "outputs").mkdir()
    for path in sorted((folder / "files").iterdir()):
        written = folder / "outputs" / path.name
        try:
            save_file(patched(base, path, inputs) | managed(base, path, inputs), written)
        except RuntimeError as error:
            written.with_suffix(".txt").write_text(str(error), encoding="utf-8")


def load_pipe(folder: Path) -> SimpleNamespace:
    """The three parts of a pipeline that a LoRA changes."""
    return SimpleNamespace(
        unet=UNet2DConditionModel.from_pretrained(folder / "unet", local_files_only=True),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
    )


def patched(base: SimpleNamespace, path: Path, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    pipe = copy.deepcopy(base)
    lora.patch_pipe(pipe, str(path))
    return outputs(pipe, "a photo of <s1><s2>", inputs)


def managed(base: SimpleNamespace, path: Path, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Its words have names of their own: `<1>` is all words of the first file."""
    pipe = copy.deepcopy(base)
    manager = lora_manager.LoRAManager([str(path)], pipe)
    found = outputs(pipe, manager.prompt("a photo of <1>"), inputs)
    return {f"managed_{name}": tensor for name, tensor in found.items()}


@torch.no_grad()
def outputs(pipe: SimpleNamespace, prompt: str, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    # What it puts in has dropout, and stays in training mode.
    pipe.unet.eval()
    pipe.text_encoder.eval()
    input_ids = pipe.tokenizer(prompt, padding="max_length", return_tensors="pt").input_ids
    text = pipe.text_encoder(input_ids)[0]
    unet = pipe.unet(inputs["sample"], inputs["timestep"], text).sample
    return {"input_ids": input_ids, "text": text, "unet": unet}


def import_readers() -> tuple[ModuleType, ModuleType]:
    """lora_diffusion's two modules, without the package's own __init__.

    That would import its trainer too, which asks for torchvision, mediapipe and OpenCV.
    """
    found = importlib.util.find_spec("lora_diffusion")
    assert found is not None, "lora_diffusion is not installed: run script/interop"
    assert found.submodule_search_locations is not None
    package = ModuleType("lora_diffusion")
    package.__path__ = list(found.submodule_search_locations)
    sys.modules["lora_diffusion"] = package
    return (
        importlib.import_module("lora_diffusion.lora"),
        importlib.import_module("lora_diffusion.lora_manager"),
    )


lora, lora_manager = import_readers()

if __name__ == "__main__":
    main(Path(sys.argv[1]))
