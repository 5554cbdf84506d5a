"""The embedded base model is what it says, and its recipe keeps its promises."""

import json
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors import safe_open
from transformers import CLIPTextModel, CLIPTokenizer

from weights.build_tiny.captions import draw_caption, fixed_caption, with_article
from weights.build_tiny.checkpoints import load_checkpoint, save_checkpoint
from weights.build_tiny.folder import TRAINING_FACTS
from weights.build_tiny.latents import group_of
from weights.build_tiny.muon import orthogonalize
from weights.build_tiny.pictures import PictureName, halve, place_on
from weights.build_tiny.sets import (
    HELD_OUT_CONCEPTS,
    HELD_OUT_STYLE,
    HERE,
    ICON_SETS,
    TRAINED_STYLES,
    common_concepts,
    trained_concepts,
)
from weights.build_tiny.tokenizer import END_OF_WORD, byte_characters, learn_merges, merge_pair
from weights.build_tiny.updates import (
    LAST_RATE,
    WARM_UP_STEPS,
    make_optimizers,
    rate_factor,
    update,
)

ROOT = Path(__file__).parent.parent
TINY = ROOT / "weights" / "tiny"
MAX_FOLDER_BYTES = 25_000_000


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(TINY, local_files_only=True)


def test_the_embedded_model_is_a_stable_diffusion_with_the_same_noise_schedule(
    pipeline: StableDiffusionPipeline,
) -> None:
    assert isinstance(pipeline.text_encoder, CLIPTextModel)
    assert isinstance(pipeline.tokenizer, CLIPTokenizer)
    schedule = pipeline.scheduler.config
    assert (schedule.beta_start, schedule.beta_end) == (0.00085, 0.012)
    assert schedule.beta_schedule == "scaled_linear"
    assert schedule.num_train_timesteps == 1000
    assert schedule.prediction_type == "epsilon"
    assert pipeline.vae.config.scaling_factor == 0.18215


def test_the_embedded_model_works_at_every_size_it_promises(
    pipeline: StableDiffusionPipeline,
) -> None:
    sizes = json.loads((TINY / "training.json").read_text())["resolution"]
    assert sizes["native"] == pipeline.vae_scale_factor * pipeline.unet.config.sample_size
    for size in range(sizes["smallest"], sizes["largest"] + 1, sizes["step"]):
        pixel_values = torch.zeros(1, 3, size, size)
        latents = pipeline.vae.encode(pixel_values).latent_dist.mean
        assert latents.shape[-1] * pipeline.vae_scale_factor == size
        encoder_hidden_states = torch.zeros(1, 77, pipeline.unet.config.cross_attention_dim)
        assert pipeline.unet(latents, 1, encoder_hidden_states).sample.shape == latents.shape


def test_the_same_seed_and_prompt_give_the_same_picture_and_another_prompt_another(
    pipeline: StableDiffusionPipeline,
) -> None:
    pipeline.set_progress_bar_config(disable=True)

    def picture(prompt: str) -> np.ndarray:
        generator = torch.Generator().manual_seed(0)
        return pipeline(prompt, num_inference_steps=2, generator=generator, output_type="np").images

    assert np.array_equal(picture("a photo of a dog"), picture("a photo of a dog"))
    assert not np.array_equal(picture("a photo of a dog"), picture("a photo of an apple"))


def test_the_embedded_weights_are_small_and_in_half_precision() -> None:
    assert sum(path.stat().st_size for path in TINY.rglob("*")) <= MAX_FOLDER_BYTES
    files = list(TINY.rglob("*.safetensors"))
    assert len(files) == 3
    for path in files:
        with safe_open(path, "pt") as tensors:
            assert {tensors.get_slice(key).get_dtype() for key in tensors.keys()} == {"F16"}  # noqa: SIM118


def test_the_embedded_configuration_names_no_folder_of_the_machine_that_made_it() -> None:
    for path in TINY.glob("*/*config.json"):
        assert "_name_or_path" not in path.read_text(encoding="utf-8"), path


def test_a_new_placeholder_becomes_one_token(pipeline: StableDiffusionPipeline) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(TINY / "tokenizer", local_files_only=True)
    known = len(tokenizer)
    assert tokenizer.add_tokens(["<s1>", "<s2>"]) == 2
    input_ids = tokenizer("a photo of <s1><s2>", add_special_tokens=False).input_ids
    assert input_ids[-2:] == [known, known + 1]
    assert tokenizer.model_max_length == 77
    assert tokenizer.pad_token_id == tokenizer.eos_token_id


def test_any_text_survives_the_tokenizer(pipeline: StableDiffusionPipeline) -> None:
    text = "a café in tōkyō, 100 % ✨"
    input_ids = pipeline.tokenizer(text, add_special_tokens=False).input_ids
    assert pipeline.tokenizer.decode(input_ids).replace(" ", "") == text.replace(" ", "")


def test_held_out_concepts_and_style_are_never_trained_on() -> None:
    assert not set(trained_concepts()) & set(HELD_OUT_CONCEPTS)
    assert set(common_concepts()) <= set(trained_concepts())
    assert HELD_OUT_STYLE not in TRAINED_STYLES
    for concept in HELD_OUT_CONCEPTS:
        assert group_of(PictureName(style="noto", concept=concept)) == "held_out_concepts"
    assert group_of(PictureName(style=HELD_OUT_STYLE, concept="dog-face")) == "held_out_style"
    assert group_of(PictureName(style="noto", concept="dog-face")) == "train"


