"""script/inspect, as it is typed: the table, the two files, and its mistakes' sentences."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from cli.inspect import main, parse_inspection
from tests.conftest import REPOSITORY
from tests.pictures import encode, noise, photo, write, zip_of
from tests.pipes import run_unread


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
    assert "task style, resolution 64 (what weights/tiny takes;" in run.stdout
    assert " for stable-diffusion-v1-5: --resolution 512)" in run.stdout
    assert run.stdout.count("  used  ") == 8
    assert "pictures: 8 used, 0 files skipped" in run.stdout
    report = json.loads((tmp_path / "seen.report.json").read_text())
    assert report["inputs"] == {"task": "style", "resolution": 64}
    assert report["pictures"]["num_used"] == 8
    with Image.open(tmp_path / "seen.pictures.png") as sheet:
        assert sheet.width > 4 * 192


def test_what_is_typed_goes_before_what_goes_with_an_example():
    example = str(REPOSITORY / "examples" / "mono-style.zip")

    seen = parse_inspection([example, "--task=object", "--custom-prompts=a photo of {}"])

    assert seen.inputs.task == "object"
    assert seen.custom_prompts == "a photo of {}"


def test_it_starts_without_loading_torch_or_diffusers(tmp_path):
    """Asked in a process of its own, since this one has loaded everything."""
    code = (
        "import sys; from cli.inspect import main, parse_inspection; status = main(sys.argv[1:]);"
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
    assert "pictures: 2 used, 1 file skipped" in caplog.text
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
        ("https://example.com/pictures.zip", "An address is no file. Give it as --instance"),
        ("pictures.zip --resolution many", "invalid int value: 'many'"),
        ("pictures.zip --base nowhere", "--resolution 512"),
        ("/proc/self/mem", "A file: Invalid argument."),  # it opens, and cannot be read
        ("pictures.zip --base .", "The folder '.' is no whole base model"),
        ("pictures.zip --lora_rank 8", "--lora_rank"),
        ("pictures.zip --out .", "--out must end in a name for the files; got '.'."),
        (
            "pictures.zip --out pictures.zip/seen",
            "Nothing can be written to 'pictures.zip/seen': File exists. Choose another --out.",
        ),
        (
            "text.zip --out text.zip/a/b",
            "Nothing can be written to 'text.zip/a/b': Not a directory",
        ),
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


def test_if_nothing_can_be_used_sheet_and_report_say_why(tmp_path, capsys):
    out = tmp_path / "seen"
    assert main(["--instance_data_urls", "file:///etc/passwd", "--out", str(out)]) == 1
    told = capsys.readouterr().err
    assert told.startswith("No usable pictures. 1 file: ")
    assert told.count("\n") == 1
    pictures = json.loads(out.with_name("seen.report.json").read_text())["pictures"]
    assert (pictures["num_used"], pictures["num_skipped"]) == (0, 1)
    assert pictures["table"][0]["reason"] in told
    with Image.open(out.with_name("seen.pictures.png")) as sheet:
        assert sheet.width > 4 * 192


def test_a_file_that_cannot_be_written_is_told_in_a_sentence(tmp_path, capsys):
    (tmp_path / "seen.report.json").mkdir()
    typed = [write_zip(tmp_path), "--task", "object", "--out", tmp_path / "seen"]
    assert main([str(word) for word in typed]) == 1
    assert "seen': Is a directory. Choose another --out." in capsys.readouterr().err


def test_a_reader_who_has_seen_enough_does_not_end_the_work(tmp_path):
    """As in `script/inspect pictures.zip | head -1`."""
    typed = [sys.executable, "-m", "cli", "inspect", str(write_zip(tmp_path)), "--task", "object"]
    run = run_unread([*typed, "--out", str(tmp_path / "seen")], REPOSITORY)
    assert (run.returncode, run.stderr) == (0, b"")
    assert (tmp_path / "seen.report.json").is_file()


def test_a_name_that_is_no_text_is_told_as_well_as_it_can_be(tmp_path):
    """An old disk's Latin-1, where the terminal expects UTF-8."""
    archive = write_zip(tmp_path).rename(tmp_path / "f\udcfcr.zip")
    run = subprocess.run(
        [sys.executable, "-m", "cli", "inspect", archive, "--task", "object", "--out", archive],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.splitlines()[-1].endswith("f\\udcfcr.zip.report.json")


def test_a_size_of_another_base_model_can_be_tried_without_having_it(tmp_path, monkeypatch):
    monkeypatch.setenv("BASE_MODEL", "weights/stable-diffusion-v1-5")
    typed = [str(write_zip(tmp_path)), "--task", "object", "--out", str(tmp_path / "seen")]
    assert main([*typed, "--resolution", "72"]) == 0
    (tmp_path / "seen.report.json").unlink()
    assert main([*typed, "--resolution", "72", "--base", str(REPOSITORY / "weights/tiny")]) == 1


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        (
            "",
            "resolution 64 (what weights/tiny takes; for stable-diffusion-v1-5: --resolution 512)",
        ),
        (
            "--resolution 512",
            "resolution 512 (stable-diffusion-v1-5 and stable-diffusion-2-1 take it)",
        ),
        ("--resolution 128", "resolution 128 (weights/tiny takes it)"),
        (
            "--resolution 500",
            "resolution 500 (no base model known here takes it: weights/tiny 64 to",
        ),
        (
            f"--base {REPOSITORY}/weights/tiny --resolution 96",
            "resolution 96 (weights/tiny takes it)",
        ),
    ],
)
def test_which_base_model_takes_this_resolution_is_said(tmp_path, caplog, typed, reason):
    caplog.set_level("INFO")
    archive = write(tmp_path, zip_of(("1.png", encode(noise(512, 512)))))
    out = tmp_path / "seen"
    assert main([str(archive), "--task", "object", "--out", str(out), *typed.split()]) == 0
    assert f"task object, {reason}" in caplog.text


def test_the_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    told = capsys.readouterr().out
    for option in ("--task", "--resolution", "--out", "--base", "--custom_prompts"):
        assert option in told
