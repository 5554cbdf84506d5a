"""Fetching a base model: the real client, and a hub on loopback that serves the embedded base."""

import dataclasses
import hashlib
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.conftest import REPOSITORY, TINY
from tests.hub import Hub, Repository, serve
from training.base_model import load_base_model
from training.compute import pick_compute
from weights.folder import CHECKSUMS, check_complete
from weights.manifest import HubFile, HubModel

pytestmark = pytest.mark.slow  # a process each

BIG = "unet/diffusion_pytorch_model.fp16.safetensors"
TOKEN = "hf_a_token_of_somebody"
LIMIT_FILE_SIZE = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000,) * 2)\n"


def on_hub(path: str) -> str:
    """The hub calls half precision by its name."""
    return path.replace(".safetensors", ".fp16.safetensors")


FILES = {
    on_hub(str(path.relative_to(TINY))): path.read_bytes()
    for part in ("scheduler", "text_encoder", "tokenizer", "unet", "vae")
    for path in sorted((TINY / part).iterdir())
}
MODEL = HubModel(
    name="small-diffusion",
    repository="somebody/small-diffusion",
    revision="0123456789abcdef0123456789abcdef01234567",
    licence="a licence",
    width=128,
    files={
        path: HubFile(
            path=path.replace(".fp16.", "."),
            size=len(contents),
            sha256=hashlib.sha256(contents).hexdigest(),
        )
        for path, contents in FILES.items()
    },
    card={
        "resolution": {"native": 64, "smallest": 64, "largest": 128, "step": 16},
        "placeholder_norm": 1.25,
    },
)


def pinning(hub_path: str, contents: bytes) -> HubModel:
    """The model, with another file at one path."""
    file = dataclasses.replace(
        MODEL.files[hub_path], size=len(contents), sha256=hashlib.sha256(contents).hexdigest()
    )
    return dataclasses.replace(MODEL, files=MODEL.files | {hub_path: file})


@pytest.fixture
def hub() -> Iterator[Hub]:
    repository = Repository(name=MODEL.repository, revision=MODEL.revision, files=dict(FILES))
    with serve(repository) as hub:
        yield hub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "weights" / MODEL.name


def run_download(
    address: str, folder: Path, *, model: HubModel = MODEL, before: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the client reads its environment when it is imported."""
    code = (
        f"{before}import json, sys\nfrom pathlib import Path\n"
        "from cli.download_weights import set_up_logging\n"
        "from weights.download import download\nfrom weights.folder import WeightsError\n"
        "from weights.manifest import HubFile, HubModel\n"
        "set_up_logging()\n"
        "fields = json.loads(sys.argv[1])\n"
        "fields['files'] = {p: HubFile(**f) for p, f in fields['files'].items()}\n"
        "try: download(HubModel(**fields), Path(sys.argv[2]))\n"
        "except WeightsError as error: sys.exit(str(error))\n"
    )
    home = str(folder.parent / "home")
    client = {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_HOME": home, "HF_TOKEN": TOKEN}
    variables = os.environ | client | environment
    command = [sys.executable, "-c", code, json.dumps(dataclasses.asdict(model)), str(folder)]
    return subprocess.run(
        command, cwd=REPOSITORY, env=variables, capture_output=True, text=True, timeout=100
    )


def last_line(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr.splitlines()[-1]


def test_what_was_fetched_is_a_whole_base_model(hub: Hub, folder: Path) -> None:
    result = run_download(hub.address, folder)

    assert result.returncode == 0, result.stderr
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    ours = {"model_index.json", "training.json", CHECKSUMS}
    assert found == {file.path for file in MODEL.files.values()} | ours
    check_complete(folder)
    base = load_base_model(folder, pick_compute())
    assert (base.card.name, base.card.resolution.native) == (MODEL.name, 64)
    numbers = [line.split()[0] for line in result.stdout.splitlines()]
    assert numbers == [f"{n}/{len(FILES)}" for n in range(1, len(FILES) + 1)]


def test_a_lost_connection_is_taken_up_where_it_broke(hub: Hub, folder: Path) -> None:
    """What arrived in whole blocks of the client's is kept; a block is 10 MiB."""
    block = constants.DOWNLOAD_CHUNK_SIZE
    contents = random.Random(0).randbytes(2 * block)
    model = pinning(BIG, contents)
    hub.repository.files[BIG] = contents
    hub.repository.cut_after[BIG] = block + block // 2

    first = run_download(hub.address, folder, model=model)

    assert "the connection to the hub failed" in last_line(first)
    assert "it goes on where it stopped" in last_line(first)
    assert not folder.exists()
    assert (BIG, block) in hub.repository.ranges  # the client itself tried again, some times
    fetched = {path for path, _ in hub.repository.ranges}
    hub.repository.cut_after.clear()
    hub.repository.ranges.clear()
    assert run_download(hub.address, folder, model=model).returncode == 0
    first_bytes = dict(hub.repository.ranges)
    assert first_bytes[BIG] == block
    assert first_bytes.keys() == FILES.keys() - fetched | {BIG}
    check_complete(folder)


def test_a_process_that_was_killed_loses_nothing(hub: Hub, folder: Path) -> None:
    """It leaves half a file, as a cut of power would."""
    unfinished = folder.with_name(f"{folder.name}.partial") / "unet"
    unfinished.mkdir(parents=True)
    half = len(FILES[BIG]) // 2
    name = "diffusion_pytorch_model.safetensors.unfinished"
    (unfinished / name).write_bytes(FILES[BIG][:half])

    assert run_download(hub.address, folder).returncode == 0

    assert (BIG, half) in hub.repository.ranges
    check_complete(folder)


@pytest.mark.parametrize("ending", [".unfinished", ""])
def test_what_is_there_already_is_begun_anew(hub: Hub, folder: Path, ending: str) -> None:
    unet = folder.with_name(f"{folder.name}.partial") / "unet"
    unet.mkdir(parents=True)
    (unet / f"diffusion_pytorch_model.safetensors{ending}").write_bytes(FILES[BIG] + b"more")

    result = run_download(hub.address, folder)

    assert result.returncode == 0, result.stderr
    check_complete(folder)


def test_other_contents_than_the_pinned_are_thrown_away(hub: Hub, folder: Path) -> None:
    hub.repository.served[BIG] = bytes(len(FILES[BIG]))

    result = run_download(hub.address, folder)

    assert f"{BIG} came with other contents than the manifest pins" in last_line(result)
    assert not folder.exists()
    hub.repository.served.clear()
    hub.repository.ranges.clear()
    assert run_download(hub.address, folder).returncode == 0
    assert (BIG, 0) in hub.repository.ranges  # anew, nothing of the bad one is kept


def test_another_size_than_the_pinned_is_not_even_fetched(hub: Hub, folder: Path) -> None:
    hub.repository.files[BIG] = FILES[BIG] + b"more"

    message = last_line(run_download(hub.address, folder))

    size = len(FILES[BIG])
    assert f"with {size + 4} bytes, and the manifest pins {size}" in message
    assert BIG not in dict(hub.repository.ranges)


def test_a_file_that_the_hub_no_longer_has(hub: Hub, folder: Path) -> None:
    del hub.repository.files["vae/config.json"]

    message = last_line(run_download(hub.address, folder))

    assert "The hub no longer has all of small-diffusion at the revision" in message
    assert "--from" in message


@pytest.mark.parametrize(
    "refusal", [(401, "GatedRepo"), (403, "GatedRepo"), (401, "RepoNotFound"), (403, "")]
)
def test_a_licence_that_must_be_accepted_first(
    hub: Hub, folder: Path, refusal: tuple[int, str]
) -> None:
    hub.repository.refusal = refusal

    message = last_line(run_download(hub.address, folder))

    assert "its licence must be accepted first" in message
    assert f"Log in at {hub.address}/{MODEL.repository}" in message
    assert "HF_TOKEN" in message
    assert TOKEN not in message


def test_a_hub_that_is_out_of_order(hub: Hub, folder: Path) -> None:
    hub.repository.refusal = (500, "")

    message = last_line(run_download(hub.address, folder))

    assert "the connection to the hub failed (it answered with status 500)" in message


def test_no_hub_at_all(folder: Path) -> None:
    message = last_line(run_download("http://127.0.0.1:9", folder))

    assert "the connection to the hub failed (ConnectError)" in message


def test_a_redirect_without_end(hub: Hub, folder: Path) -> None:
    hub.repository.is_circle = True

    message = last_line(run_download(hub.address, folder))

    assert "the connection to the hub failed (TooManyRedirects)" in message


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "carrier-pigeon://127.0.0.1"])
def test_a_proxy_that_cannot_be_used(hub: Hub, folder: Path, proxy: str) -> None:
    message = last_line(run_download(hub.address, folder, ALL_PROXY=proxy, NO_PROXY=""))

    assert "HTTP_PROXY, HTTPS_PROXY and ALL_PROXY must name an http:// proxy" in message


