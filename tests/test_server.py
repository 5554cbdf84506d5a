"""The real Cog server, started by script/serve: what callers send, and what they get."""

import functools
import http.server
import io
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from PIL import Image, ImageDraw

from cli.sampling import build_pipeline, sample
from tests.cog_server import CogServer, data_uri, output_bytes, serve, wait_for
from tests.lora_files import assert_same
from training.base_model import load_base_model
from training.compute import pick_compute
from training.formats import load, read_lora

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parent.parent
SMALL = {
    "task": "object",
    "resolution": 64,
    "max_train_steps_ti": 4,
    "max_train_steps_tuning": 4,
    "lora_rank": 2,
}
SECRET = "grandmother"


def zip_of(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, contents in files.items():
            archive.writestr(name, contents)
    return buffer.getvalue()


def picture(colour: str) -> bytes:
    image = Image.new("RGB", (96, 80), "white")
    ImageDraw.Draw(image).ellipse((10, 10, 70, 70), fill=colour)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


PHOTOS = zip_of(**{f"{SECRET}-{colour}.png": picture(colour) for colour in ("red", "blue", "teal")})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CogServer]:
    # A busy machine may take half an hour for the run that is to be cancelled.
    with serve(tmp_path_factory.mktemp("server"), MAX_TRAINING_MINUTES="600") as running:
        running.wait_until("READY")
        yield running


