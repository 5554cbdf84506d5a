"""script/train, as it is typed: the files it writes, what it says, and its mistakes' sentences."""

import io
import json
import re
import shutil
import subprocess
import time
import zipfile
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from cli.arguments import parse_command
from cli.progress import SECONDS_BETWEEN_LINES, telling
from cli.train import main
from tests.disk import LARGEST_FILE_BYTES, full_disk

REPOSITORY = Path(__file__).parent.parent
PROGRESS = re.compile(
    r"(inversion|tuning) +\d+/\d+  loss \d\.\d{4}  lr \d\.\de-\d\d  [\d.]+ steps/s  eta \d+m\d\ds"
)


def write_zip(path: Path, colours: tuple[str, ...]) -> Path:
    """Pictures, and a text that has to be left out."""
    with zipfile.ZipFile(path, "w") as archive:
        for colour in colours:
            image = Image.new("RGB", (80, 64), "white")
            ImageDraw.Draw(image).ellipse((10, 10, 60, 60), fill=colour)
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            archive.writestr(f"{colour}.png", buffer.getvalue())
        archive.writestr("notes.txt", "no picture")
    return path


def copy_repository(target: Path) -> None:
    """The sources and the small base model, with the same virtual environment."""
    ignored = (".*", "__pycache__", "node_modules", "output", "stable-diffusion-*", "build_tiny")
    shutil.copytree(REPOSITORY, target, ignore=shutil.ignore_patterns(*ignored))
    (target / ".venv").symlink_to(REPOSITORY / ".venv")


