"""Our files in the prior service's own reader: lora_diffusion's `patch_pipe` and `LoRAManager`.

They need the diffusers and transformers of their time, so another Python runs them
(tests/interop/patch_pipe.py); here is compared what came out with the trained model's own outputs.
`script/interop` installs that Python and runs these tests.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from preprocessing.example import Example
from tests.conftest import TINY, VISIBLE, noise_image
from tests.lora_files import contents, lora_for, numbered_tensors, recorded_order, write_raw
from tests.models import SMALL_KINDS, TARGETS, TEXT_TARGETS, build_small_pipeline, layers_of
from tests.old_stack import PYTHON, Judged, expected_outputs, judge
from training.base_model import BaseModel
from training.formats import read_lora, write_lora
from training.pivotal import train
from training.settings import translate
from training.trained_lora import LoraPair, TrainedLora

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not PYTHON.is_file(),
        reason="lora_diffusion and the diffusers of its time are not installed: run script/interop",
    ),
]

# Relative L2 error of text encoder and UNet: what rounding the matrices to the file's precision
# leaves, with room for two stacks' arithmetic.
BOUNDS = {"fp16": 1e-3, "bf16": 1e-2, "fp32": 1e-5}
CAUGHT = 10 * BOUNDS["fp16"]  # no rounding explains an error this large
NAMES = {"text": "text encoder", "unet": "UNet"}


def random_lora(pipeline: StableDiffusionPipeline) -> TrainedLora:
    unet = layers_of(pipeline.unet, TARGETS)
    return lora_for(unet, layers_of(pipeline.text_encoder, TEXT_TARGETS), dtype=torch.float32)


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    return build_small_pipeline(SMALL_KINDS["SD 1.5, narrow"])


@pytest.fixture(scope="module")
def lora(pipeline: StableDiffusionPipeline) -> TrainedLora:
    lora = random_lora(pipeline)
    assert (len(lora.unet), len(lora.text_encoder)) == (144, 48)
    return lora


@pytest.fixture(scope="module")
def judged(
    pipeline: StableDiffusionPipeline,
    lora: TrainedLora,
    tmp_path_factory: pytest.TempPathFactory,
) -> Judged:
    folder = tmp_path_factory.mktemp("interop")
    files = folder / "files"
    files.mkdir()
    for precision in BOUNDS:
        write_lora(lora, files / f"{precision}.safetensors", "lora_diffusion", precision)
    tensors, metadata = contents(files / "fp16.safetensors")
    bare = {n: value for n, value in metadata.items() if not n.startswith("vana.")}
    write_raw(files / "bare.safetensors", tensors, bare)
    write_converted(lora, folder, files)
    write_mixed_up(lora, files)
    return judge(pipeline, folder)


def write_converted(lora: TrainedLora, folder: Path, files: Path) -> None:
    """Files of other formats, read and written again; `halved` and `forgotten` differ in alpha."""
    write_lora(lora, folder / "kohya", "kohya")
    write_lora(lora, folder / "diffusers", "diffusers")
    tensors, metadata = contents(folder / "kohya")
    halved = {n: t / 2 if n.endswith(".alpha") else t for n, t in tensors.items()}
    write_raw(folder / "halved", halved, metadata)
    forgotten = {n: t for n, t in tensors.items() if not n.endswith(".alpha")}
    write_raw(folder / "forgotten", forgotten, metadata)
    for name in ("kohya", "diffusers", "halved", "forgotten"):
        write_lora(read_lora(folder / name).lora, files / f"{name}.safetensors")


def write_mixed_up(lora: TrainedLora, files: Path) -> None:
    """What diffusers since 0.15 meets, a text encoder read as q, k, v, out, and swapped layers."""
    order = [layer.path for layer in recorded_order("unet")]
    later = [order[i + n] for i in range(0, 144, 9) for n in (0, 1, 2, 3, 5, 6, 7, 8, 4)]
    numbered = numbered_tensors(lora, later, dtype=torch.float16)
    write_raw(files / "later_order.safetensors", *numbered)
    q_first = renamed(lora.text_encoder, k_proj="q_proj", v_proj="k_proj", q_proj="v_proj")
    write_lora(replace(lora, text_encoder=q_first), files / "text_order.safetensors")
    swapped = renamed(lora.unet, to_q="to_k", to_k="to_q", within="attn1")
    write_lora(replace(lora, unet=swapped), files / "swapped.safetensors")


def renamed(
    pairs: dict[str, LoraPair], *, within: str = "self_attn", **names: str
) -> dict[str, LoraPair]:
    """Each pair in the place of the projection that `names` says instead of its own."""

    def place(path: str) -> str:
        parent, _, projection = path.rpartition(".")
        return f"{parent}.{names.get(projection, projection)}" if within in parent else path

    return {place(path): pair for path, pair in pairs.items()}


@pytest.mark.parametrize("precision", BOUNDS)
def test_patch_pipe_gives_the_trained_models_outputs(
    judged: Judged, lora: TrainedLora, precision: str
) -> None:
    check_same(judged, precision, lora, BOUNDS[precision])


@pytest.mark.parametrize("source", ["kohya", "diffusers"])
def test_a_converted_file_is_as_good_as_one_written_at_once(judged: Judged, source: str) -> None:
    assert is_same(judged.outputs[source], judged.outputs["fp16"])


def test_what_our_metadata_says_makes_no_difference(judged: Judged) -> None:
    assert is_same(judged.outputs["bare"], judged.outputs["fp16"])


def test_an_alpha_other_than_the_rank_becomes_part_of_the_matrices(
    judged: Judged, lora: TrainedLora
) -> None:
    halved = replace(lora, unet=halve(lora.unet), text_encoder=halve(lora.text_encoder))

    check_same(judged, "halved", halved, BOUNDS["fp16"])

    expected = expected_outputs(judged, halved)
    for key in NAMES:
        assert relative_error(judged.outputs["forgotten"][key], expected[key]) > CAUGHT


def test_the_order_of_later_diffusers_is_caught(judged: Judged) -> None:
    assert "later_order" not in judged.outputs
    assert judged.errors.keys() == {"later_order"}
    assert "size of tensor" in judged.errors["later_order"]


def test_layers_in_each_others_place_are_caught(judged: Judged, lora: TrainedLora) -> None:
    expected = expected_outputs(judged, lora)
    assert relative_error(judged.outputs["text_order"]["text"], expected["text"]) > CAUGHT
    assert relative_error(judged.outputs["swapped"]["unet"], expected["unet"]) > CAUGHT


def test_patch_pipe_reads_files_for_stable_diffusion_2_too(tmp_path: Path) -> None:
    pipeline = build_small_pipeline(SMALL_KINDS["SD 2.1, narrow"])
    lora = random_lora(pipeline)
    assert (len(lora.unet), len(lora.text_encoder)) == (144, 92)
    (tmp_path / "files").mkdir()
    write_lora(lora, tmp_path / "files" / "fp16.safetensors")

    check_same(judge(pipeline, tmp_path), "fp16", lora, BOUNDS["fp16"])


def test_what_was_really_trained_works_there_too(base: BaseModel, tmp_path: Path) -> None:
    examples = [
        Example(image=noise_image(seed), mask=None, prompts=("a photo of {}",)) for seed in range(3)
    ]
    lora = train(base, examples, translate(VISIBLE), lambda progress: None).lora
    (tmp_path / "files").mkdir()
    write_lora(lora, tmp_path / "files" / "trained.safetensors")
    pipeline = StableDiffusionPipeline.from_pretrained(TINY, dtype=torch.float32)

    check_same(judge(pipeline, tmp_path), "trained", lora, BOUNDS["fp16"])


def check_same(judged: Judged, name: str, lora: TrainedLora, bound: float) -> None:
    found, expected = judged.outputs[name], expected_outputs(judged, lora)
    untouched = expected_outputs(judged, replace(lora, unet={}, text_encoder={}))
    assert torch.equal(found["input_ids"], expected["input_ids"])
    for key, part in NAMES.items():
        assert relative_error(found[key], expected[key]) < bound, part
        # LoRAManager gives the words other names, and after them the same.
        assert relative_error(found[f"managed_{key}"], expected[key]) < bound, part
        assert relative_error(untouched[key], expected[key]) > CAUGHT, "the LoRA does too little"


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def halve(pairs: dict[str, LoraPair]) -> dict[str, LoraPair]:
    return {path: LoraPair(down=pair.down, up=pair.up / 2) for path, pair in pairs.items()}


def is_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    """To the last bit."""
    return left.keys() == right.keys() and all(torch.equal(t, right[n]) for n, t in left.items())
