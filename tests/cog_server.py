"""The real Cog server, started as a person would, and what a client says to it."""

import base64
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import requests

REPOSITORY = Path(__file__).parent.parent
START_SECONDS = 120
ANSWER_SECONDS = 120
STOP_SECONDS = 20


@dataclass(frozen=True)
class CogServer:
    """A running server.

    Attributes:
        temporary: the only folder it may use for temporary files.
    """

    url: str
    temporary: Path

    def predict(self, **inputs: object) -> requests.Response:
        """Wait for the result. A slot is busy for an instant after each reply: 409, ask again."""
        return self._until_free("POST", "/predictions", {"input": inputs})

    def predict_as(self, name: str, **inputs: object) -> requests.Response:
        """As `predict`, and others can ask about it, and cancel it, by this name."""
        return self._until_free("PUT", f"/predictions/{name}", {"input": inputs})

    def logs(self, name: str) -> str:
        """What a prediction has said so far. It must be running: otherwise this starts another."""
        answer = requests.put(
            f"{self.url}/predictions/{name}", json={"input": {}}, timeout=ANSWER_SECONDS
        )
        logs: str = answer.json().get("logs", "")
        return logs

    def cancel(self, name: str) -> requests.Response:
        return requests.post(f"{self.url}/predictions/{name}/cancel", timeout=ANSWER_SECONDS)

    def health(self) -> dict[str, Any]:
        answer = requests.get(f"{self.url}/health-check", timeout=ANSWER_SECONDS)
        health: dict[str, Any] = answer.json()
        return health

    def wait_until(self, status: str) -> None:
        """Raises: TimeoutError."""
        wait_for(lambda: self._is_up() and self.health()["status"] == status, START_SECONDS)

    def _is_up(self) -> bool:
        try:
            self.health()
        except requests.ConnectionError:
            return False
        return True

    def files(self) -> list[Path]:
        """What lies in the temporary folder now."""
        return sorted(path for path in self.temporary.rglob("*") if path.is_file())

    def _until_free(self, method: str, path: str, body: dict[str, Any]) -> requests.Response:
        while True:
            answer = requests.request(method, self.url + path, json=body, timeout=ANSWER_SECONDS)
            if answer.status_code != 409:
                return answer
            time.sleep(0.1)


@contextmanager
def serve(temporary: Path, log: IO[bytes] | None = None, **environment: str) -> Iterator[CogServer]:
    """`script/serve` on a free port; its temporary files go to `temporary`, its output to `log`."""
    port = free_port()
    variables = {"PORT": str(port), "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [REPOSITORY / "script/serve"],
        env={**os.environ, **variables, **environment},
        start_new_session=True,
        stdout=log,
        stderr=log,
    )
    try:
        yield CogServer(f"http://127.0.0.1:{port}", temporary)
    finally:
        process.terminate()
        try:
            process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise


def wait_for(is_true: Callable[[], bool], seconds: float) -> None:
    """Raises: TimeoutError."""
    deadline = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"It did not happen in {seconds:.0f} seconds.")
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def data_uri(contents: bytes, media_type: str = "application/zip") -> str:
    return f"data:{media_type};base64,{base64.b64encode(contents).decode()}"


def output_bytes(answer: requests.Response) -> bytes:
    """The file that came back."""
    output = answer.json()["output"]
    assert output.startswith("data:"), output[:100]
    return base64.b64decode(output.split(",", 1)[1])