@pytest.mark.parametrize("file", ["/nowhere/certificates.pem", __file__])
def test_certificates_that_cannot_be_used(hub: Hub, folder: Path, file: str) -> None:
    result = run_download(hub.address, folder, SSL_CERT_FILE=file)
    assert "SSL_CERT_FILE a file of certificates" in last_line(result)


def test_a_machine_that_is_told_to_stay_offline(hub: Hub, folder: Path) -> None:
    message = last_line(run_download(hub.address, folder, HF_HUB_OFFLINE="1"))

    assert message.startswith("HF_HUB_OFFLINE is set")


def test_a_disk_that_is_full_on_the_way(hub: Hub, folder: Path) -> None:
    """The system refuses to write past 100 kB in one file, as it does when no block is left."""
    result = run_download(hub.address, folder, before=LIMIT_FILE_SIZE)

    assert "could not be written: the disk is full" in last_line(result)
    assert not folder.exists()
    assert run_download(hub.address, folder).returncode == 0
    check_complete(folder)


def test_a_disk_that_is_too_small_is_noticed_before_the_first_byte(hub: Hub, folder: Path) -> None:
    enormous = dataclasses.replace(
        MODEL, files={BIG: dataclasses.replace(MODEL.files[BIG], size=10**18)}
    )

    message = last_line(run_download(hub.address, folder, model=enormous))

    assert re.search(r"needs 1000000000\.0 GB more, and the disk has [\d.]+ GB left", message)
    assert hub.repository.ranges == []


def test_a_folder_that_may_not_be_written(hub: Hub, folder: Path) -> None:
    folder.parent.write_text("a file where the folder should be", encoding="utf-8")

    message = last_line(run_download(hub.address, folder))

    assert "small-diffusion could not be written: " in message
    assert "Mend that" in message


def test_the_token_goes_to_the_hub_and_nowhere_else(hub: Hub, folder: Path) -> None:
    assert run_download(hub.address, folder).returncode == 0

    at_hub = {token for path, token in hub.repository.tokens if path.startswith("/somebody")}
    elsewhere = {token for path, token in hub.repository.tokens if path.startswith("/elsewhere")}
    assert (at_hub, elsewhere) == ({f"Bearer {TOKEN}"}, {None})