def files_in(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the command is given; it holds the repository too."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def printed(folder: Path) -> str:
    """What a short but whole run prints; its files are in `folder`."""
    write_zip(folder / "discs.zip", ("black", "dimgray", "gray"))
    write_zip(folder / "others.zip", ("silver", "darkgray"))
    copy_repository(folder / "repository")
    before = files_in(folder)
    typed = (
        "discs.zip --task object --seed 3 --max_train_steps_ti 8 --max-train-steps-tuning 8"
        " --evaluate others.zip --precision bf16"
    )
    run = subprocess.run(
        ["repository/script/train", *typed.split()],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert files_in(folder) - before == {
        "repository/output/discs-words.safetensors",
        "repository/output/discs.safetensors",
        "repository/output/discs.safetensors.pictures.png",
        "repository/output/discs.safetensors.preview.png",
        "repository/output/discs.safetensors.report.json",
    }
    return run.stdout


@pytest.mark.slow
def test_progress_is_a_line_every_now_and_then(printed: str) -> None:
    lines = [line for line in printed.splitlines() if line.startswith(("inversion ", "tuning "))]

    assert len(lines) >= 2
    assert all(PROGRESS.fullmatch(line) for line in lines), lines


@pytest.mark.slow
def test_only_five_files_are_written_side_by_side_in_the_output_folder(printed: str) -> None:
    """That there are no others is seen by the fixture."""
    written = [line for line in printed.splitlines() if line.startswith("wrote repository/output")]

    assert len(written) == 5


@pytest.mark.slow
@pytest.mark.usefixtures("printed")
def test_the_preview_is_a_sheet_of_rows(folder: Path) -> None:
    with Image.open(folder / "repository/output/discs.safetensors.preview.png") as preview:
        assert preview.width > 1000
        assert preview.height > 800
        colours = preview.convert("RGB").getcolors(maxcolors=1_000_000)
        assert colours is not None
        assert len(colours) > 1000


@pytest.mark.slow
@pytest.mark.usefixtures("printed")
def test_the_contact_sheet_shows_every_picture(folder: Path) -> None:
    with Image.open(folder / "repository/output/discs.safetensors.pictures.png") as sheet:
        assert sheet.width > 4 * 192  # a row of three discs and the text
        assert sheet.height > 192


@pytest.mark.slow
@pytest.mark.usefixtures("printed")
def test_the_report_tells_what_was_used_and_gained(folder: Path) -> None:
    report = json.loads((folder / "repository/output/discs.safetensors.report.json").read_text())

    assert report["inputs"]["seed"] == 3
    assert report["machine"]["precision"] == "bfloat16"
    assert report["inputs"]["resolution"] == 64
    pictures = report["pictures"]
    assert (pictures["num_used"], pictures["num_skipped"]) == (3, 1)
    assert [photo["used"] for photo in pictures["table"]] == [True, True, True, False]
    assert pictures["table"][3]["reason"]
    assert "gray.png" not in json.dumps(pictures)
    assert report["effective"]["inversion"]["num_updates"] == 4
    assert report["seconds"].keys() >= {"loading", "pictures", "training", "writing", "comparing"}
    assert report["phases"]["inversion"]["num_steps"] == 8
    assert len(report["phases"]["tuning"]["losses"]) == 8
    assert report["phases"]["tuning"]["steps_per_second"] > 0
    assert report["peak_memory_bytes"]["process"] > 100_000_000
    loss = report["denoising_loss"]
    assert loss["measured_on"] == "the pictures of others.zip"
    assert loss["num_pictures"] == 2
    assert len(loss["before"]["by_draw"]) == len(loss["after"]["by_draw"]) >= 3
    assert loss["before"]["mean"] != loss["after"]["mean"]


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("missing.zip", "There is no file 'missing.zip'"),
        ("text.zip", "zip"),
        ("https://example.com/pictures.zip", "An address is no file. Give it as --instance"),
        ("discs.zip --evaluate text.zip", "zip"),
        ("discs.zip --evaluate missing.zip", "no file 'missing.zip'"),
        ("discs.zip --task car", "invalid choice: 'car'"),
        ("discs.zip --resolution 500", "nearest that works is 128"),
        ("discs.zip --lora_rank many", "invalid int value: 'many'"),
        ("discs.zip --learning_rate_ti 2", "learning_rate_ti must be a number from 0 to 1"),
        ("discs.zip --strength 2", "--strength"),
        ("discs.zip --out lora.pt", ".safetensors"),
        ("discs.zip --base nowhere", "script/download-weights"),
        (
            f"discs.zip --out {'long' * 60}.safetensors",
            ".safetensors': File name too long. Choose another --out.",
        ),
        ("discs.zip --out Gr\udcfc\udcdfe.safetensors", "--out must be UTF-8"),
        (
            "discs.zip --out text.zip/lora.safetensors",
            "Nothing can be written to 'text.zip/lora.safetensors': File exists. Choose another",
        ),
        (
            "discs.zip --out text.zip/new/lora.safetensors",
            "Nothing can be written to 'text.zip/new/lora.safetensors': Not a directory. Choose",
        ),
        ("discs.zip --out /proc/lora.safetensors", "Nothing can be written to '/proc/lora"),
        ("folder.safetensors", "is a folder. Zip the pictures in it, and name the zip."),
        ("discs.zip --out folder.safetensors", "is a folder. Choose another --out."),
    ],
)
def test_a_mistake_is_told_in_one_sentence(
    typed: str,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_zip(tmp_path / "discs.zip", ("black",))
    (tmp_path / "text.zip").write_text("no zip at all")
    (tmp_path / "folder.safetensors").mkdir()
    monkeypatch.chdir(tmp_path)

    status = main(typed.split())

    assert status == 1
    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1
    assert "Traceback" not in told
    assert files_in(tmp_path) == {"discs.zip", "text.zip"}


def test_a_disk_that_is_full_at_once_is_noticed_before_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    archive = write_zip(tmp_path / "discs.zip", ("black",))

    with full_disk(LARGEST_FILE_BYTES // 2):
        assert main([str(archive), "--out", str(tmp_path / "lora.safetensors")]) == 1

    assert "lora.safetensors': File too large. Choose another --out." in capsys.readouterr().err
    assert "training on" not in caplog.text


def test_a_disk_that_is_full_in_the_end_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = write_zip(tmp_path / "discs.zip", ("black",))
    steps = ("--max_train_steps_ti=4", "--max_train_steps_tuning=4", "--lora_rank=64")

    with full_disk():
        assert main([str(archive), *steps, "--out", str(tmp_path / "lora.safetensors")]) == 1

    told = capsys.readouterr().err
    assert "lora.safetensors' cannot be written: File too large. Its result is lost." in told
    assert "Free some disk space, or choose another --out" in told
    assert told.count("\n") == 1
    assert files_in(tmp_path) == {"discs.zip"}


def test_what_cannot_be_written_beside_the_lora_does_not_hide_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = write_zip(tmp_path / "discs.zip", ("black",))
    steps = ("--max_train_steps_ti=4", "--max_train_steps_tuning=4")
    (tmp_path / "lora.safetensors.pictures.png").mkdir()

    assert main([str(archive), *steps, "--out", str(tmp_path / "lora.safetensors")]) == 1

    told = capsys.readouterr().err
    assert "lora.safetensors is written, and whole; but not all that goes beside it: Is a" in told
    assert (tmp_path / "lora.safetensors").is_file()


def test_without_a_zip_the_first_example_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    command = parse_command([])

    assert command.archive is not None
    assert command.archive.parent == Path("examples")
    assert command.out == Path("output") / f"{command.archive.stem}.safetensors"


def test_an_example_brings_its_task_and_the_pictures_to_measure_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(REPOSITORY)
    command = parse_command(["examples/mono-style.zip"])

    assert command.inputs == {"task": "style"}
    assert command.evaluate == Path("examples/mono-style-heldout.zip")
    assert parse_command(["examples/mono-style.zip", "--task", "object"]).inputs["task"] == "object"


def test_every_input_of_the_form_can_be_typed_in_two_ways(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "discs.zip", ("black",))

    with_dashes = parse_command([str(archive), "--learning-rate-ti", "1e-3"])
    with_underscores = parse_command([str(archive), "--learning_rate_ti", "1e-3"])

    assert with_dashes == with_underscores
    assert with_dashes.inputs == {"learning_rate_ti": 1e-3}


def test_the_help_names_ranges_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_command(["--help"])

    told = " ".join(capsys.readouterr().out.split())
    assert "(0 to 20000; the form's default: 700)" in told
    assert "(1 to 128; the form's default: 16)" in told
    assert "(the form's default: face)" in told


def test_work_of_more_than_two_seconds_tells_how_far_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    tell = telling("drawing", 4)

    tell()
    time.sleep(SECONDS_BETWEEN_LINES)
    tell()
    tell()

    assert caplog.messages == ["drawing       2/4  eta 0m02s"]
