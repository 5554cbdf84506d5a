"""Every example in docs/api.md, run as it stands there against the real server."""

import json
import re
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from preprocessing.share_links import direct_link
from tests.cog_server import CogServer, data_uri, free_port, serve, wait_for
from tests.conftest import REPOSITORY
from tests.page_examples import CHECK, RUN, Example, command, examples_in
from training.formats import FormatError, read_lora

PAGE = (REPOSITORY / "docs/api.md").read_text(encoding="utf-8")
NOT_RUN = re.compile(r"^\*Not run by our tests, .*: needs (.+?)\.\*", re.MULTILINE)
RUN_SECONDS = 120
PICTURES = REPOSITORY / "examples/penguin.zip"
SMALL = {"task": "object", "resolution": 64, "max_train_steps_ti": 4, "max_train_steps_tuning": 4}
LONG = {**SMALL, "max_train_steps_tuning": 5000}
EXAMPLES = examples_in(PAGE)
CODE = [example for example in EXAMPLES if example.language in RUN]
RUNS = [example for example in EXAMPLES if example.marker.partition(",")[0] == "run"]
ANSWERS = [example for example in EXAMPLES if example.marker.startswith("answers ")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CogServer]:
    with serve(tmp_path_factory.mktemp("server")) as running:
        running.wait_until("READY")
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the reader types."""
    folder = tmp_path_factory.mktemp("reader")
    shutil.copy(PICTURES, folder / "my-pictures.zip")
    return folder


@pytest.fixture(scope="module")
def changed(server: CogServer, folder: Path) -> Iterator[dict[str, str]]:
    """All that is changed in an example: ports, and where the zip is on the web."""
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        python_port, js_port = str(free_port()), str(free_port())
        yield {
            "localhost:5000": server.url.removeprefix("http://"),
            "localhost:8000": f"localhost:{python_port}",
            '("localhost", 8000)': f'("localhost", {python_port})',
            "localhost:8001": f"localhost:{js_port}",
            '(8001, "localhost")': f'({js_port}, "localhost")',
            "https://example.com/my-pictures.zip": f"http://127.0.0.1:{web.server_port}/my-pictures.zip",
        }
        web.shutdown()


@pytest.fixture(scope="module")
def receiver(changed: dict[str, str], folder: Path) -> Iterator[str]:
    """The page's own receiver, and its address."""
    (example,) = [example for example in EXAMPLES if example.marker == "stays up"]
    url = f"http://{changed['localhost:8000']}"
    with subprocess.Popen(command(example, RUN, folder, changed), cwd=folder) as process:
        wait_for(lambda: is_up(url), seconds=20)
        yield url
        process.terminate()


def is_up(url: str) -> bool:
    try:
        requests.get(url, timeout=5)
    except requests.ConnectionError:
        return False
    return True


def test_every_block_says_what_is_done_with_it() -> None:
    assert len(EXAMPLES) == len(re.findall("^```", PAGE, re.MULTILINE)) / 2
    kinds = Counter(re.split(r"[,: ] ?", example.marker)[0] for example in EXAMPLES)
    assert kinds == {"run": 10, "stays": 1, "answers": 3, "not": 5}


def test_what_is_not_run_is_counted_and_the_reader_is_told() -> None:
    needs = [
        example.marker.removeprefix("not run: needs ")
        for example in EXAMPLES
        if example.marker.startswith("not run")
    ]

    assert Counter(needs) == {"Replicate": 4, "the internet": 1}
    assert NOT_RUN.findall(PAGE) == needs


@pytest.mark.parametrize("example", CODE, ids=Example.name)
def test_the_syntax_is_right(example: Example, tmp_path: Path) -> None:
    subprocess.run(command(example, CHECK, tmp_path, {}), check=True)


@pytest.mark.slow
@pytest.mark.parametrize("example", RUNS, ids=Example.name)
def test_the_example_does_what_the_page_says(
    server: CogServer, receiver: str, changed: dict[str, str], folder: Path, example: Example
) -> None:
    files = [folder / name for name in example.words_after("makes")]
    for file in files:
        file.unlink(missing_ok=True)
    server.wait_until("READY")

    words = command(example, RUN, folder, changed)
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=RUN_SECONDS)

    assert done.returncode == 0, done.stderr
    for expected in example.words_after("prints"):
        assert expected in done.stdout
    for file in files:
        wait_for(partial(is_lora, file), seconds=60)
        origin = read_lora(file).lora.origin
        assert (origin.task, origin.resolution, origin.tuning_steps) == ("object", 64, 4)
    server.wait_until("READY")


