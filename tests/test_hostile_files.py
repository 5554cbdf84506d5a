"""LoRA files that are damaged or malicious: one clear sentence each, and nothing else."""

import json
import pickle
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import REPOSITORY
from tests.lora_files import Layer, lora_for, refusal, sd15_lora, write_raw
from training.formats import FORMATS, FormatError, read_lora, write_lora
from training.formats.file import MAX_HEADER_BYTES
from training.formats.layers import STABLE_DIFFUSION_UNET, text_encoder_paths


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lora.safetensors"


def header(entries: dict[str, object], length: int | None = None) -> bytes:
    text = json.dumps(entries).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text


def test_a_file_cut_off_anywhere_is_refused(path: Path) -> None:
    write_lora(sd15_lora(rank=1), path)
    whole = path.read_bytes()
    for length in (0, 1, 7, 8, 9, 1000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "not a whole one" in refusal(path)
    path.write_bytes(whole + b"\0")
    assert "not a whole one" in refusal(path)


@pytest.mark.parametrize(
    "contents",
    [
        b"\xff" * 100,
        b"{}",
        b"<html>not found</html>",
        header({}, length=2**63),
        header({}, length=MAX_HEADER_BYTES + 1),
        header({"x": {"dtype": "F16", "shape": [2**62, 4], "data_offsets": [0, 8]}}) + bytes(8),
        header({"x": {"dtype": "F16", "shape": [4], "data_offsets": [0, 2**40]}}) + bytes(8),
        header({"x": {"dtype": "F16", "shape": [-4], "data_offsets": [0, 8]}}) + bytes(8),
        header({"x": {"dtype": "F99", "shape": [4], "data_offsets": [0, 8]}}) + bytes(8),
        header({"x": {"dtype": "F16", "shape": [4], "data_offsets": [8, 0]}}) + bytes(8),
        header({"__metadata__": {"a": 1}}),
        b"\x08\0\0\0\0\0\0\0[[[[[[[[",
    ],
    ids=lambda contents: contents[:60].hex()[:40],
)
def test_bytes_that_are_no_safetensors_file_are_refused(path: Path, contents: bytes) -> None:
    path.write_bytes(contents)
    assert "This is no safetensors file" in refusal(path)


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.write_text, (self.target, "it ran")


def test_a_pickle_under_another_name_is_never_opened(tmp_path: Path, path: Path) -> None:
    for protocol in (2, 4, 5):
        path.write_bytes(pickle.dumps(Bomb(tmp_path / "ran"), protocol))
        assert "pickled PyTorch file" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:  # what torch.save writes
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb(tmp_path / "ran")))
    assert "pickled PyTorch file" in refusal(path)
    torch.save({"x": torch.zeros(3)}, path)
    assert "Save it as .safetensors" in refusal(path)
    assert not (tmp_path / "ran").exists()


def test_a_genuine_header_may_begin_as_a_pickle_does(path: Path) -> None:
    """Its length comes first: 0x20280 in little-endian begins with the bytes 80 02."""
    lora = sd15_lora(rank=1, embeddings={})
    write_lora(lora, path, "kohya")
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    for wanted in (0x20280, 0x20380, 0x20480, 0x20580):
        padding = b" " * (wanted - length)
        path.write_bytes(
            wanted.to_bytes(8, "little") + whole[8 : 8 + length] + padding + whole[8 + length :]
        )
        assert len(read_lora(path).lora.unet) == 144


def test_other_safetensors_files_are_named_for_what_they_hold(path: Path) -> None:
    write_raw(path, {"model.diffusion_model.input_blocks.0.0.weight": torch.ones(1)}, {})
    assert "'model.diffusion_model.input_blocks" in refusal(path)
    write_raw(path, {"emb_params": torch.ones(2, 768)}, {})
    assert "its tensors begin with 'emb_params'" in refusal(path)
    path.write_bytes(header({}))
    assert "none at all" in refusal(path)


@pytest.mark.slow
def test_a_large_lie_takes_no_memory(path: Path) -> None:
    """A header that claims 1 TiB, and a sparse file as long as 100 GiB."""
    entry = {"dtype": "F16", "shape": [2**39], "data_offsets": [0, 2**40]}
    for length in (4096, 100 << 30):
        path.write_bytes(header({"unet:0:up": entry}))
        with path.open("ab") as file:
            file.truncate(length)
        code = (
            "import sys\nfrom pathlib import Path\n"
            "from training.formats import FormatError, read_lora\n"
            "try: read_lora(Path(sys.argv[1]))\nexcept FormatError as error: print(error)\n"
        )
        told = subprocess.run(
            [sys.executable, "-c", code, str(path)],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30)),
        )
        assert "MiB are read" in told.stdout or "no safetensors file" in told.stdout


@pytest.fixture(scope="module")
def small_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("files")
    unet = [
        Layer(path, 32 if path.endswith("proj") else 4, 4) for path in STABLE_DIFFUSION_UNET[:9]
    ]
    lora = lora_for(unet, [Layer(path, 4, 4) for path in text_encoder_paths(1)], rank=1)
    for name in FORMATS:
        write_lora(lora, folder / name, name)
    return {name: (folder / name).read_bytes() for name in FORMATS}


@pytest.mark.slow
@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(name=st.sampled_from(list(FORMATS)), data=st.data())
def test_any_damage_ends_in_a_lora_or_in_a_sentence(
    small_files: dict[str, bytes], tmp_path: Path, name: str, data: st.DataObject
) -> None:
    damaged = bytearray(small_files[name])
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(damaged) - 1))
        damaged[position] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([len(damaged), len(damaged), data.draw(st.integers(0, 4000))]))
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(bytes(damaged[:cut]))
    try:
        lora = read_lora(path).lora
    except FormatError as error:
        answer = str(error)
    else:
        answer = "a LoRA"
        assert all(pair.up.isfinite().all() for pair in lora.unet.values())
    assert answer
    assert "\n" not in answer
