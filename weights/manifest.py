"""The base models that can be fetched: the only place with a repository, a revision, a licence."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class HubModel:
    """A Stable Diffusion in diffusers format on the Hugging Face hub.

    Attributes:
        revision: the commit; a name such as `main` could change under us.
        files: path on the hub -> path in our folder. Half-precision safetensors only: nothing here
            ever unpickles.
        card: what `training.json` beside the weights says: see training/base_model.py.
    """

    repository: str
    revision: str
    licence: str
    gigabytes: float
    files: dict[str, str]
    card: dict[str, object] = field(default_factory=dict)


FP16_FILES = {
    "model_index.json": "model_index.json",
    "scheduler/scheduler_config.json": "scheduler/scheduler_config.json",
    "text_encoder/config.json": "text_encoder/config.json",
    "text_encoder/model.fp16.safetensors": "text_encoder/model.safetensors",
    "tokenizer/merges.txt": "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json": "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer_config.json": "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json": "tokenizer/vocab.json",
    "unet/config.json": "unet/config.json",
    "unet/diffusion_pytorch_model.fp16.safetensors": "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json": "vae/config.json",
    "vae/diffusion_pytorch_model.fp16.safetensors": "vae/diffusion_pytorch_model.safetensors",
}

MODELS = {
    # runwayml's own repository is gone; this is the copy that the field uses.
    "stable-diffusion-v1-5": HubModel(
        repository="stable-diffusion-v1-5/stable-diffusion-v1-5",
        revision="451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
        licence="CreativeML OpenRAIL-M",
        gigabytes=2.1,
        files=FP16_FILES,
        card={
            "name": "stable-diffusion-v1-5",
            "resolution": {"native": 512, "smallest": 256, "largest": 1024, "step": 8},
            "placeholder_norm": 0.4,  # the prior service's; CLIP's own words: 0.385 on average
            "recommended": {},  # the form's defaults were chosen for it
        },
    ),
}