def is_lora(file: Path) -> bool:
    try:
        read_lora(file)
    except (FileNotFoundError, FormatError):
        return False
    return True


@pytest.mark.slow
def test_the_receiver_ignores_who_does_not_know_the_word(receiver: str, folder: Path) -> None:
    forged = {"id": "forged", "status": "succeeded", "output": "data:,x"}

    assert requests.post(receiver, json=forged, timeout=20).status_code == 404
    assert not (folder / "forged.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize("example", ANSWERS, ids=Example.name)
def test_the_answers_shown_are_those_that_come(server: CogServer, example: Example) -> None:
    inputs = {"instance_data": data_uri(PICTURES.read_bytes()), **SMALL}
    inputs |= json.loads(example.marker.removeprefix("answers "))

    assert_alike(json.loads(example.code), server.predict(**inputs).json())


@pytest.mark.slow
def test_who_waits_for_a_failure_gets_the_sentence_and_no_log(server: CogServer) -> None:
    """As Cog 0.23.1 has it; when it hands the log on, the page need not send people elsewhere."""
    failure = server.predict(**SMALL, instance_data=data_uri(b"no zip")).json()

    assert "neither a zip nor a picture" in failure["error"]
    assert failure["logs"] == ""


def assert_alike(shown: object, real: object) -> None:
    """The same, but for keys that are not shown, figures, and what follows "..."."""
    if isinstance(shown, dict):
        assert isinstance(real, dict)
        for key, value in shown.items():
            assert_alike(value, real[key])
    elif isinstance(shown, list):
        assert isinstance(real, list)
        assert len(shown) == len(real)
        for one, other in zip(shown, real, strict=True):
            assert_alike(one, other)
    elif isinstance(shown, str) and shown.endswith("..."):
        assert isinstance(real, str)
        assert real.startswith(shown.removesuffix("..."))
    elif isinstance(shown, str):
        assert shown == real
    else:
        assert isinstance(real, int | float)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "body", "media_type"),
    [
        (400, b"{bad", "application/json"),
        (415, b'{"input": {}}', "text/plain"),
        (413, b" " * 101 * 2**20, "application/json"),
        (422, b'{"input": {"seed": null}}', "application/json"),
        (422, b'{"input": {"learning_rate_ti": "5e-4"}}', "application/json"),
    ],
)
def test_a_request_that_is_wrong_gets_the_status_in_the_table(
    server: CogServer, status: int, body: bytes, media_type: str
) -> None:
    answer = requests.post(
        f"{server.url}/predictions", data=body, headers={"Content-Type": media_type}, timeout=60
    )

    assert answer.status_code == status
    assert re.search(rf"^\| [\d, ]*{status}\b", PAGE, re.MULTILINE)


@pytest.mark.slow
def test_while_it_trains_it_answers_409_and_who_hangs_up_stops_the_training(
    server: CogServer,
) -> None:
    body = {"input": {"instance_data": data_uri(PICTURES.read_bytes()), **LONG}}
    ask = partial(requests.post, f"{server.url}/predictions", json=body)
    start = partial(requests.put, f"{server.url}/predictions/busy", json=body)

    started = until_free(lambda: start(headers={"Prefer": "respond-async"}, timeout=20))
    assert started.status_code == 202
    assert ask(timeout=20).status_code == 409
    # Cog 0.23.1 sometimes loses a cancellation while it still unpacks the request itself.
    wait_for(lambda: "inversion" in server.logs("busy"), seconds=60)
    assert server.cancel("busy").status_code == 200
    server.wait_until("READY")

    with pytest.raises(requests.ReadTimeout):
        until_free(lambda: ask(timeout=3))
    wait_for(lambda: server.health()["status"] == "READY", seconds=20)


def until_free(ask: Callable[[], requests.Response]) -> requests.Response:
    """A slot is busy for an instant after each run."""
    while (answer := ask()).status_code == 409:
        time.sleep(0.1)
    return answer


def test_both_forms_of_a_google_drive_link_lead_to_the_same_file() -> None:
    links = re.findall(r"https://drive\.google\.com/[^\s\"'`]*1AbC[^\s\"'`]*(?=[\"'])", PAGE)

    assert {"/view?" in link for link in links} == {True, False}
    (target,) = {direct_link(link) for link in links}
    assert "1AbCdEfGhIjKlMnOpQrStUvWxYz01234" in target