@pytest.fixture(scope="module")
def answer(server: CogServer) -> requests.Response:
    """The answer to a small but whole run."""
    return server.predict(
        instance_data=data_uri(PHOTOS), custom_prompts=f"a photo of my {SECRET}, {{}}", **SMALL
    )


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Of a web server that holds the zip under a name with a space."""
    (tmp_path / "my pictures.zip").write_bytes(PHOTOS)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{web.server_port}/my%20pictures.zip?token={SECRET}"
        web.shutdown()


# diffusers' scheduler converts a tensor as numpy 1 wanted it
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_zip_comes_back_as_a_file_that_changes_what_a_pipeline_draws(
    answer: requests.Response, tmp_path: Path
) -> None:
    assert answer.json()["status"] == "succeeded", answer.json()
    path = tmp_path / "lora.safetensors"
    path.write_bytes(output_bytes(answer))
    base = load_base_model(REPOSITORY / "weights/tiny", pick_compute())
    pipeline = build_pipeline(base)
    prompts, seeds = ["a photo of <s1><s2>"], [0]

    plain = sample(pipeline, base, prompts, seeds, resolution=64)
    load(pipeline, path)

    assert sample(pipeline, base, prompts, seeds, resolution=64) != plain


@pytest.mark.parametrize("output_format", ["kohya", "diffusers"])
def test_another_format_holds_the_very_same_training(
    server: CogServer, answer: requests.Response, tmp_path: Path, output_format: str
) -> None:
    (tmp_path / "default").write_bytes(output_bytes(answer))
    other = server.predict(
        instance_data=data_uri(PHOTOS),
        custom_prompts=f"a photo of my {SECRET}, {{}}",
        output_format=output_format,
        **SMALL,
    )
    (tmp_path / "other").write_bytes(output_bytes(other))

    stored = read_lora(tmp_path / "other")
    assert stored.output_format == output_format
    assert_same(stored.lora, read_lora(tmp_path / "default").lora)
    assert stored.lora.origin.base_model == "weights/tiny"
    assert (stored.lora.origin.num_pictures, stored.lora.origin.tuning_steps) == (3, 4)
    assert SECRET.encode() not in (tmp_path / "other").read_bytes()


def test_the_log_tells_the_settings_and_progress_but_nothing_of_the_callers(
    answer: requests.Response,
) -> None:
    logs = answer.json()["logs"]

    assert "learning rates: words 0.001, " in logs
    assert "tuning        4/4  loss" in logs
    assert SECRET not in logs


def test_figures_come_with_the_result(answer: requests.Response) -> None:
    metrics = answer.json()["metrics"]

    assert metrics["pictures"] == 3
    assert metrics["seconds"]["training"] > 0
    assert metrics["final_loss"]["tuning"] > 0


def test_the_same_zip_by_url_gives_the_same_bytes_named_after_the_zip(
    server: CogServer, answer: requests.Response, address: str
) -> None:
    whole_numbers = {**SMALL, "max_train_steps_ti": 4.0, "lora_rank": 2.0}

    again = server.predict(
        instance_data=address, custom_prompts=f"a photo of my {SECRET}, {{}}", **whole_numbers
    )

    assert output_bytes(again) == output_bytes(answer)
    assert SECRET not in again.json()["logs"]
    assert [path.name for path in server.files()] == ["my-pictures.safetensors"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("resolution", 2000),
        ("resolution", "large"),
        ("max_train_steps_ti", -1),
        ("max_train_steps_tuning", 3.5),
        ("learning_rate_ti", "5e-4"),
        ("learning_rate_unet", 1.5),
        ("task", "car"),
        ("lr_scheduler", "sometimes"),
        ("lora_rank", 0),
        ("seed", 2**31),
        ("custom_prompts", 5),
        ("instance_data", 5),
    ],
)
def test_a_value_that_the_form_does_not_allow_is_refused_at_once(
    server: CogServer, name: str, value: object
) -> None:
    refusal = server.predict(**{"instance_data": data_uri(PHOTOS), **SMALL, name: value})

    assert refusal.status_code == 422
    assert name in refusal.text


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"instance_data": data_uri(b"no zip at all")}, "zip"),
        ({"instance_data": data_uri(zip_of())}, "zip"),
        ({"instance_data": data_uri(zip_of(notes=b"some text"))}, "picture"),
        ({"instance_data": data_uri(PHOTOS[:-30])}, "zip"),
        ({"instance_data": "/etc/hostname"}, "https://"),
        ({"instance_data": ""}, "both instance_data and instance_data_urls are empty"),
        ({"instance_data": "", "instance_data_urls": "http://127.0.0.1:9/a.png"}, "address"),
        ({"instance_data_urls": "http://127.0.0.1:9/a.png"}, "address"),
        ({"instance_data_urls": "[1"}, "JSON"),
        ({}, "instance_data"),
        ({"instance_data": data_uri(PHOTOS), "resolution": 200}, "128"),
        ({"instance_data": data_uri(PHOTOS), "custom_prompts": '["{} asleep" '}, "custom_prompts"),
        (
            {
                "instance_data": data_uri(PHOTOS),
                "max_train_steps_ti": 0,
                "max_train_steps_tuning": 0,
            },
            "max_train_steps_ti",
        ),
    ],
)
def test_what_cannot_be_trained_on_fails_with_a_sentence_to_act_on(
    server: CogServer, inputs: dict[str, object], expected: str
) -> None:
    failure = server.predict(**{**SMALL, **inputs})

    assert failure.json()["status"] == "failed"
    sentence = failure.json()["error"].split("Error: ", 1)[1]
    assert expected in sentence
    assert sentence.endswith(".")
    for internal in ("Traceback", ".py", str(server.temporary), str(REPOSITORY), "/tmp"):
        assert internal not in sentence
    assert server.files() == []


def test_a_cancelled_run_stops_and_the_next_is_as_if_it_had_never_been(
    server: CogServer, answer: requests.Response
) -> None:
    inputs = {"instance_data": data_uri(PHOTOS), **SMALL}
    with ThreadPoolExecutor() as pool:
        cancelled = pool.submit(
            server.predict_as, "long-run", **{**inputs, "max_train_steps_tuning": 20_000}
        )
        server.wait_until("BUSY")
        wait_for(lambda: "tuning" in server.logs("long-run"), seconds=60)
        server.cancel("long-run")

        assert cancelled.result().json()["status"] == "canceled"
    assert server.files() == []
    again = server.predict(custom_prompts=f"a photo of my {SECRET}, {{}}", **inputs)
    assert output_bytes(again) == output_bytes(answer)


def test_another_server_makes_the_same_bytes_and_leaves_nothing_when_it_stops(
    answer: requests.Response, tmp_path: Path
) -> None:
    with serve(tmp_path) as other:
        other.wait_until("READY")
        again = other.predict(
            instance_data=data_uri(PHOTOS), custom_prompts=f"a photo of my {SECRET}, {{}}", **SMALL
        )

    assert output_bytes(again) == output_bytes(answer)
    assert other.files() == []


def test_without_its_base_model_the_server_says_what_to_run(tmp_path: Path) -> None:
    with serve(tmp_path, BASE_MODEL="weights/nowhere") as broken:
        broken.wait_until("SETUP_FAILED")

        assert "script/download-weights" in broken.health()["setup"]["logs"]
