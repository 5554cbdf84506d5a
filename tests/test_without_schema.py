"""The server with nothing to check inputs against: whatever arrives is checked again."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cog_server import CogServer, data_uri, free_port, output_bytes
from tests.conftest import REPOSITORY
from tests.test_server import PHOTOS, SMALL

pytestmark = pytest.mark.slow

NEEDED = ("predict.py", "preprocessing", "service", "training", "weights")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CogServer]:
    """Cog's server in a folder without .cog/openapi_schema.json."""
    folder, temporary = tmp_path_factory.mktemp("bare"), tmp_path_factory.mktemp("temporary")
    for name in NEEDED:
        (folder / name).symlink_to(REPOSITORY / name)
    port = free_port()
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PORT": str(port),
        "TMPDIR": str(temporary),
        "OMP_NUM_THREADS": "1",
        "COG_PREDICT_TYPE_STUB": "predict.py:Predictor",
        "COG_LOG_LEVEL": "warn",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }
    command = [sys.executable, "-m", "cog.server.http", "--host", "127.0.0.1"]
    process = subprocess.Popen(command, cwd=folder, env=environment)
    running = CogServer(f"http://127.0.0.1:{port}", temporary)
    running.wait_until("READY")
    yield running
    process.terminate()
    process.wait(timeout=20)


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({}, "No pictures: both instance_data and instance_data_urls are empty."),
        ({"instance_data": "/etc/hostname"}, "instance_data is neither an uploaded file nor"),
        ({"lora_rank": "abc"}, "lora_rank must be a whole number from 1 to 128; got 'abc'."),
        ({"lora_rank": -5}, "lora_rank must be a whole number from 1 to 128; got -5."),
        ({"seed": 2.5}, "seed must be a whole number"),
        ({"task": "car"}, "task must be one of face, object, style, location; got 'car'."),
        (
            {"output_format": "ckpt"},
            "output_format must be one of lora_diffusion, kohya",
        ),
        ({"save_precision": 16}, "save_precision must be one of fp16, bf16, fp32; got 16."),
        ({"learning_rate_unet": "fast"}, "learning_rate_unet must be a number from 0 to 1"),
        ({"custom_prompts": ["a", "b"]}, "custom_prompts must be a text; got list."),
    ],
)
def test_what_cannot_be_meant_fails_with_a_sentence(
    server: CogServer, inputs: dict[str, object], sentence: str
) -> None:
    photos = {"instance_data": data_uri(PHOTOS), **SMALL} if inputs else {"resolution": 64}
    answer = server.predict(**(photos | inputs)).json()

    assert answer["status"] == "failed"
    assert sentence in answer["error"]
    assert server.files() == []


def test_whole_numbers_written_as_fractions_and_left_out_inputs_are_understood(
    server: CogServer,
) -> None:
    numbers = {n: float(v) if isinstance(v, int) else v for n, v in SMALL.items()}
    answer = server.predict(instance_data=data_uri(PHOTOS), learning_rate_unet=0, **numbers)
    assert len(output_bytes(answer)) > 10_000
