"""LoRA files that are whole and contradict their format: each is told what is wrong with it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.lora_files import contents, refusal, sd15_lora, write_raw
from training.formats import write_lora

QUERY = "unet:0"
XL_LAYER = "down_blocks.1.attentions.0.transformer_blocks.1.attn1.to_q"
Spoil = Callable[[dict[str, Tensor], dict[str, str]], object]


def replace_with(name: str, tensor: Tensor) -> Spoil:
    return lambda tensors, metadata: tensors.update({name: tensor})


def without(name: str) -> Spoil:
    return lambda tensors, metadata: tensors.__delitem__(name)


def say(name: str, text: str) -> Spoil:
    return lambda tensors, metadata: metadata.update({name: text})


SPOILED: dict[str, tuple[str, Spoil, str]] = {
    "nan": ("lora_diffusion", replace_with(f"{QUERY}:up", torch.full((320, 4), torch.nan)), "NaN"),
    "integers": (
        "lora_diffusion",
        replace_with(f"{QUERY}:up", torch.zeros(320, 4, dtype=torch.int64)),
        "int64 numbers; read are float16",
    ),
    "other rank": (
        "lora_diffusion",
        replace_with(f"{QUERY}:up", torch.zeros(320, 3)),
        "contradicts itself",
    ),
    "ranks differ": (
        "kohya",
        lambda tensors, metadata: tensors.update(
            {
                "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight": torch.ones(
                    2, 768
                ),
                "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight": torch.ones(
                    768, 2
                ),
            }
        ),
        "have the ranks [2, 4]",
    ),
    "no rank": (
        "lora_diffusion",
        lambda tensors, metadata: tensors.update(
            {f"{QUERY}:up": torch.zeros(320, 0), f"{QUERY}:down": torch.zeros(0, 320)}
        ),
        "contradicts itself",
    ),
    "convolution": (
        "lora_diffusion",
        replace_with(f"{QUERY}:up", torch.zeros(320, 4, 1, 1)),
        "no convolutions",
    ),
    "one matrix": ("lora_diffusion", without(f"{QUERY}:up"), "'unet:0' has no up matrix"),
    "hole": (
        "lora_diffusion",
        lambda tensors, metadata: [tensors.pop(f"{QUERY}:{side}") for side in ("up", "down")],
        "it has no unet:0",
    ),
    "143 layers": (
        "lora_diffusion",
        lambda tensors, metadata: [tensors.pop(f"unet:143:{side}") for side in ("up", "down")],
        "has 143 unet layers",
    ),
    "stranger": ("lora_diffusion", replace_with("extra", torch.ones(1)), "'extra'"),
    "word in integers": (
        "lora_diffusion",
        replace_with("<s1>", torch.zeros(768, dtype=torch.int32)),
        "The word '<s1>'",
    ),
    "two vectors": (
        "lora_diffusion",
        replace_with("<s1>", torch.zeros(2, 768)),
        "has 2 vectors; one is expected",
    ),
    "widths differ": ("lora_diffusion", replace_with("<s1>", torch.zeros(4)), "[4, 768] numbers"),
    "word that is a name": (
        "kohya",
        say("vana.embeddings", '{"unet":{"dtype":"F32","shape":[1],"data":"AAAAAA=="}}'),
        "calls a word 'unet'",
    ),
    "word that is no word": (
        "kohya",
        say("vana.embeddings", '{"\\ud800":{"dtype":"F32","shape":[1],"data":"AAAAAA=="}}'),
        "which no prompt can hold",
    ),
    "nan in the metadata": (
        "kohya",
        say("vana.embeddings", '{"<s1>":{"dtype":"F32","shape":[1],"data":"AADAfw=="}}'),
        "the word '<s1>' has no vector",
    ),
    "eight-bit floats": (
        "lora_diffusion",
        replace_with(f"{QUERY}:up", torch.zeros(320, 4).to(torch.float8_e4m3fn)),
        "float8_e4m3fn numbers; read are",
    ),
    "infinite alpha": (
        "kohya",
        lambda tensors, metadata: tensors.update(
            {
                "lora_te_text_model_encoder_layers_0_self_attn_q_proj.alpha": torch.tensor(3e38),
                "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight": torch.full(
                    (768, 4), 6e4
                ),
            }
        ),
        "too large for its numbers",
    ),
    "a layer twice": (
        "diffusers",
        lambda tensors, metadata: tensors.update(
            {
                name.replace("text_model.", ""): tensor.clone()
                for name, tensor in list(tensors.items())
                if "layers.0.self_attn.q_proj" in name
            }
        ),
        "'text_model.encoder.layers.0.self_attn.q_proj' twice",
    ),
    "rank-stabilised": (
        "diffusers",
        say("lora_adapter_metadata", '{"unet.use_rslora": true}'),
        "alphas cannot be used",
    ),
    "word is gone": ("lora_diffusion", without("<s1>"), "the word '<s1>' has no vector"),
    "names of layers": ("lora_diffusion", say("vana.unet_layers", '["a"]'), "no list of layers"),
    "nested metadata": ("kohya", say("vana.embeddings", "[" * 100_000), "is no JSON"),
    "short vector": (
        "kohya",
        say("vana.embeddings", '{"<s1>":{"dtype":"F32","shape":[768],"data":"AAAA"}}'),
        "the word '<s1>' has no vector",
    ),
    "endless vector": (
        "kohya",
        say("vana.embeddings", '{"<s1>":{"dtype":"F32","shape":[99999999999],"data":""}}'),
        "the word '<s1>' has no vector",
    ),
    "origin": ("kohya", say("vana.origin", '{"seed":[1]}'), "says seed is [1]"),
    "number for a word": ("kohya", say("vana.origin", '{"task":1}'), "says task is 1."),
    "word for a number": ("kohya", say("vana.origin", '{"seed":"1"}'), "says seed is '1'."),
    "true for a number": ("kohya", say("vana.origin", '{"seed":true}'), "says seed is True."),
    "endless number": (
        "kohya",
        say("vana.origin", '{"learning_rate_ti":1e999}'),
        "says learning_rate_ti is inf.",
    ),
    "half a character": ("kohya", say("vana.origin", r'{"task":"\ud800"}'), r"task is '\ud800'."),
    "orders to a terminal": (
        "kohya",
        say("vana.origin", r'{"base_model":"\u001b[2J"}'),
        r"base_model is '\x1b[2J'.",
    ),
    "alpha": (
        "kohya",
        replace_with(
            "lora_te_text_model_encoder_layers_0_self_attn_q_proj.alpha", torch.tensor(-1.0)
        ),
        "alpha that is no positive number",
    ),
    "complex alpha": (
        "kohya",
        replace_with(
            "lora_te_text_model_encoder_layers_0_self_attn_q_proj.alpha", torch.tensor(4 + 1j)
        ),
        "alpha that is no positive number",
    ),
    "other layer": (
        "kohya",
        lambda tensors, metadata: tensors.update(
            {
                "lora_unet_conv_in.lora_down.weight": torch.ones(4, 4),
                "lora_unet_conv_in.lora_up.weight": torch.ones(4, 4),
            }
        ),
        "'lora_unet_conv_in'",
    ),
    "XL": (  # in the names of PEFT, which say nothing else of the base model
        "diffusers",
        lambda tensors, metadata: tensors.update(
            {
                f"unet.{XL_LAYER}.lora_A.weight": torch.ones(4, 640),
                f"unet.{XL_LAYER}.lora_B.weight": torch.ones(640, 4),
            }
        ),
        f"the UNet's layer '{XL_LAYER}'. Read are LoRAs of the attention layers",
    ),
    "LoHa": ("kohya", replace_with("lora_unet_x.hada_w1_a", torch.ones(1)), "no LoHa"),
    "alpha pattern": (
        "diffusers",
        say("lora_adapter_metadata", '{"unet.alpha_pattern": {"to_q": 2}}'),
        "alphas cannot be used",
    ),
    "adapter metadata": ("diffusers", say("lora_adapter_metadata", "[]"), "no JSON object"),
}


@pytest.mark.parametrize("what", SPOILED)
def test_a_file_that_contradicts_its_format_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "lora.safetensors"
    output_format, spoil, answer = SPOILED[what]
    write_lora(sd15_lora(), path, output_format)
    tensors, metadata = contents(path)
    spoil(tensors, metadata)
    write_raw(path, tensors, metadata)
    assert answer in refusal(path)
