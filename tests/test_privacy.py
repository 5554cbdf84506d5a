"""Nothing of anyone's stays: sets full of tell-tale words go through the real server."""

import json
import os
import subprocess
import sys
import time
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from benchmarks.soak import working_files
from tests.cog_server import REPOSITORY, CogServer, data_uri, serve, wait_for
from tests.loopback import Answer, Server, running_server
from tests.outgoing import watch_outgoing
from tests.pictures import photo, zip_of
from tests.telltales import telling_zip, word, words_below, words_in
from tests.test_cog_yaml import environment as image_environment

pytestmark = pytest.mark.slow

SHORT = {"task": "object", "resolution": 64, "max_train_steps_ti": 2, "max_train_steps_tuning": 2}


@dataclass
class Visit:
    """What people asked one server for, and what could be seen of it.

    Attributes:
        answers: name of the prediction -> its answer.
        left: the same -> files in the temporary folder once it had ended.
        words_left: the same -> path below that folder -> places whose words stand there.
        modes: permissions of all that was in that folder while the last one ran.
        written: files of the repository that were changed meanwhile and hold a word.
        log: all that the server printed.
        attempts: to reach anything but this machine.
    """

    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    left: dict[str, list[Path]] = field(default_factory=dict)
    words_left: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    modes: dict[Path, int] = field(default_factory=dict)
    folders: set[Path] = field(default_factory=set)
    written: list[Path] = field(default_factory=list)
    log: bytes = b""
    attempts: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Visit:
    """The server runs with the image's own environment, where that decides what is printed."""
    temporary, log = tmp_path_factory.mktemp("server"), tmp_path_factory.mktemp("log") / "log"
    image = {"COG_LOG_LEVEL": "info", **image_environment()}  # Cog's own level, script/serve's not
    del image["BASE_MODEL"]
    seen, start = Visit(), time.time()
    with running_server() as web, watch_outgoing(tmp_path_factory.mktemp("watch")) as outgoing:
        with (
            log.open("wb") as file,
            serve(temporary, file, **image, **outgoing.environment) as server,
        ):
            server.wait_until("READY")
            ask_for_all(seen, server, web)
        seen.attempts = outgoing.attempts()
    seen.log = log.read_bytes()
    changed = [path for path in working_files(REPOSITORY) if path.stat().st_mtime >= start]
    seen.written = [path for path in changed if words_in(path.read_bytes() + path.name.encode())]
    return seen


def ask_for_all(seen: Visit, server: CogServer, web: Server) -> None:
    address = offer(web, "", Answer((telling_zip(),)))
    missing = offer(web, "missing-", Answer(status=404))
    large = zip_of(*((f"{number}.jpg", photo(number)) for number in range(20)))
    broken = Answer((large[:30_000],), headers={"Content-Length": str(len(large))})
    no_zip = offer(web, "no-", Answer((word("document").encode(),)))
    picture = f"{word('picture')}.png?token={word('picture query')}"
    archive = data_uri(telling_zip())
    requests_by_name: dict[str, dict[str, object]] = {
        "captions": {"instance_data": address},
        "prompts": {"instance_data": archive, "custom_prompts": f"a {word('prompts')} by {{}}"},
        "missing zip": {"instance_data": missing},
        "after it": {"instance_data": archive},
        "broken download": {"instance_data": offer(web, "broken-", broken)},
        "after that": {"instance_data": archive},
        "no zip": {"instance_data": no_zip},
        "no address": {"instance_data": f"{word('bad address')}.zip"},
        "private address": {
            "instance_data_urls": f"http://127.0.0.1:9/{word('picture address')}/{picture}"
        },
        "odd addresses": {"instance_data_urls": f"gopher://{word('bad address')} ftp:{picture}"},
        "wrong prompts": {
            "instance_data": archive,
            "custom_prompts": f'["{{}} {word("wrong prompts")}" ',
        },
        "no value": {"instance_data": archive, "task": word("value")},
        "unknown input": {"instance_data": archive, word("unknown input"): word("value")},
    }
    for name, inputs in requests_by_name.items():
        answer = server.predict(**{**SHORT, **inputs})
        server.wait_until("READY")
        note(seen, server, name, answer)
    cancel_one(seen, server, {**SHORT, "instance_data": address, "max_train_steps_tuning": 5000})


def offer(web: Server, prefix: str, answer: Answer) -> str:
    path = f"/{word('address folder')}/{prefix}{word('archive')}.zip"
    return f"{web.offer(path, answer)}?token={word('address query')}"


def note(seen: Visit, server: CogServer, name: str, answer: requests.Response) -> None:
    seen.answers[name] = answer.json()
    seen.left[name] = server.files()
    seen.words_left[name] = words_below(server.temporary)


def cancel_one(seen: Visit, server: CogServer, inputs: dict[str, object]) -> None:
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(server.predict_as, "cancelled", **inputs)
        server.wait_until("BUSY")
        wait_for(lambda: "inversion" in server.logs("cancelled"), seconds=60)
        paths = list(server.temporary.rglob("*"))
        seen.modes = {path: path.stat().st_mode & 0o777 for path in paths}
        seen.folders = {path for path in paths if path.is_dir()}
        server.cancel("cancelled")
        answer.result()
    server.wait_until("READY")
    note(seen, server, "cancelled", answer.result())


