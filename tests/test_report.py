"""The table of pictures in the log, and the same as data."""

import json
import logging
import re
from collections.abc import Sequence

import pytest

from cli.pictures import describe_pictures
from preprocessing.prepare import Prepared, prepare_examples
from preprocessing.report import PhotoReport, log_reports, nothing_usable, numbered
from tests.pictures import encode, noise, photo, write, zip_of

KEYS = {
    *("number", "used", "reason", "warnings", "size", "crop", "scale", "faces"),
    "caption_source",
}
# 1: picture and number, or how many of them; 2: used or skipped; then size, crop, scale, faces,
# source of the captions and remarks.
ROW = re.compile(
    r"picture +(?P<no>x?\d+)  (?P<status>used|skipped) +(?P<size>\d+x\d+|various|-) +"
    r"(?P<crop>\d+ at \d+,\d+|various|-) +(?P<scale>\d+\.\d\d(-\d+\.\d\d)?|-) +(?P<faces>\d+|-) +"
    r"(?P<captions>[a-z ]*?[a-z]|-)(  +(?P<remarks>.*))?"
)


def used(position: int, **others: object) -> PhotoReport:
    values: dict[str, object] = {
        "reason": "",
        "size": (4032, 3024),
        "crop": (504.0, 0.0, 3528.0, 3024.0),
        "scale": 512 / 3024,
        "num_faces": 1,
        "caption_source": "templates",
    }
    return PhotoReport(position=position, name="secret.jpg", used=True, **values | others)  # type: ignore[arg-type]


def skipped(position: int, reason: str) -> PhotoReport:
    return PhotoReport(position=position, name="secret.txt", used=False, reason=reason)


def lines_of(
    caplog: pytest.LogCaptureFixture, reports: Sequence[PhotoReport], *warnings: str
) -> list[str]:
    caplog.set_level(logging.INFO)
    caplog.clear()
    log_reports(reports, warnings)
    return [record.getMessage() for record in caplog.records]


def rows_of(lines: Sequence[str]) -> list[dict[str, str | None]]:
    matches = [ROW.fullmatch(line) for line in lines if re.match(r"picture +x?\d", line)]
    assert None not in matches, lines
    return [match.groupdict() for match in matches if match]


def test_each_picture_has_a_line_in_fixed_columns(caplog):
    lines = lines_of(
        caplog, [used(1), skipped(2, "a text, not a picture"), used(3, warnings=("blurry",))]
    )
    rows = rows_of(lines)
    assert rows[0] == {
        "no": "1",
        "status": "used",
        "size": "4032x3024",
        "crop": "3024 at 504,0",
        "scale": "0.17",
        "faces": "1",
        "captions": "templates",
        "remarks": None,
    }
    assert rows[1]["status"] == "skipped"
    assert rows[1]["remarks"] == "a text, not a picture"
    assert rows[2]["remarks"] == "blurry"
    header, *table = lines[:4]
    assert header.startswith("picture")
    for title, texts in {
        "crop": ("3024 at", "-", "3024 at"),
        "scale": ("0.17", "-", "0.17"),
    }.items():
        column = header.index(title)
        assert [line[column:].startswith(text) for line, text in zip(table, texts, strict=True)]


def test_the_columns_stand_under_their_titles(caplog):
    header, first, second, *_ = lines_of(caplog, [used(1), used(10, size=(640, 480))])
    for title, text in {"size": "4032x3024", "crop": "3024 at 504,0", "captions": "templ"}.items():
        assert first.index(text) == header.index(title)
    assert second.index("640x480") == header.index("size")


def test_the_last_line_counts(caplog):
    reports = [used(1), used(2, warnings=("blurry",)), skipped(3, "a text")]
    assert lines_of(caplog, reports)[-1] == "pictures: 2 used, 1 file skipped, 1 with a warning"
    assert lines_of(caplog, [used(1)])[-1] == "pictures: 1 used, 0 files skipped"


def test_what_is_said_of_the_set_comes_after_the_table_as_warnings(caplog):
    lines = lines_of(caplog, [used(1)], "one picture in all", "another thing")
    assert lines[2:4] == ["one picture in all", "another thing"]
    assert [record.levelno for record in caplog.records[2:4]] == [logging.WARNING] * 2


def test_a_skipped_picture_is_a_warning_and_a_used_one_is_not(caplog):
    lines_of(caplog, [used(1), skipped(2, "a text")])
    assert [record.levelname for record in caplog.records[1:3]] == ["INFO", "WARNING"]


def test_up_to_40_pictures_have_a_line_each_and_more_are_told_in_groups(caplog):
    assert len(rows_of(lines_of(caplog, [used(n) for n in range(1, 41)]))) == 40
    (row,) = rows_of(lines_of(caplog, [used(n) for n in range(1, 42)]))
    assert (row["no"], row["remarks"]) == ("x41", "(1-41)")


