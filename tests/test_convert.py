"""`script/convert`, as it is typed."""

import os
import subprocess
from pathlib import Path

import pytest
import torch

from cli.convert import main
from tests.conftest import REPOSITORY
from tests.disk import full_disk
from tests.lora_files import (
    assert_same,
    contents,
    numbered_tensors,
    recorded_order,
    sd15_lora,
    write_raw,
)
from tests.pictures import encode, noise, write, zip_of
from tests.pipes import run_unread
from training.formats import read_lora, write_lora


def convert(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(REPOSITORY / "script" / "convert"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_an_old_file_goes_to_every_format_and_comes_back(tmp_path: Path) -> None:
    lora = sd15_lora(rank=1)
    order = [layer.path for layer in recorded_order("unet")]
    write_raw(tmp_path / "old.safetensors", *numbered_tensors(lora, order, torch.float16))

    told = convert(tmp_path, "old.safetensors", "a.safetensors")
    assert told.returncode == 0, told.stderr
    assert "lora_diffusion, fp16, rank 1: 144 layers of the UNet, 48 of the" in told.stdout
    assert "words: <s1><s2> (in AUTOMATIC1111: s1s2)" in told.stdout
    assert read_lora(tmp_path / "a.safetensors").output_format == "kohya"
    assert convert(tmp_path, "a.safetensors", "b.safetensors", "--format=diffusers").returncode == 0
    assert (
        convert(tmp_path, "b.safetensors", "c.safetensors", "--format=lora_diffusion").returncode
        == 0
    )

    tensors, _ = contents(tmp_path / "c.safetensors")
    before, _ = contents(tmp_path / "old.safetensors")
    assert tensors.keys() == before.keys()
    assert all(torch.equal(tensors[name], before[name]) for name in before)


@pytest.mark.slow
def test_the_words_can_be_left_out_for_diffusers_and_written_on_their_own(tmp_path: Path) -> None:
    lora = sd15_lora()
    write_lora(lora, tmp_path / "in.safetensors")

    told = convert(
        tmp_path,
        *("in.safetensors", "out.safetensors", "--no-embeddings"),
        *("--precision", "fp32", "--embeddings", "words.safetensors"),
    )

    assert told.returncode == 0, told.stderr
    tensors, _ = contents(tmp_path / "out.safetensors")
    assert all(name.startswith("lora_") for name in tensors)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    assert_same(read_lora(tmp_path / "out.safetensors").lora, lora)  # they are in the metadata
    words, _ = contents(tmp_path / "words.safetensors")
    assert torch.equal(words["emb_params"], torch.stack(list(lora.embeddings.values())))


@pytest.mark.slow
def test_a_mistake_and_a_file_without_words_are_told(tmp_path: Path) -> None:
    write_lora(sd15_lora(embeddings={}), tmp_path / "in.safetensors")

    told = convert(tmp_path, "in.safetensors", "--format=ckpt")

    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr.endswith("See script/convert --help.\n")
    assert convert(tmp_path, "in.safetensors").stdout.splitlines()[1] == "words: none, only a LoRA"


def test_the_precision_is_kept_unless_another_is_asked_for(tmp_path: Path) -> None:
    source, out, words = (tmp_path / f"{name}.safetensors" for name in ("in", "out", "words"))
    write_lora(sd15_lora(rank=1, dtype=torch.float32), source, "diffusers", "fp32")

    assert main([str(source), str(out)]) == 0
    assert (read_lora(out).output_format, read_lora(out).save_precision) == ("kohya", "fp32")
    asked = ("--format=kohya", "--precision=bf16", "--no-embeddings", f"--embeddings={words}")
    assert main([str(source), str(out), *asked]) == 0

    assert {tensor.dtype for tensor in contents(out)[0].values()} == {torch.bfloat16}
    assert all(name.startswith("lora_") for name in contents(out)[0])
    assert list(contents(words)[0]) == ["emb_params"]


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("in.safetensors --embeddings=in.safetensors", "must name a file of its own"),
        ("in.safetensors --precision=fp32", "about OUT, which is not given"),
        ("in.safetensors --format=kohya", "about OUT, which is not given"),
        ("in.safetensors ./in.safetensors", "are the same file. Choose another OUT."),
        ("in.safetensors link.safetensors", "are the same file. Choose another OUT."),
        ("missing.safetensors", "missing.safetensors: No such file or directory."),
        ("text.safetensors", "This is no safetensors file, or not a whole one."),
        (
            "na\udcefve.safetensors",
            "The file's name, or that of a folder on its path, is not UTF-8",
        ),
        ("pictures.zip", "pictures.zip is a zip, not a LoRA. Name a .safetensors file."),
        ("broken.zip", "broken.zip is a zip, not a LoRA. Name a .safetensors file."),
        ("model.pt", "This is a pickled PyTorch file"),
        ("/dev/null", "/dev/null is not a file."),
        (
            "in.safetensors text.safetensors/out.safetensors",
            "Nothing can be written to 'text.safetensors/out.safetensors': File exists. Choose"
            " another OUT.",
        ),
        ("in.safetensors out.pt", "must end in .safetensors; got out.pt."),
        ("in.safetensors --format=ckpt", "See script/convert --help."),
        ("in.safetensors --embeddings=w.safetensors", "holds no learned words, only a LoRA."),
        (
            "in.safetensors o.safetensors --format=diffusers --no-embeddings",
            "--no-embeddings is for --format kohya only",
        ),
    ],
)
def test_what_cannot_be_meant_is_answered_with_a_sentence(
    typed: str,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_lora(sd15_lora(rank=1, embeddings={}), tmp_path / "in.safetensors")
    (tmp_path / "text.safetensors").write_text("not a LoRA at all")
    write(tmp_path, zip_of(("1.png", encode(noise(64, 64)))), "pictures.zip")
    (tmp_path / "broken.zip").write_bytes((tmp_path / "pictures.zip").read_bytes()[-22:])
    torch.save({"weight": torch.zeros(2)}, tmp_path / "model.pt")
    (tmp_path / "link.safetensors").symlink_to("in.safetensors")
    (tmp_path / "na\udcefve.safetensors").symlink_to("in.safetensors")
    monkeypatch.chdir(tmp_path)
    before = Path("in.safetensors").read_bytes()

    assert main(typed.split()) == 1

    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1
    assert Path("in.safetensors").read_bytes() == before


@pytest.mark.slow
def test_a_reader_who_has_seen_enough_does_not_end_the_work(tmp_path: Path) -> None:
    """As in `script/convert in.safetensors out.safetensors | head -1`."""
    write_lora(sd15_lora(rank=1), tmp_path / "in.safetensors")

    command = [str(REPOSITORY / "script/convert"), "in.safetensors", "out.safetensors"]
    run = run_unread(command, tmp_path)

    assert (run.returncode, run.stderr) == (0, b"")
    assert read_lora(tmp_path / "out.safetensors").output_format == "kohya"


def test_the_home_folder_is_found_where_no_shell_looks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shells replace a ~ at the beginning of a word only."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    write_lora(sd15_lora(rank=1), tmp_path / "in.safetensors")

    assert main(["in.safetensors", "--embeddings=~/words.safetensors"]) == 0

    assert (tmp_path / "home" / "words.safetensors").is_file()
    assert not (tmp_path / "~").exists()


def test_a_missing_folder_is_made_and_a_full_disk_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lora(sd15_lora(), tmp_path / "in.safetensors")
    typed = [str(tmp_path / "in.safetensors"), str(tmp_path / "new" / "folder" / "out.safetensors")]

    with full_disk(100_000):
        assert main(typed) == 1

    told = capsys.readouterr().err
    assert "folder/out.safetensors': File too large. Choose another OUT." in told
    assert told.count("\n") == 1
    assert main(typed) == 0
    assert_same(read_lora(Path(typed[1])).lora, read_lora(Path(typed[0])).lora)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_others_may_read_a_file_as_the_umask_says(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_lora(sd15_lora(rank=1), tmp_path / "lora.safetensors")
    finally:
        os.umask(before)

    assert (tmp_path / "lora.safetensors").stat().st_mode & 0o777 == mode


def test_a_file_that_cannot_be_replaced_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    write_lora(sd15_lora(rank=1), path)
    before = path.read_bytes()

    with full_disk(100_000), pytest.raises(OSError, match="File too large"):
        write_lora(sd15_lora(), path)

    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
