"""Whatever was sent -> the examples to train on."""

import logging
import re
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from preprocessing.decoders import DecodeBudget
from preprocessing.errors import ArchiveError, PictureError, PromptError
from preprocessing.prepare import Prepared, prepare_examples
from preprocessing.templates import TEMPLATES
from tests.pictures import HEIC, encode, noise, photo, write, write_photos, zip_of


def prepare(
    archive: Path | None,
    urls: tuple[str, ...] = (),
    resolution: int = 64,
    custom_prompts: tuple[str, ...] = (),
) -> Prepared:
    return prepare_examples(
        archive=archive,
        urls=urls,
        task="object",
        resolution=resolution,
        custom_prompts=custom_prompts,
    )


def test_a_zip_of_photos_becomes_examples(tmp_path):
    prepared = prepare(write_photos(tmp_path, range(4)))
    assert [example.image.size for example in prepared.examples] == [(64, 64)] * 4
    assert [example.image.mode for example in prepared.examples] == ["RGB"] * 4
    assert {example.prompts for example in prepared.examples} == {TEMPLATES["object"]}
    assert {example.mask for example in prepared.examples} == {None}


def test_the_same_zip_gives_the_same_examples_in_the_same_order(tmp_path):
    first, second = (prepare(write_photos(tmp_path, range(9))) for _ in range(2))
    for one, other in zip(first.examples, second.examples, strict=True):
        np.testing.assert_array_equal(np.asarray(one.image), np.asarray(other.image))
    assert first.reports == second.reports


def test_the_order_of_files_in_the_zip_does_not_matter(tmp_path):
    forwards = prepare(write_photos(tmp_path, range(4)))
    backwards = prepare(write_photos(tmp_path, range(3, -1, -1)))
    assert forwards.reports == backwards.reports


def test_every_photo_and_file_that_was_met_is_reported(tmp_path):
    archive = zip_of(
        ("1.jpg", photo()),
        ("2.jpg", photo()[:900]),
        ("3.txt", b"hello"),
        ("4.heic", HEIC),
        ("5.png", encode(noise(40, 32))),
        ("6.png", encode(noise(9, 9))),
    )
    reports = prepare(write(tmp_path, archive)).reports
    assert [report.position for report in reports] == [1, 2, 3, 4, 5, 6]
    assert [report.used for report in reports] == [True, False, False, True, True, False]
    assert reports[0].name == "1.jpg"
    assert (reports[0].reason, reports[0].size) == ("", (96, 72))
    assert (reports[0].crop, reports[0].scale) == ((12, 0, 84, 72), 64 / 72)
    assert "damaged or cut off" in reports[1].reason
    assert (reports[1].size, reports[1].crop, reports[1].scale) == (None, None, None)
    assert "a text" in reports[2].reason
    assert reports[3].crop == (0, 12, 64, 76)
    assert reports[4].warnings == ("too small, enlarged 2.0x",)
    assert "9 x 9 pixels is too small" in reports[5].reason


