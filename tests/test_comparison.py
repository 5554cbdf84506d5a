"""script/train's before and after: the base model as it is, and the file as it was written."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from cli.arguments import parse_command
from cli.comparison import Comparison, Impression, compare
from cli.measure import fix_draws, measure_loss, prompts_with
from cli.report import TrainingRun, describe_comparison
from cli.sampling import build_pipeline, decode
from cli.showcase import scenes
from cli.train import preview_rows, request_for
from preprocessing.example import Example
from preprocessing.prepare import Prepared
from service.job import MadeLora
from tests.conftest import REPOSITORY
from tests.lora_files import lora_for
from tests.models import TARGETS, TEXT_TARGETS, layers_of
from training.base_model import BaseModel
from training.batches import encode_images, to_pixel_values
from training.formats import load, unload, write_lora
from training.pivotal import Trained
from training.trained_lora import TrainedLora

WORDS = "<s1><s2>"
TYPED = (str(REPOSITORY / "examples" / "penguin.zip"), "--out=lora.safetensors")


@pytest.fixture
def lora(base: BaseModel) -> TrainedLora:
    return lora_for(layers_of(base.unet, TARGETS)[:9], layers_of(base.text_encoder, TEXT_TARGETS))


def test_the_base_model_and_the_whole_file_are_asked_the_same(
    base: BaseModel, examples: list[Example], lora: TrainedLora, tmp_path: Path
) -> None:
    path = tmp_path / "lora.safetensors"
    write_lora(lora, path, "diffusers")
    some = examples[:1]
    draws, pipeline = fix_draws(base, some), build_pipeline(base)

    found = compare(base, path, WORDS, some, ())

    plain = measure_loss(base, draws, prompts_with(some, ""))
    load(pipeline, path)
    tuned = measure_loss(base, draws, prompts_with(some, WORDS))
    unload(pipeline)
    assert (found.before.losses, found.before.words) == (plain, "")
    assert (found.after.losses, found.after.words) == (tuned, WORDS)
    assert abs(found.after.loss / found.before.loss - 1) > 0.01


def test_what_was_before_and_after_is_told_as_that(
    base: BaseModel, examples: list[Example], lora: TrainedLora
) -> None:
    shown = scenes("object")

    def impression(words: str, loss: float, colour: str) -> Impression:
        row = (Image.new("RGB", (64, 64), colour),) * 8
        return Impression(words=words, losses=(loss,), samples=(row,) * len(shown))

    comparison = Comparison(before=impression("", 0.2, "red"), after=impression(WORDS, 0.1, "blue"))
    made = MadeLora(
        path=Path("lora.safetensors"),
        prepared=Prepared(examples=tuple(examples), reports=(), looks=(), warnings=()),
        trained=Trained(lora=lora, histories=()),
        seconds={},
    )
    run = TrainingRun(
        base=base,
        request=request_for(parse_command(TYPED), base),
        made=made,
        comparison=comparison,
        measured_on="the training pictures",
        num_measured=3,
        seconds={},
    )

    rows = preview_rows(made, comparison, shown)
    told = describe_comparison(run)

    assert [(row.caption, row.images[0].getpixel((0, 0))) for row in rows[1:3]] == [
        ('base model: "a photo of"', (255, 0, 0)),
        (f'trained: "a photo of {WORDS}"', (0, 0, 255)),
    ]
    assert (told["before"]["mean"], told["after"]["mean"]) == (0.2, 0.1)
    assert told["change_percent"] == -50


def test_latents_are_drawn_as_the_picture_that_they_stand_for(
    base: BaseModel, examples: list[Example]
) -> None:
    images = [example.image for example in examples]
    with torch.no_grad():
        latents, _ = encode_images(base, images)

    for drawn, image in zip(decode(base, latents), images, strict=True):
        difference = to_pixel_values(drawn) - to_pixel_values(image)
        assert difference.abs().mean() < 0.1


def test_all_that_is_typed_arrives(base: BaseModel) -> None:
    prompts, urls = "a photo of {}", "https://a.example/1.jpg"
    options = ("--custom_prompts", prompts, "--instance_data_urls", urls, "--lora_rank=5")

    command = parse_command([*TYPED, *options, "--precision=bf16", "--gradient-checkpointing"])
    request = request_for(command, base)

    assert (command.precision, command.gradient_checkpointing) == ("bf16", True)
    assert (request.custom_prompts, request.instance_data_urls) == (prompts, urls)
    assert request.inputs.lora_rank == 5
    assert request.inputs.learning_rate_ti == base.card.recommended["learning_rate_ti"]
