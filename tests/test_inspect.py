"""script/inspect, as it is typed: the table, the two files, and its mistakes' sentences."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from cli.inspect import main
from tests.conftest import REPOSITORY
from tests.pictures import encode, noise, photo, write, zip_of


def write_zip(folder: Path) -> Path:
    """Two pictures, one of them small, and a broken one; the names must not be told."""
    files = (
        ("telltale-1.jpg", photo()),
        ("telltale-2.png", encode(noise(40, 32))),
        ("telltale-3.jpg", photo()[:900]),
    )
    return write(folder, zip_of(*files), "pictures.zip")


def test_an_example_is_inspected_with_its_own_task(tmp_path):
    run = subprocess.run(
        [REPOSITORY / "script/inspect", REPOSITORY / "examples/mono-style.zip", "--out", "seen"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "seen.pictures.png",
        "seen.report.json",
    ]
    assert "task style, resolution 64" in run.stdout
    assert run.stdout.count("  used  ") == 8
    assert "photos: 8 used, 0 skipped" in run.stdout
    report = json.loads((tmp_path / "seen.report.json").read_text())
    assert report["inputs"] == {"task": "style", "resolution": 64}
    assert report["pictures"]["num_used"] == 8
    with Image.open(tmp_path / "seen.pictures.png") as sheet:
        assert sheet.width > 4 * 192


def test_it_starts_without_loading_torch_or_diffusers(tmp_path):
    """Asked in a process of its own, since this one has loaded everything."""
    code = (
        "import sys; from cli.inspect import main; status = main(sys.argv[1:]);"
        " print(status, sorted({'torch', 'diffusers', 'transformers', 'cog'} & set(sys.modules)))"
    )
    typed = [write_zip(tmp_path), "--task", "object", "--out", tmp_path / "seen"]
    run = subprocess.run(
        [sys.executable, "-c", code, *typed],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.splitlines()[-1] == "0 []"


def test_table_report_and_sheet_agree_and_tell_no_names(tmp_path, caplog):
    caplog.set_level("INFO")
    out = tmp_path / "new folder" / "seen"
    typed = [write_zip(tmp_path), "--task", "object", "--resolution", 64, "--out", out]
    assert main([str(word) for word in typed]) == 0
    text = out.with_name("seen.report.json").read_text()
    table = json.loads(text)["pictures"]["table"]
    assert [row["used"] for row in table] == [True, True, False]
    assert "too small, enlarged 2.0x" in table[1]["warnings"]
    assert "too small, enlarged 2.0x" in caplog.text
    assert "photos: 2 used, 1 skipped" in caplog.text
    assert "telltale" not in caplog.text + text
    assert out.with_name("seen.pictures.png").is_file()


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("", "Name a zip of pictures"),
        ("missing.zip", "no file 'missing.zip'"),
        ("text.zip", "neither a zip nor a picture but"),
        ("empty.zip", "holds no files"),
        ("pictures.zip --task car", "invalid choice: 'car'"),
        ("pictures.zip --resolution 63", "resolution must be a whole number from 64 to 1024"),
        ("pictures.zip --resolution many", "invalid int value: 'many'"),
        ("pictures.zip --base nowhere", "--resolution 512"),
        ("pictures.zip --lora_rank 8", "--lora_rank"),
        ("pictures.zip --out pictures.zip/seen", "pictures.zip"),
        ("--instance_data_urls file:///etc/passwd", "No usable pictures"),
    ],
)
def test_a_mistake_is_told_in_one_sentence_and_nothing_is_written(
    typed, sentence, tmp_path, monkeypatch, capsys
):
    write_zip(tmp_path)
    write(tmp_path, b"no zip at all", "text.zip")
    write(tmp_path, zip_of(), "empty.zip")
    monkeypatch.chdir(tmp_path)

    assert main(typed.split()) == 1

    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "empty.zip",
        "pictures.zip",
        "text.zip",
    ]


def test_a_size_of_another_base_model_can_be_tried_without_having_it(tmp_path, monkeypatch):
    monkeypatch.setenv("BASE_MODEL", "weights/stable-diffusion-v1-5")
    typed = [str(write_zip(tmp_path)), "--task", "object", "--out", str(tmp_path / "seen")]
    assert main([*typed, "--resolution", "72"]) == 0
    (tmp_path / "seen.report.json").unlink()
    assert main([*typed, "--resolution", "72", "--base", str(REPOSITORY / "weights/tiny")]) == 1


def test_the_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    told = capsys.readouterr().out
    for option in ("--task", "--resolution", "--out", "--base", "--custom_prompts"):
        assert option in told
