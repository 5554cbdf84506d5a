"""The base model's download: the real client, and a hub on loopback that serves the tiny base."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, TINY
from training.base_model import load_base_model
from training.compute import pick_compute
from weights.manifest import MODELS

MODEL = MODELS["stable-diffusion-v1-5"]


class Hub(ThreadingHTTPServer):
    """Answers as the hub does for one revision of one repository."""

    missing: str = ""

    def contents(self, path: str) -> bytes | None:
        prefix = f"/{MODEL.repository}/resolve/{MODEL.revision}/"
        hub_path = path.removeprefix(prefix)
        if not path.startswith(prefix) or hub_path == self.missing:
            return None
        local = TINY / MODEL.files.get(hub_path, "-")
        if local.name == "special_tokens_map.json":
            return b"{}"
        return local.read_bytes() if local.is_file() else None


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.wfile.write(self.answer())

    def answer(self) -> bytes:
        contents = self.server.contents(self.path)
        self.send_response(404 if contents is None else 200)
        if contents is not None:
            self.send_header("ETag", f'"{hashlib.sha256(contents).hexdigest()}"')
            self.send_header("X-Repo-Commit", MODEL.revision)
        else:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("Content-Length", str(len(contents or b"")))
        self.end_headers()
        return contents or b""

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def run_download(hub: Hub, destination: Path) -> subprocess.CompletedProcess[str]:
    code = (
        "import sys\nfrom pathlib import Path\nfrom weights.download import *\n"
        "try: download('stable-diffusion-v1-5', Path(sys.argv[1]))\n"
        "except DownloadFailedError as error: sys.exit(str(error))\n"
    )
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(destination.parent / "cache"),
    }
    command = [sys.executable, "-c", code, str(destination)]
    return subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=100
    )


@pytest.mark.slow
def test_what_was_fetched_is_a_base_model_that_loads(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "stable-diffusion-v1-5"

    result = run_download(hub, folder)

    assert result.returncode == 0, result.stderr
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {*MODEL.files.values(), "training.json"}
    base = load_base_model(folder, pick_compute())
    assert base.card.resolution.native == 512
    assert json.loads((folder / "training.json").read_text()) == MODEL.card


@pytest.mark.slow
def test_a_download_that_fails_says_so_and_goes_on_the_next_time(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "stable-diffusion-v1-5"
    hub.missing = "vae/diffusion_pytorch_model.fp16.safetensors"

    result = run_download(hub, folder)

    assert result.returncode == 1
    assert "could not be fetched" in result.stderr
    assert "run this again" in result.stderr
    assert not folder.exists()
    hub.missing = ""
    assert run_download(hub, folder).returncode == 0
    assert folder.is_dir()
