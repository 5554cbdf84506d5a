"""The schema that the server checks inputs against, input by input."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.schema import build_schema

REPOSITORY = Path(__file__).parent.parent
SCHEMAS = build_schema()["components"]["schemas"]
PROPERTIES = SCHEMAS["Input"]["properties"]

FILE = {"type": "string", "format": "uri", "default": None, "nullable": True}
TEXT = {"type": "string", "default": None, "nullable": True}


def whole(default: int, smallest: int, largest: int) -> dict[str, object]:
    return {"type": "integer", "default": default, "minimum": smallest, "maximum": largest}


def rate(default: float) -> dict[str, object]:
    return {"type": "number", "default": default, "minimum": 0, "maximum": 1}


def choice(name: str, default: str) -> dict[str, object]:
    return {"allOf": [{"$ref": f"#/components/schemas/{name}"}], "default": default}


# The prior service's names, order and defaults, then ours.
WANTED = {
    "instance_data": FILE,
    "instance_data_urls": TEXT,
    "custom_prompts": TEXT,
    "task": choice("task", "face"),
    "resolution": whole(512, 64, 1024),
    "max_train_steps_ti": whole(700, 0, 20_000),
    "max_train_steps_tuning": whole(700, 0, 20_000),
    "learning_rate_text": rate(1e-5),
    "learning_rate_ti": rate(5e-4),
    "learning_rate_unet": rate(2e-4),
    "lr_scheduler": choice("lr_scheduler", "constant"),
    "lora_rank": whole(16, 1, 128),
    "seed": whole(0, 0, 2_147_483_647),
    "output_format": choice("output_format", "lora_diffusion"),
    "save_precision": choice("save_precision", "fp16"),
}


@pytest.mark.parametrize("name", WANTED)
def test_an_input_has_the_promised_type_default_and_limits(name: str) -> None:
    shown = {
        key: value
        for key, value in PROPERTIES[name].items()
        if key not in ("title", "description", "x-order")
    }

    assert shown == WANTED[name]


def test_the_inputs_come_in_the_promised_order() -> None:
    assert [PROPERTIES[name]["x-order"] for name in WANTED] == list(range(len(WANTED)))
    assert PROPERTIES.keys() == WANTED.keys()


def test_no_input_is_required_because_photos_come_as_a_zip_or_by_url() -> None:
    assert "required" not in SCHEMAS["Input"]


def test_every_input_says_what_it_is_for() -> None:
    for name in WANTED:
        assert PROPERTIES[name]["description"]


def test_the_choices_are_the_promised_ones() -> None:
    assert SCHEMAS["task"]["enum"] == ["face", "object", "style", "location"]
    assert SCHEMAS["lr_scheduler"]["enum"] == [
        "linear",
        "cosine",
        "cosine_with_restarts",
        "polynomial",
        "constant",
        "constant_with_warmup",
    ]


def test_one_file_comes_back() -> None:
    assert SCHEMAS["Output"] == {"type": "string", "format": "uri", "title": "Output"}


@pytest.mark.slow
def test_the_schema_is_written_where_the_server_looks_for_it(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    subprocess.run(
        [sys.executable, "-m", "cli", "schema"], cwd=tmp_path, env=environment, check=True
    )

    written = json.loads((tmp_path / ".cog/openapi_schema.json").read_text(encoding="utf-8"))

    assert written == build_schema()