def test_what_is_skipped_is_logged_by_position_and_reason_and_never_by_name(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    archive = zip_of(("me.jpg", photo()), ("my diary.txt", b"secret"), ("nude.jpg", b""))
    prepare_examples(
        archive=write(tmp_path, archive, "mine.zip"),
        urls=(),
        task="face",
        resolution=64,
        custom_prompts=("secret",),
    )
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert any(re.match("picture +2  skipped .* a text", warning) for warning in warnings)
    assert any(re.match("picture +3  skipped .* an empty file", warning) for warning in warnings)
    assert "pictures: 1 used, 2 files skipped" in caplog.text
    for word in ("me.jpg", "diary", "secret", "nude", "mine", str(tmp_path)):
        assert word not in caplog.text


def test_hundreds_of_skipped_files_do_not_flood_the_log(tmp_path, caplog):
    texts = ((f"note {number}.txt", b"hello") for number in range(300))
    prepare(write(tmp_path, zip_of(("0.jpg", photo()), *texts)))
    assert "x300  skipped" in caplog.text
    assert len(caplog.text) < 1_000


def test_a_skipped_photo_takes_its_prompt_with_it(tmp_path):
    archive = zip_of(
        ("1.jpg", photo()), ("2.jpg", photo()[:900]), ("3.jpg", photo()), ("readme", b"hello")
    )
    prompts = ("{} one", "{} two", "{} three")
    examples = prepare(write(tmp_path, archive), custom_prompts=prompts).examples
    assert [example.prompts for example in examples] == [("{} one",), ("{} three",)]


def test_when_prompts_and_photos_differ_in_number_every_photo_draws_from_all(tmp_path):
    archive = write_photos(tmp_path, range(3))
    examples = prepare(archive, custom_prompts=("{} one", "{} two")).examples
    assert [example.prompts for example in examples] == [("{} one", "{} two")] * 3


def test_a_faulty_prompt_is_refused_before_the_pictures_are_read(tmp_path):
    with pytest.raises(PromptError, match="number 1 is empty"):
        prepare(tmp_path / "missing.zip", custom_prompts=("",))


def test_a_picture_of_the_right_size_reaches_training_bit_for_bit(tmp_path):
    original = noise(128, 128)
    archive = write(tmp_path, zip_of(("1.png", encode(original))))
    (example,) = prepare(archive, resolution=128).examples
    np.testing.assert_array_equal(np.asarray(example.image), np.asarray(original))


def test_a_single_picture_is_a_set_of_one_and_this_is_called_small(tmp_path, caplog):
    assert len(prepare(write(tmp_path, photo(), "me.zip")).examples) == 1
    assert "one picture in all" in caplog.text


def test_transparency_and_enlargement_are_both_remarked(tmp_path):
    half_there = Image.new("RGBA", (32, 32))
    half_there.paste("navy", (0, 0, 16, 32))
    archive = write(tmp_path, zip_of(("1.png", encode(half_there))))
    (report,) = prepare(archive).reports
    assert report.reason.startswith("transparent pixels filled with white")
    assert "too small, enlarged 2.0x" in report.warnings


def test_pictures_of_one_moment_are_told_by_their_cameras_clock(tmp_path):
    files = []
    for number in range(3):
        exif = Image.Exif()
        taken = f"2026:05:01 12:0{number}:00"
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = taken
        files.append((f"{number}.jpg", encode(noise(96, 72, number), "JPEG", exif=exif)))
    warnings = prepare(write(tmp_path, zip_of(*files))).warnings
    assert any("3 of 3 pictures were taken within 5 minutes" in told for told in warnings)


@pytest.mark.parametrize("lost", [photo(1)[:900], encode(noise(9, 9)), b"hello"])
def test_a_picture_that_is_named_like_the_mask_of_a_lost_one_is_used(tmp_path, lost):
    files = (("anna.jpg", lost), ("anna2.jpg", photo(2)), ("anna_mask.jpg", photo(3)))
    prompts = ("{} one", "{} two", "{} in a mask")
    prepared = prepare(write(tmp_path, zip_of(*files)), custom_prompts=prompts)
    assert [report.used for report in prepared.reports] == [False, True, True]
    assert [example.prompts[0] for example in prepared.examples] == ["{} two", "{} in a mask"]


def test_a_picture_that_is_named_like_a_mask_stands_where_its_name_does(tmp_path):
    """And takes the prompt of that place, although it is met with the picture before it."""
    files = (("anna.jpg", photo(1)), ("anna_mask.jpg", photo(2)), ("bob.jpg", photo(3)))
    prompts = ("{} one", "{} in a mask", "{} three")
    prepared = prepare(write(tmp_path, zip_of(*files[::-1])), custom_prompts=prompts)
    assert [report.name for report in prepared.reports] == [name for name, _ in files]
    assert [example.prompts for example in prepared.examples] == [(one,) for one in prompts]


def test_pictures_that_are_named_like_masks_count_for_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("preprocessing.entries.MAX_PICTURES", 3)
    files = ((f"{n}{end}.jpg", photo(n)) for n in range(2) for end in ("", "_mask"))
    with pytest.raises(PictureError, match="More than 3 pictures"):
        prepare(write(tmp_path, zip_of(*files)))


def test_the_mask_of_a_lost_picture_is_no_picture(tmp_path):
    mask = Image.new("L", (96, 72))
    mask.paste(255, (0, 0, 48, 72))
    files = (("1.jpg", photo(1)[:900]), ("1_mask.png", encode(mask)), ("2.jpg", photo(2)))
    assert len(prepare(write(tmp_path, zip_of(*files))).reports) == 2


def test_all_pictures_of_a_set_share_its_time(tmp_path, monkeypatch):
    large = encode(noise(1_000, 1_000), compress_level=1)  # some clocks count hundredths of seconds
    archive = zip_of(*((f"{n}.png", large) for n in range(9)))  # more than are read at once
    no_time = partial(DecodeBudget, set_seconds=1e-6)
    monkeypatch.setattr("preprocessing.outcomes.DecodeBudget", no_time)
    with pytest.raises(PictureError, match="take too long to decode"):
        prepare(write(tmp_path, archive))


def test_neither_pictures_nor_addresses_is_explained():
    with pytest.raises(PictureError, match="both instance_data and instance_data_urls are empty"):
        prepare(None)


def test_a_zip_of_texts_is_explained(tmp_path):
    archive = write(tmp_path, zip_of(("a.txt", b"hello"), ("b.txt", b"world")))
    with pytest.raises(PictureError, match=r"No usable pictures. 2 files: a text, .*JPEG, PNG"):
        prepare(archive)


def test_an_empty_zip_is_explained(tmp_path):
    with pytest.raises(ArchiveError, match="instance_data: the zip holds no files"):
        prepare(write(tmp_path, zip_of()))


def test_what_is_no_zip_is_explained_whatever_its_name(tmp_path):
    with pytest.raises(ArchiveError, match="instance_data: neither a zip nor a picture but a PDF"):
        prepare(write(tmp_path, b"%PDF-1.7", "holiday.zip"))


def test_only_broken_photos_is_explained(tmp_path):
    archive = write(tmp_path, zip_of(("1.jpg", photo()[:900]), ("2.jpg", b"")))
    with pytest.raises(
        PictureError, match=r"1 file: a JPEG picture that is damaged.*1 file: an empty file"
    ):
        prepare(archive)


def test_pictures_of_many_sizes_that_are_all_too_small_are_told_in_one_sentence(tmp_path):
    sizes = ((f"{side}.png", encode(noise(side, 9))) for side in range(9, 99))
    with pytest.raises(PictureError, match=r"\. 90 files: 9 to 98 x 9 pixels is too small for"):
        prepare(write(tmp_path, zip_of(*sizes)))


def test_no_message_tells_our_paths(tmp_path):
    for data in (b"", b"%PDF", zip_of(), zip_of(("a", b"b")), zip_of(("1.jpg", photo()))[:-30]):
        with pytest.raises(PictureError) as refusal:
            prepare(write(tmp_path, data))
        assert str(tmp_path) not in str(refusal.value)
        assert "0x" not in str(refusal.value)


def test_more_than_a_thousand_pictures_are_refused(tmp_path):
    tiny = encode(noise(64, 64).convert("1"))
    archive = zip_of(*((f"{n}.png", tiny) for n in range(1001)), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(PictureError, match="More than 1,000 pictures"):
        prepare(write(tmp_path, archive))