def test_groups_begin_with_what_is_skipped_and_tell_ranges(caplog):
    reports = [
        skipped(n, f"{n} x {n} pixels is too small") if n % 10 == 0 else used(n, scale=n / 100)
        for n in range(1, 101)
    ]
    first, second = rows_of(lines_of(caplog, reports))
    assert (first["no"], first["status"]) == ("x10", "skipped")
    assert first["remarks"] == "N x N pixels is too small (10, 20, 30, 40, 50, 60, 70, 80, ...)"
    assert (second["no"], second["scale"], second["size"]) == ("x90", "0.01-0.99", "4032x3024")


def test_the_log_of_a_thousand_pictures_is_short_whatever_there_is_to_say(caplog):
    words = [f"{a}{b}{c}" for a in "abcdefghij" for b in "abcdefghij" for c in "abcdefghij"]
    reports = [used(n, warnings=(word,)) for n, word in enumerate(words, 1)]
    lines = lines_of(caplog, reports)
    assert len(lines) == 1 + 40 + 1 + 1
    assert lines[-2].startswith("picture  x960  various")
    assert sum(map(len, lines)) < 6_000


@pytest.mark.parametrize(
    ("positions", "text"),
    [([], ""), ([7], "7"), ([3, 1, 2], "1-3"), ([1, 2, 4, 6, 7], "1-2, 4, 6-7")],
)
def test_numbers_are_told_as_ranges(positions, text):
    assert numbered(positions) == text


@pytest.fixture
def prepared(tmp_path) -> Prepared:
    """Made of files whose names and texts must not be told."""
    archive = zip_of(
        ("telltale-dog.jpg", photo()),
        ("telltale-dog.txt", b"a telltale caption of {}"),
        ("telltale/diary.txt", b"telltale text"),
        ("telltale/half.jpg", photo()[:900]),
        ("telltale-small.png", encode(noise(40, 32))),
    )
    return prepare_examples(
        archive=write(tmp_path, archive, "telltale.zip"),
        urls=(),
        task="object",
        resolution=64,
        custom_prompts=("a telltale prompt of {}",),
    )


def test_neither_log_nor_data_tell_names_or_captions(caplog, prepared):
    log_reports(prepared.reports, prepared.warnings)
    told = caplog.text + json.dumps(describe_pictures(prepared))
    assert len(told) > 1_000
    assert "telltale" not in told.lower()


def test_the_data_say_what_the_table_says(prepared):
    data = json.loads(json.dumps(describe_pictures(prepared)))
    assert (data["num_used"], data["num_skipped"]) == (2, len(data["table"]) - 2)
    assert data["warnings"] == list(prepared.warnings)
    for row, report in zip(data["table"], prepared.reports, strict=True):
        assert row.keys() == KEYS
        assert (row["number"], row["used"]) == (report.position, report.used)
        assert (row["crop"] is None) == (not report.used)
    first = data["table"][0]
    assert (first["size"], first["crop"]) == ([96, 72], [12, 0, 84, 72])
    assert first["scale"] == round(64 / 72, 4)
    assert first["caption_source"]


@pytest.mark.parametrize("reason", ["too dark", "too dark.", "too dark?"])
def test_a_reason_ends_in_one_mark_however_it_was_written(reason):
    assert re.search(r"1 file: too dark[.?] Needed are", nothing_usable([skipped(1, reason)]))


def test_reasons_that_differ_in_figures_only_are_told_as_one():
    reports = [
        skipped(1, "a text, not a picture. Send the pictures themselves."),
        *(skipped(n, f"{n} x 9 pixels is too small for resolution 512") for n in range(5, 15)),
        *(skipped(n, f"address {n} (10.0.0.1): not a picture") for n in (20, 21)),
        *(skipped(n, f"address {n} (img{n}.example.com): gone") for n in (22, 23)),
    ]
    told = nothing_usable(reports)
    assert told.startswith(
        "No usable pictures. 10 files: 5 to 14 x 9 pixels is too small for resolution 512."
        " 2 files: address 20 to 21 (10.0.0.1): not a picture."
        " 1 file: a text, not a picture. Send the pictures themselves."
        " 1 file: address 22 (img22.example.com): gone. 1 file: address 23"
    )


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        (["more than 2,048 MiB."], "1 file: more than 2,048 MiB."),
        (["holds 20,000 files", "holds 9,000 files"], "2 files: holds 9,000 to 20,000 files."),
        (["to 4.4 GiB", "to 10.05 GiB"], "2 files: to 4.4 to 10.05 GiB."),
        (["address 1 (10.0.0.1): gone", "address 2 (10.0.0.2): gone"], "1 file: address 1 (10.0"),
    ],
)
def test_figures_of_more_than_digits_are_told_as_they_were(reasons: list[str], expected: str):
    told = nothing_usable([skipped(n, reason) for n, reason in enumerate(reasons, 1)])
    assert told.startswith(f"No usable pictures. {expected}")


def test_of_many_reasons_the_commonest_are_told_and_the_others_counted():
    reasons = ["dark", "dark", "red", "green", "blue", "grey", "white", "black", "black"]
    told = nothing_usable([skipped(n, reason) for n, reason in enumerate(reasons, 1)])
    assert told.startswith("No usable pictures. 2 files: dark. 2 files: black. 1 file: red.")
    assert "2 files: other reasons. Needed are 3 to 100 pictures" in told