def test_the_pinned_sets_are_those_of_the_lock_file_and_none_is_share_alike() -> None:
    lock = json.loads((HERE / "package-lock.json").read_text())["packages"]
    pinned = {name.split("/")[-1]: entry for name, entry in lock.items() if "iconify-json" in name}
    assert set(pinned) == {icon_set.package for icon_set in ICON_SETS}
    for icon_set in ICON_SETS:
        assert pinned[icon_set.package]["version"] == icon_set.version
        assert pinned[icon_set.package]["license"] == icon_set.licence
        assert pinned[icon_set.package]["integrity"].startswith("sha512-")
        assert "SA" not in icon_set.licence


def test_the_lock_file_names_no_server() -> None:
    text = (HERE / "package-lock.json").read_text()
    assert "://" not in text
    assert '"resolved"' not in text


def test_captions_name_the_style_or_leave_it_open_and_are_sometimes_empty() -> None:
    random = np.random.default_rng(0)
    captions = Counter(draw_caption("red-apple", "noto", None, random) for _ in range(3000))
    with_style = sum(count for caption, count in captions.items() if "noto" in caption)
    assert captions[""] / 3000 == pytest.approx(0.10, abs=0.02)
    assert 1 - (with_style + captions[""]) / 3000 == pytest.approx(0.34, abs=0.03)
    assert captions["a photo of an apple"]
    assert captions["a noto style icon of a red apple"]


def test_a_coloured_background_is_always_in_the_caption() -> None:
    random = np.random.default_rng(0)
    captions = {draw_caption("star", "noto", "blue", random) for _ in range(200)} - {""}
    assert all(caption.endswith("on a blue background") for caption in captions)


def test_articles_fit() -> None:
    assert with_article("owl") == "an owl"
    assert with_article("french fries") == "french fries"
    assert fixed_caption("hot-dog", "fluent") == "a fluent style icon of a hot dog"


def test_merges_rebuild_every_word_they_were_learned_from() -> None:
    counts = Counter({"cat": 5, "cart": 4, "car": 9, "dog": 1})
    merges = learn_merges(counts, 50)
    for word in counts:
        pieces = (*word[:-1], word[-1] + END_OF_WORD)
        for pair in merges:
            pieces = merge_pair(pieces, pair)
        assert pieces == (word + END_OF_WORD,)
    assert merges[0] == ("c", "a")
    assert len(set(byte_characters())) == 256


def test_a_clear_picture_is_its_background_and_an_opaque_one_itself() -> None:
    picture = np.zeros((4, 4, 4), np.uint8)
    assert np.allclose(place_on(picture, (1.0, 0.5, 0.0)), (1.0, 0.5, 0.0))
    picture[..., 3] = 255
    picture[:2, :, 0] = 255
    assert np.allclose(halve(place_on(picture, (0.0, 0.0, 1.0)))[:, 0], [(1, 0, 0), (0, 0, 0)])


def test_orthogonalizing_brings_all_singular_values_near_one() -> None:
    matrix = torch.randn(8, 24, generator=torch.Generator().manual_seed(0))
    for shaped in (matrix, matrix.T):
        values = torch.linalg.svdvals(orthogonalize(shaped))
        assert values.min() > 0.5
        assert values.max() < 1.3


def test_the_learning_rate_warms_up_then_falls_to_a_few_percent() -> None:
    factors = [rate_factor(step, 1000, 0.4) for step in range(1000)]
    assert factors[0] < 0.1
    assert factors[WARM_UP_STEPS:400] == [1.0] * (400 - WARM_UP_STEPS)
    assert factors[400:] == sorted(factors[400:], reverse=True)
    assert factors[-1] == pytest.approx(LAST_RATE, abs=0.01)


def test_training_that_stops_and_goes_on_ends_at_the_same_weights(tmp_path: Path) -> None:
    def learn(model: torch.nn.Linear, first_step: int, last_step: int) -> None:
        hidden = [parameter for parameter in model.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in model.parameters() if parameter.ndim < 2]
        optimizers = make_optimizers(hidden, others)
        assert load_checkpoint(tmp_path / "last.pt", model, optimizers) == first_step
        for step in range(first_step, last_step):
            features = torch.randn(4, 3, generator=torch.Generator().manual_seed(step))
            loss = (model(features) - 1).pow(2).mean()
            update(list(model.parameters()), optimizers, loss, factor=1.0)
        save_checkpoint(tmp_path / "last.pt", last_step, model, optimizers)

    torch.manual_seed(0)
    straight = torch.nn.Linear(3, 2)
    stopped = torch.nn.Linear(3, 2)
    stopped.load_state_dict(straight.state_dict())
    learn(straight, 0, 6)
    (tmp_path / "last.pt").unlink()
    learn(stopped, 0, 3)
    resumed = torch.nn.Linear(3, 2)
    learn(resumed, 3, 6)
    assert torch.equal(straight.weight, resumed.weight)


@pytest.mark.parametrize("archive", sorted((ROOT / "examples").glob("*.zip")), ids=lambda p: p.stem)
def test_an_example_archive_holds_pictures_on_white_and_is_small(archive: Path) -> None:
    assert archive.stat().st_size < 500_000
    with zipfile.ZipFile(archive) as pictures:
        assert len(pictures.namelist()) >= 5
        for name in pictures.namelist():
            with pictures.open(name) as file, Image.open(file) as image:
                assert image.size == (128, 128)
                assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
                in_training = group_of(picture_name(name)) == "train"
                assert not in_training, f"{name} was trained on"


def picture_name(file_name: str) -> PictureName:
    """ "dog-face-mono.png" -> its concept and its style."""
    stem = Path(file_name).stem
    style = next(s.style for s in reversed(ICON_SETS) if stem.endswith(f"-{s.style}"))
    return PictureName(style=style, concept=stem.removesuffix(f"-{style}"))


def test_the_committed_settings_are_those_that_the_recipe_writes() -> None:
    written = json.loads((TINY / "training.json").read_text(encoding="utf-8"))
    assert written == TRAINING_FACTS
