"""What docs/pictures.md tells people is so."""

import re

import pytest
from PIL import Image, ImageFilter

from preprocessing import limits
from preprocessing.prepare import prepare_examples
from preprocessing.quality import judge, look_at
from preprocessing.templates import TEMPLATES
from tests.conftest import REPOSITORY
from tests.photographs import photograph
from tests.pictures import encode, photo, write, zip_of
from tests.test_quality import used
from tests.test_report import KEYS, ROW

TABLE = b'{"file_name": "a.jpg", "text": "{} on the sofa"}'
PAGE = (REPOSITORY / "docs/pictures.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("what", "limit"),
    [
        ("pictures", f"{limits.MAX_PICTURES:,}"),
        ("files in an archive", f"{limits.MAX_ARCHIVE_ENTRIES:,}"),
        ("an archive", f"{limits.MAX_ARCHIVE_BYTES // limits.GIB} GiB"),
        ("an archive", f"{limits.MAX_UNPACKED_BYTES // limits.GIB} GiB unpacked"),
        ("one file", f"{limits.MAX_FILE_BYTES // limits.MIB} MiB"),
        ("pixels of one picture", f"{limits.MAX_PIXELS // 1_000_000} megapixels"),
        ("pixels of one picture", f"{limits.MAX_PIXELS_SCALABLE // 1_000_000} as JPEG"),
        ("enlargement", f"{limits.MAX_ENLARGEMENT:g}x"),
        ("addresses in `instance_data_urls`", f"{limits.MAX_ADDRESSES:,}"),
    ],
)
def test_the_limits_are_those_that_are_checked(what, limit):
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| {what} |")]
    assert limit in row


def test_every_remark_is_explained_and_every_one_that_is_explained_is_made():
    cup = photograph("coffee.png")
    blurred = cup.filter(ImageFilter.GaussianBlur(2))
    looks = [look_at(image, None) for image in (cup, cup, blurred)]
    reports = [used(1, num_faces=0), used(2, num_faces=2), used(3, scale=1.6, num_faces=1)]
    judged, _ = judge(reports, looks, "face")
    made = {warning for report in judged for warning in report.warnings}
    explained = set(re.findall(r"^\| `([a-z][^`]+)` \|", PAGE, re.MULTILINE))
    assert {beginning(remark) for remark in made} <= {beginning(remark) for remark in explained}
    sources = "".join(
        path.read_text(encoding="utf-8") for path in (REPOSITORY / "preprocessing").glob("*.py")
    )
    for remark in explained:
        assert f'"{beginning(remark)}' in sources, remark


def beginning(remark: str) -> str:
    """What comes before its figures and particulars."""
    return re.split(r" ?(?:\d|\.{3})", remark)[0]


def test_every_key_of_the_report_is_named():
    for key in (*KEYS, "num_used", "num_skipped", "warnings", "table"):
        assert f"`{key}`" in PAGE


def test_every_task_is_advised_on():
    for task in TEMPLATES:
        assert f"\n| {task} |" in PAGE


def test_the_table_that_is_shown_is_one():
    (block,) = re.findall(r"```\n(picture.*?)```", PAGE, re.DOTALL)
    rows = [line for line in block.splitlines() if re.match(r"picture +\d", line)]
    assert len(rows) == 8
    for row in rows:
        assert ROW.fullmatch(row), row


@pytest.mark.parametrize("task", ["face", "object"])
def test_the_sheets_are_there_and_small(task):
    path = REPOSITORY / f"docs/images/pictures-{task}.png"
    assert f"images/{path.name}" in PAGE
    assert path.stat().st_size < 400_000
    with Image.open(path) as sheet:
        assert sheet.width > 4 * 192


def test_files_are_numbered_as_the_page_says(tmp_path):
    mask = encode(Image.new("L", (96, 72), "white"))
    files = (
        *((name, photo()) for name in ("2.jpg", "10.jpg", "a.jpg", "Z.jpg", "b/1.jpg")),
        *(("2.txt", b"{} asleep"), ("10_mask.png", mask), ("notes.txt", b"a text of its own")),
        *(("captions.csv", b"file_name,text\nlost.jpg,lost\n"), ("metadata.jsonl", TABLE)),
        *((name, b"x") for name in (".DS_Store", "__MACOSX/._2.jpg", "Thumbs.db")),
    )
    prepared = prepare_examples(
        archive=write(tmp_path, zip_of(*files), "my-pictures.zip"),
        urls=(),
        task="object",
        resolution=64,
        custom_prompts=(),
    )
    in_order = ("10.jpg", "2.jpg", "Z.jpg", "a.jpg", "b/1.jpg", "notes.txt")
    found = [(report.position, report.name) for report in prepared.reports]
    assert found == list(enumerate(("captions.csv", *in_order), 1))