def test_everything_ended_as_it_should(visit: Visit) -> None:
    """Else the tests below would prove nothing."""
    ends = {name: answer.get("status", "refused") for name, answer in visit.answers.items()}

    good = ("captions", "prompts", "after it", "after that", "unknown input")
    failed = ("missing zip", "broken download", "no zip", "no address", "private address")
    assert ends == {
        **dict.fromkeys(good, "succeeded"),
        **dict.fromkeys((*failed, "odd addresses", "wrong prompts"), "failed"),
        "no value": "refused",
        "cancelled": "canceled",
    }
    logs = visit.answers["captions"]["logs"]
    for sign in ("text file", "table", "file name", "damaged", "75 tokens"):
        assert sign in logs


def test_no_word_of_theirs_is_in_the_servers_log(visit: Visit) -> None:
    assert b"Setup complete" in visit.log  # else it went elsewhere
    assert [line for line in visit.log.splitlines() if words_in(line)] == []


def test_a_server_of_ones_own_logs_neither_addresses_nor_misspelt_inputs(tmp_path: Path) -> None:
    """With the levels that script/serve sets, and not with the image's as above."""
    log = tmp_path / "log"
    with log.open("wb") as file, serve(tmp_path, file) as server:
        server.wait_until("READY")
        missing = f"http://127.0.0.1:9/{word('archive')}.zip?token={word('address query')}"
        server.predict(**{**SHORT, word("unknown input"): 1, "instance_data": missing})

    assert b"base model weights/tiny" in log.read_bytes()  # else it went elsewhere
    assert words_in(log.read_bytes()) == []


def test_no_word_of_theirs_is_in_a_predictions_log_or_figures(visit: Visit) -> None:
    for answer in visit.answers.values():
        told = {name: answer.get(name) for name in ("logs", "metrics")}
        assert words_in(json.dumps(told).encode()) == []


def test_what_went_wrong_is_told_without_their_words(visit: Visit) -> None:
    """But for what Cog says itself, to the caller alone: the value that the form does not allow."""
    told = [name for name, answer in visit.answers.items() if words_in(error_of(answer))]

    assert told == ["no value"]


def error_of(answer: dict[str, Any]) -> bytes:
    return json.dumps([answer.get("error"), answer.get("detail")]).encode()


@pytest.mark.parametrize("name", ["captions", "prompts"])
def test_no_word_of_theirs_is_in_the_file_that_comes_back(visit: Visit, name: str) -> None:
    assert words_in(b64decode(visit.answers[name]["output"].partition(",")[2])) == []


@pytest.mark.parametrize("name", ["captions", "prompts", "after it", "after that", "unknown input"])
def test_after_a_success_the_finished_file_is_all_that_is_left(visit: Visit, name: str) -> None:
    (left,) = visit.left[name]

    assert left.suffix == ".safetensors"
    # Its name is that of the zip, which is what people want of a download.
    assert all(places == ["archive"] for places in visit.words_left[name].values())


@pytest.mark.parametrize(
    "name",
    [
        *("no zip", "missing zip", "broken download", "no address", "private address"),
        *("odd addresses", "wrong prompts", "cancelled"),
    ],
)
def test_after_a_failure_and_a_cancellation_nothing_is_left(visit: Visit, name: str) -> None:
    assert visit.left[name] == []
    assert visit.words_left[name] == {}


def test_while_it_runs_nobody_else_can_look_into_its_files(visit: Visit) -> None:
    for path, mode in visit.modes.items():
        assert mode == (0o700 if path in visit.folders else 0o600), path


def test_the_last_result_is_gone_when_the_next_run_begins(visit: Visit) -> None:
    assert [path.suffix for path in visit.left["unknown input"]] == [".safetensors"]
    assert [path for path in visit.modes if path.suffix == ".safetensors"] == []


def test_nothing_of_theirs_is_in_the_working_folder(visit: Visit) -> None:
    """Which is the repository; what other programs keep in hidden folders is not the server's."""
    assert visit.written == []


def test_the_server_reaches_for_nothing_beyond_this_machine(visit: Visit) -> None:
    assert visit.attempts == []


@pytest.mark.parametrize(
    "attempt",
    [
        "import requests; requests.post('http://192.0.2.1/collect')",
        "import socket; socket.getaddrinfo('telemetry.invalid', 443)",
        "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'hello', ('192.0.2.1', 9))",
    ],
)
def test_such_an_attempt_would_have_been_seen(tmp_path: Path, attempt: str) -> None:
    with watch_outgoing(tmp_path) as outgoing:
        command = [sys.executable, "-c", attempt]
        environment = {**os.environ, **outgoing.environment}
        subprocess.run(command, env=environment, capture_output=True, timeout=60)

    assert len(outgoing.attempts()) == 1


def test_the_image_switches_off_what_its_libraries_would_report() -> None:
    switches = image_environment()

    assert switches["HF_HUB_OFFLINE"] == "1"  # the hub's client then asks nobody at all
    assert switches["HF_HUB_DISABLE_TELEMETRY"] == "1"
