"""Files out: three formats that hold the same, down to the bit, and say where it is from."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import get_args

import pytest
import torch

from tests.conftest import REPOSITORY
from tests.lora_files import (
    ORIGIN,
    assert_same,
    contents,
    numbered_tensors,
    recorded_order,
    sd15_lora,
    write_raw,
)
from training.formats import FORMATS, PRECISIONS, FormatError, read_lora, write_lora
from training.formats.textual_inversion import write_embeddings
from training.settings import OutputFormat, SavePrecision
from training.trained_lora import LoraPair

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lora.safetensors"


def test_the_form_offers_what_can_be_written() -> None:
    assert get_args(OutputFormat) == tuple(FORMATS)
    assert get_args(SavePrecision) == tuple(PRECISIONS)


@pytest.mark.parametrize(("first", "second"), [*product(FORMATS, FORMATS)])
def test_every_format_becomes_every_other_without_loss(path: Path, first: str, second: str) -> None:
    lora = sd15_lora()

    write_lora(lora, path, first)
    stored = read_lora(path)
    assert (stored.output_format, stored.save_precision) == (first, "fp16")
    write_lora(stored.lora, path, second, stored.save_precision)
    write_lora(read_lora(path).lora, path, first)

    assert_same(read_lora(path).lora, lora)


@pytest.mark.parametrize(("output_format", "precision"), [*product(FORMATS, DTYPES)])
def test_the_matrices_have_the_asked_precision_and_the_words_full_precision(
    path: Path, output_format: str, precision: str
) -> None:
    lora = sd15_lora(dtype=DTYPES[precision])

    write_lora(lora, path, output_format, precision)

    tensors, _ = contents(path)
    words = {name for name in tensors if "<s" in name or "bundle" in name}
    assert {tensors[name].dtype for name in tensors.keys() - words} == {DTYPES[precision]}
    assert all(tensors[name].dtype == torch.float32 for name in words)
    stored = read_lora(path)
    assert stored.save_precision == precision
    assert_same(stored.lora, lora)


@pytest.mark.parametrize("output_format", FORMATS)
def test_a_file_says_where_it_is_from_and_how_to_use_it(path: Path, output_format: str) -> None:
    write_lora(sd15_lora(), path, output_format)

    tensors, metadata = contents(path)
    assert metadata["vana.trigger"] == "<s1><s2>"
    assert json.loads(metadata["vana.origin"])["seed"] == 3
    assert read_lora(path).lora.origin == ORIGIN
    # The hash is that of the tensors as they lie in the file.
    whole = path.read_bytes()
    data = whole[8 + int.from_bytes(whole[:8], "little") :]
    assert hashlib.sha256(data).hexdigest() in {
        value.removeprefix("0x") for value in metadata.values()
    }
    assert sum(tensor.numel() * tensor.itemsize for tensor in tensors.values()) == len(data)


@pytest.mark.slow
def test_equal_loras_give_equal_bytes_in_any_process(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from tests.lora_files import sd15_lora\nfrom training.formats import FORMATS, write_lora\n"
        "for name in FORMATS: write_lora(sd15_lora(), Path(sys.argv[1]) / name, name)\n"
    )
    (tmp_path / "there").mkdir()
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-c", code, str(tmp_path / "there")]
    subprocess.run(command, cwd=REPOSITORY, env=environment, check=True)

    for name in FORMATS:
        write_lora(sd15_lora(), tmp_path / "here", name)
        assert (tmp_path / "here").read_bytes() == (tmp_path / "there" / name).read_bytes()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("has_words", [True, False])
@pytest.mark.parametrize("is_later_order", [False, True])
def test_old_files_are_read_in_both_module_orders(
    path: Path, dtype: torch.dtype, has_words: bool, is_later_order: bool
) -> None:
    lora = sd15_lora(rank=1, dtype=dtype)
    lora = lora if has_words else replace(lora, embeddings={})
    order = [layer.path for layer in recorded_order("unet")]
    if is_later_order:  # diffusers since 0.15 meets ff last in each block of nine
        order = [
            p
            for i in range(0, 144, 9)
            for p in (*order[i : i + 4], *order[i + 5 : i + 9], order[i + 4])
        ]
    write_raw(path, *numbered_tensors(lora, order, dtype))

    stored = read_lora(path)

    assert (stored.output_format, stored.save_precision) == (
        "lora_diffusion",
        "fp16" if dtype == torch.float16 else "fp32",
    )
    assert_same(replace(stored.lora, origin=ORIGIN), lora)


def test_a_mixed_up_order_is_noticed(path: Path) -> None:
    lora = sd15_lora()
    order = [layer.path for layer in recorded_order("unet")]
    write_raw(path, *numbered_tensors(lora, order[1:] + order[:1], torch.float16))

    with pytest.raises(FormatError, match="unknown order"):
        read_lora(path)


def test_kohya_files_of_others_are_read_whatever_their_alpha(path: Path) -> None:
    lora = sd15_lora(embeddings={})
    write_lora(lora, path, "kohya")
    tensors, _ = contents(path)
    halved = {n: t / 2 if n.endswith(".alpha") else t for n, t in tensors.items()}
    without = {n: t for n, t in tensors.items() if not n.endswith(".alpha")}
    flat = {n.replace("lora_te_text_model_", "lora_te1_"): t for n, t in tensors.items()}

    for variant, factor in ((halved, 0.5), (without, 1), (flat, 1)):
        read = read_lora(write_raw(path, variant, {"ss_network_dim": "4"})).lora
        for path_of_layer, pair in lora.unet.items():
            assert torch.equal(read.unet[path_of_layer].down, pair.down)
            assert torch.equal(read.unet[path_of_layer].up, pair.up * factor)
        assert read.text_encoder.keys() == lora.text_encoder.keys()


def test_a_bundled_embedding_is_the_words_row_by_row(path: Path) -> None:
    """No reader of ours would notice: the metadata hold them too, and we read those."""
    lora = sd15_lora()
    wanted = torch.stack(list(lora.embeddings.values()))

    write_lora(lora, path, "kohya")
    write_embeddings(lora, path.with_name("words.safetensors"))

    assert torch.equal(contents(path)[0]["bundle_emb.s1s2.string_to_param.*"], wanted)
    assert torch.equal(contents(path.with_name("words.safetensors"))[0]["emb_params"], wanted)


def test_a_bundled_embedding_of_another_program_is_read_row_by_row(path: Path) -> None:
    write_lora(sd15_lora(), path, "kohya")
    tensors, _ = contents(path)
    rows = tensors["bundle_emb.s1s2.string_to_param.*"]

    read = read_lora(write_raw(path, tensors, {})).lora

    assert list(read.embeddings) == ["<s1s2-1>", "<s1s2-2>"]
    assert torch.equal(torch.stack(list(read.embeddings.values())), rows)


def test_an_alpha_that_halves_no_number_exactly_is_kept_in_full_precision(path: Path) -> None:
    write_lora(sd15_lora(rank=3), path, "kohya")
    tensors, metadata = contents(path)
    ones = {n: torch.ones_like(t) if n.endswith(".alpha") else t for n, t in tensors.items()}

    stored = read_lora(write_raw(path, ones, metadata))

    assert stored.save_precision == "fp32"
    write_lora(stored.lora, path, "diffusers", stored.save_precision)
    assert_same(read_lora(path).lora, stored.lora)


def test_layers_that_numbers_cannot_tell_are_refused_by_the_numbered_format(path: Path) -> None:
    lora = sd15_lora()
    attention = {p: pair for p, pair in lora.unet.items() if "ff" not in p}
    some_text = {p: pair for p, pair in lora.text_encoder.items() if "k_proj" not in p}
    later_text = {p: pair for p, pair in lora.text_encoder.items() if ".layers.0." not in p}
    for partial in (
        replace(lora, unet=attention),
        replace(lora, unet=dict(list(lora.unet.items())[9:])),
        replace(lora, text_encoder=some_text),
        replace(lora, text_encoder=later_text),
    ):
        with pytest.raises(FormatError, match="cannot leave any out: use kohya or diffusers"):
            write_lora(partial, path)
        for output_format in ("kohya", "diffusers"):
            write_lora(partial, path, output_format)
            assert_same(read_lora(path).lora, partial)


def test_each_part_of_a_file_of_others_has_an_alpha_of_its_own(path: Path) -> None:
    lora = sd15_lora(embeddings={})
    write_lora(lora, path, "diffusers")
    adapters = {"unet.lora_alpha": 8, "text_encoder.lora_alpha": 2}

    read = read_lora(
        write_raw(path, contents(path)[0], {"lora_adapter_metadata": json.dumps(adapters)})
    ).lora

    for part, factor in (("unet", 2), ("text_encoder", 0.5)):
        for layer, pair in getattr(lora, part).items():
            assert torch.equal(getattr(read, part)[layer].up, factor * pair.up)


def test_a_lora_of_one_part_only_is_written_and_read(path: Path) -> None:
    for part, output_format in product(("unet", "text_encoder"), FORMATS):
        changes: dict[str, object] = {part: {}}
        lora = replace(sd15_lora(), **changes)  # type: ignore[arg-type]
        write_lora(lora, path, output_format)
        assert_same(read_lora(path).lora, lora)


def test_no_date_unless_it_is_asked_for(path: Path) -> None:
    write_lora(sd15_lora(), path, "kohya")
    assert not any("date" in name for name in contents(path)[1])
    write_lora(sd15_lora(origin=replace(ORIGIN, date="2026-11-22T00:00:00+00:00")), path, "kohya")
    assert contents(path)[1]["modelspec.date"] == "2026-11-22T00:00:00+00:00"


def test_kohyas_metadata_says_what_its_readers_show(path: Path) -> None:
    write_lora(sd15_lora(), path, "kohya")
    _, metadata = contents(path)
    shown = {
        name: value for name, value in metadata.items() if name.startswith(("ss_", "modelspec."))
    }
    digest = shown.pop("modelspec.hash_sha256").removeprefix("0x")
    assert metadata["sshs_model_hash"] == digest
    assert shown == {
        "ss_base_model_version": "sd_v1",
        "ss_v2": "False",
        "ss_network_module": "networks.lora",
        "ss_network_dim": "4",
        "ss_network_alpha": "4.0",
        "ss_network_args": "{}",
        "ss_sd_model_name": "stable-diffusion-v1-5",
        "ss_unet_lr": "0.0004",
        "ss_text_encoder_lr": "2e-05",
        "ss_lr_scheduler": "constant",
        "ss_num_train_images": "12",
        "ss_steps": "700",
        "ss_seed": "3",
        "ss_resolution": "(512, 512)",
        "ss_tag_frequency": '{"vana": {"s1s2": 12}}',
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": "Face LoRA by vana-lora-training",
        "modelspec.resolution": "512x512",
        "modelspec.prediction_type": "epsilon",
        "modelspec.trigger_phrase": "s1s2",
        "modelspec.usage_hint": "Write s1s2 where the subject's name would stand.",
    }


def test_numbers_that_the_file_cannot_hold_are_refused(tmp_path: Path) -> None:
    lora = sd15_lora()
    layer, pair = next(iter(lora.unet.items()))
    huge = replace(lora, unet=lora.unet | {layer: LoraPair(pair.down, pair.up + 1e6)})
    for output_format in FORMATS:
        with pytest.raises(FormatError, match="numbers too large for fp16"):
            write_lora(huge, tmp_path / "lora.safetensors", output_format)
    assert list(tmp_path.iterdir()) == []
    lost = replace(lora, embeddings={"<s1>": torch.full((768,), torch.nan)})
    with pytest.raises(FormatError, match="numbers too large"):
        write_lora(lost, tmp_path / "lora.safetensors", "diffusers")
    write_lora(huge, tmp_path / "lora.safetensors", "kohya", "bf16")  # reaches further than fp16


def test_a_full_or_read_only_folder_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        write_lora(sd15_lora(), tmp_path / "missing" / "lora.safetensors")
    (tmp_path / "lora.safetensors").mkdir()
    with pytest.raises(OSError, match=r"lora\.safetensors"):
        write_lora(sd15_lora(), tmp_path / "lora.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["lora.safetensors"]
