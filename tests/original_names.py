"""The way back: diffusers' names of layers -> those of the first Stable Diffusion's checkpoints."""

import re

import torch
from torch import Tensor, nn

from tests.models import SmallModel

LAYERS_PER_BLOCK = 2  # in all of Stable Diffusion's UNets
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
VAE_ATTENTION = {
    "group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out",
}  # fmt: skip
VAE_MIDDLE = {
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.attentions.0": "mid.attn_1",
    "mid_block.resnets.1": "mid.block_2",
    "conv_norm_out": "norm_out",
}
OPEN_CLIP_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def original_checkpoint(model: SmallModel, *, is_version_2: bool) -> dict[str, Tensor]:
    """All of the model as one checkpoint, with what real ones hold beside it."""
    text = open_clip(model.text_encoder) if is_version_2 else clip(model.text_encoder)
    return {
        **{f"model.diffusion_model.{unet_name(n)}": t for n, t in tensors(model.unet).items()},
        **{f"first_stage_model.{vae_name(n)}": vae_tensor(n, t) for n, t in vae_tensors(model)},
        **{f"cond_stage_model.{name}": tensor for name, tensor in text.items()},
        "alphas_cumprod": torch.linspace(1, 0, 1000),
    }


def tensors(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.contiguous() for name, tensor in module.state_dict().items()}


def renamed(name: str, names: dict[str, str]) -> str:
    for ours, theirs in names.items():
        name = re.sub(rf"(^|\.){re.escape(ours)}(?=\.|$)", rf"\g<1>{theirs}", name)
    return name


def unet_name(name: str) -> str:
    """Numbered through: the input, then each block's layers and what halves or doubles the size."""
    per_block = LAYERS_PER_BLOCK + 1
    if found := re.match(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.*)", name):
        way, block, kind, index, rest = found.groups()
        is_resnet = kind == "resnets"
        position = int(block) * per_block
        if kind == "downsamplers":
            return f"input_blocks.{position + per_block}.0.op.{rest.removeprefix('conv.')}"
        if kind == "upsamplers":
            place = 1 if block == "0" else 2  # after the attention, where there is one
            return f"output_blocks.{position + LAYERS_PER_BLOCK}.{place}.{rest}"
        side, first = ("input_blocks", 1) if way == "down" else ("output_blocks", 0)
        inner = renamed(rest, RESNET) if is_resnet else rest
        return f"{side}.{position + first + int(index)}.{0 if is_resnet else 1}.{inner}"
    if name.startswith("mid_block.resnets"):
        return renamed(renamed(name, UNET), RESNET)
    return renamed(name, UNET)


def vae_tensors(model: SmallModel) -> list[tuple[str, Tensor]]:
    return list(tensors(model.vae).items())


def vae_name(name: str) -> str:
    """The decoder's blocks are counted from the picture, so the first in diffusers is the last."""
    last = 3
    name = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(
        r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"up.{last - int(m[1])}.block.{m[2]}", name
    )
    name = re.sub(
        r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{last - int(m[1])}.upsample", name
    )
    if "attentions" in name:
        name = renamed(name, VAE_ATTENTION)
    return renamed(renamed(name, VAE_MIDDLE), {"conv_shortcut": "nin_shortcut"})


def vae_tensor(name: str, tensor: Tensor) -> Tensor:
    """Its attention was made of convolutions of one pixel."""
    is_matrix = "attentions" in name and tensor.ndim == 2
    return tensor[:, :, None, None] if is_matrix else tensor


def clip(text_encoder: nn.Module) -> dict[str, Tensor]:
    prefix = "transformer.text_model."
    names = {prefix + n.removeprefix("text_model."): t for n, t in tensors(text_encoder).items()}
    return names | {f"{prefix}embeddings.position_ids": torch.arange(77)[None]}


def open_clip(text_encoder: nn.Module) -> dict[str, Tensor]:
    """Query, key and value are one matrix; a last layer follows that nobody uses."""
    state = {n.removeprefix("text_model."): t for n, t in tensors(text_encoder).items()}
    width = state["final_layer_norm.weight"].shape[0]
    result = {
        "model.token_embedding.weight": state.pop("embeddings.token_embedding.weight"),
        "model.positional_embedding": state.pop("embeddings.position_embedding.weight"),
        "model.ln_final.weight": state.pop("final_layer_norm.weight"),
        "model.ln_final.bias": state.pop("final_layer_norm.bias"),
        "model.text_projection": torch.eye(width),
        "model.logit_scale": torch.tensor(1.0),
    }
    for name, tensor in state.items():
        layer, rest = re.fullmatch(r"encoder\.layers\.(\d+)\.(.*)", name).groups()  # type: ignore[union-attr]
        block = f"model.transformer.resblocks.{layer}"
        if found := re.fullmatch(r"self_attn\.q_proj\.(weight|bias)", rest):
            one = [state[name.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            result[f"{block}.attn.in_proj_{found[1]}"] = torch.cat(one)
        elif not re.match(r"self_attn\.[kv]_proj", rest):
            result[f"{block}.{renamed(rest, OPEN_CLIP_LAYER)}"] = tensor
    unused = {n: t for n, t in result.items() if n.startswith("model.transformer.resblocks.1.")}
    return result | {n.replace("blocks.1.", "blocks.23."): t.clone() for n, t in unused.items()}
