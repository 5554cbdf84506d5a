from collections import Counter

import pytest
import torch
from PIL import Image, ImageDraw, ImageOps

from preprocessing.example import Example
from tests.conftest import noise_image
from training.base_model import BaseModel
from training.batches import (
    draw_batch,
    encode_images,
    encode_pictures,
    loss_weight,
    picture_order,
    to_pixel_values,
)
from training.placeholders import new_words, tokenize


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_picture_comes_once_before_any_comes_again() -> None:
    order = picture_order(5, 23, generator())

    assert len(order) == 23
    for start in range(0, 20, 5):
        assert sorted(order[start : start + 5].tolist()) == [0, 1, 2, 3, 4]
    assert order[:5].tolist() != order[5:10].tolist()


def test_pixels_reach_the_vae_as_they_were_sent() -> None:
    image = noise_image(1)
    pixels = to_pixel_values(image)
    back = ((pixels.permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
    assert Image.fromarray(back).tobytes() == image.tobytes()


def test_latents_are_those_of_the_vae_whatever_the_batch(base: BaseModel) -> None:
    images = [noise_image(seed) for seed in range(6)]
    means, stds = encode_images(base, images)

    alone = base.vae.encode(to_pixel_values(images[5])[None]).latent_dist
    torch.testing.assert_close(means[5], 0.18215 * alone.mean[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(stds[5], 0.18215 * alone.std[0], rtol=1e-4, atol=1e-5)
    assert means.shape == (6, 4, 16, 16)  # 64 pixels, a VAE factor of 4


@pytest.mark.parametrize(("side", "batches"), [(64, [4, 1]), (544, [3, 2]), (768, [1] * 5)])
def test_large_pictures_are_encoded_fewer_at_a_time(
    base: BaseModel, side: int, batches: list[int]
) -> None:
    """No more pixels than four pictures of 512: training must need more memory than this."""
    seen: list[int] = []
    hook = base.vae.encoder.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    with hook:
        encode_images(base, [Image.new("RGB", (side, side))] * 5)
    assert seen == batches


def draw_many(base: BaseModel, examples: list[Example], mirror: bool, num: int = 200):
    pictures = encode_pictures(
        base, examples, lambda prompts, _: tokenize(base.tokenizer, prompts), mirror=mirror
    )
    chosen = picture_order(len(examples), num, generator())
    return pictures, chosen, draw_batch(pictures, chosen, generator(1))


def test_prompt_latents_and_mirror_image_are_drawn_anew_at_every_step(base: BaseModel) -> None:
    """The prior service drew each once per picture, for the whole run."""
    example = Example(image=noise_image(0), mask=None, prompts=("a dog", "a cat", "a bus"))
    pictures, _, batch = draw_many(base, [example], mirror=True)

    assert pictures.latent_means.shape[:2] == (1, 2)
    prompts = Counter(
        base.tokenizer.decode(ids, skip_special_tokens=True) for ids in batch.input_ids
    )
    assert prompts.keys() == {"a dog", "a cat", "a bus"}
    assert min(prompts.values()) > 40
    assert len(torch.unique(batch.latents.flatten(1), dim=0)) == 200
    distance = [(batch.latents - mean).abs().mean((1, 2, 3)) for mean in pictures.latent_means[0]]
    assert 60 < (distance[0] < distance[1]).sum() < 140


def test_without_mirroring_the_samples_have_the_vaes_mean_and_spread(base: BaseModel) -> None:
    example = Example(image=noise_image(0), mask=None, prompts=("a dog",))
    pictures, _, batch = draw_many(base, [example], mirror=False, num=4000)

    error = (batch.latents.mean(0) - pictures.latent_means[0, 0]).abs()
    assert (error < 5 * pictures.latent_stds[0, 0] / 4000**0.5).all()
    torch.testing.assert_close(batch.latents.std(0), pictures.latent_stds[0, 0], rtol=0.1, atol=0)


def test_a_picture_is_drawn_only_with_its_own_prompts_and_mask(base: BaseModel) -> None:
    mask = Image.new("L", (64, 64), 0)
    ImageDraw.Draw(mask).rectangle((0, 0, 31, 63), fill=255)
    examples = [
        Example(image=noise_image(0), mask=mask, prompts=("a dog",)),
        Example(image=noise_image(1), mask=None, prompts=("a cat", "a bus")),
    ]
    _, chosen, batch = draw_many(base, examples, mirror=False)

    texts = [base.tokenizer.decode(ids, skip_special_tokens=True) for ids in batch.input_ids]
    for picture, text, weight in zip(chosen.tolist(), texts, batch.loss_weight, strict=True):
        assert text in examples[picture].prompts
        assert weight[0, 0, 0] == (2 if picture == 0 else 1)
        assert weight[0, 0, -1] == (0 if picture == 0 else 1)


def test_the_mirror_image_has_the_mirrored_mask(base: BaseModel) -> None:
    mask = Image.linear_gradient("L").resize((64, 64)).rotate(90)
    example = Example(image=noise_image(0), mask=mask, prompts=("a dog",))
    pictures, _, batch = draw_many(base, [example], mirror=True)

    plain, mirrored = pictures.loss_weights[0]
    torch.testing.assert_close(mirrored, plain.flip(-1))
    means, _ = encode_images(base, [ImageOps.mirror(example.image)])
    torch.testing.assert_close(pictures.latent_means[0, 1], means[0], rtol=1e-4, atol=1e-5)

    distances = [(batch.latents - mean).abs().mean((1, 2, 3)) for mean in pictures.latent_means[0]]
    is_mirrored = distances[1] < distances[0]
    assert 60 < is_mirrored.sum() < 140
    assert torch.equal(batch.loss_weight[is_mirrored].unique(dim=0), mirrored[None])
    assert torch.equal(batch.loss_weight[~is_mirrored].unique(dim=0), plain[None])


def test_whose_prompts_are_too_long_is_told_by_the_pictures_numbers(
    base: BaseModel, caplog
) -> None:
    """Two share a prompt, so that prompts and pictures are not numbered alike."""
    long = "a " + 90 * "very " + "long telltale of {}"
    prompts = [("{} at sea",), ("{} at sea",), ("{} ashore", long), (f"{{}}, {long[:-3]}",)]
    examples = [
        Example(image=noise_image(seed), mask=None, prompts=ours)
        for seed, ours in enumerate(prompts)
    ]
    with new_words(base, ("<s1>",), generator()) as words:
        encode_pictures(base, examples, words.tokenize, mirror=False)

    told, put_in_front = [record.getMessage() for record in caplog.records]
    assert told.startswith("prompts: 2 of 4 cut off after the 75 tokens that")
    assert told.endswith("(pictures 3, 4, counted without the skipped ones)")
    assert put_in_front.endswith("put in front (picture 3, counted without the skipped ones)")
    assert "telltale" not in caplog.text


def test_several_pictures_have_mirror_images_each_its_own(base: BaseModel) -> None:
    examples = [
        Example(image=noise_image(seed), mask=None, prompts=("a dog",)) for seed in range(3)
    ]
    pictures, _, _ = draw_many(base, examples, mirror=True)

    images = [e.image for e in examples]
    for variant, wanted in enumerate((images, [ImageOps.mirror(image) for image in images])):
        means, stds = encode_images(base, wanted)
        torch.testing.assert_close(pictures.latent_means[:, variant], means, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(pictures.latent_stds[:, variant], stds, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_a_mask_weighs_one_on_average_however_small_the_subject(share: float) -> None:
    mask = Image.new("L", (64, 64), 0)
    ImageDraw.Draw(mask).rectangle((0, 0, 63, round(64 * share) - 1), fill=255)
    assert loss_weight(mask, 16, 16).mean().item() == pytest.approx(1)


def test_an_all_black_mask_counts_as_none() -> None:
    assert torch.equal(loss_weight(Image.new("L", (64, 64), 0), 16, 16), torch.ones(1, 16, 16))
