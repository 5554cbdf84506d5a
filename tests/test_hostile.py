"""Whatever is sent ends in pictures or in one sentence, in bounded time and memory.

Every case is generated, and the same in every run. The tests that are not slow try the first few.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

from preprocessing.download import PUBLIC_ADDRESSES, DownloadPolicy
from preprocessing.errors import PictureError
from preprocessing.prepare import Prepared, prepare_examples
from preprocessing.prompts import parse_list
from tests.hostile_answers import answers
from tests.hostile_archives import SECRET, archives, lists_as_text
from tests.hostile_pictures import pictures
from tests.loopback import Answer, Server, running_server
from tests.pictures import photo, write, zip_of
from tests.watch import Deeds, forget_peak_memory, peak_memory_bytes, watch

SIDE = 64
MOST_SECONDS = 20.0  # far above what any case takes: other programs run on this machine too
MOST_BYTES = 64 * 2**20  # the largest picture that is made here takes 7 MB
NO_RETRIES = replace(PUBLIC_ADDRESSES, num_tries=1, connect_seconds=1.0, read_seconds=1.0)
THIS_MACHINE_TOO = replace(NO_RETRIES, allow_loopback=True, file_seconds=2.0)

Case = TypeVar("Case")


def few_and_many(few: int, many: int) -> pytest.MarkDecorator:
    """Runs a test twice, as one that is quick and as one that is slow."""
    return pytest.mark.parametrize("number", [few, pytest.param(many, marks=pytest.mark.slow)])


def try_cases(number: int, kind: SearchStrategy[Case], check: Callable[[Case], None]) -> None:
    @settings(
        max_examples=number,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(kind)
    def try_all_cases(case: Case) -> None:
        check(case)

    try_all_cases()


@pytest.fixture(scope="module", autouse=True)
def folder() -> Iterator[Path]:
    """Nothing but the archive ever lies here."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(write(folder, zip_of(("1.jpg", photo()))))  # loads and starts what stays
        yield folder


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as server:
        yield server


def prepare(
    archive: Path | None, urls: tuple[str, ...] = (), policy: DownloadPolicy = NO_RETRIES
) -> Prepared:
    return prepare_examples(
        archive=archive,
        urls=urls,
        task="object",
        resolution=SIDE,
        custom_prompts=(f"{{}} {SECRET}",),
        policy=policy,
    )


def try_all(
    archive: Path | None, text: str = "", policy: DownloadPolicy = NO_RETRIES
) -> tuple[Prepared | PictureError, Deeds]:
    """As the form does. Whatever else is raised fails the test."""
    before, start = forget_peak_memory(), time.monotonic()
    with watch() as deeds:
        try:
            urls = parse_list(text, "instance_data_urls")
            outcome: Prepared | PictureError = prepare(archive, urls, policy)
        except PictureError as error:
            outcome = error
    assert time.monotonic() - start < MOST_SECONDS
    assert peak_memory_bytes() - before < MOST_BYTES
    return outcome, deeds


def check(outcome: Prepared | PictureError, deeds: Deeds) -> None:
    assert deeds.written == []
    assert SECRET not in "".join(deeds.logged)
    if isinstance(outcome, PictureError):
        check_sentence(str(outcome))
        return
    assert outcome.examples
    for example in outcome.examples:
        assert (example.image.mode, example.image.size) == ("RGB", (SIDE, SIDE))
        assert example.mask is None or (example.mask.mode, example.mask.size) == ("L", (SIDE, SIDE))
    numbers = [report.position for report in outcome.reports]
    assert numbers == list(range(1, len(numbers) + 1))
    assert sum(report.used for report in outcome.reports) == len(outcome.examples)
    for report in outcome.reports:
        assert report.used or report.reason
        assert report.reason.isprintable()
        assert SECRET not in report.reason


def check_sentence(message: str) -> None:
    """One line for the person who sent the pictures, not for us."""
    assert message.isprintable()
    assert message.endswith((".", '"', ")"))
    assert 20 < len(message) < 2_000
    for word in (SECRET, "at 0x", "Error:", "<", tempfile.gettempdir(), "preprocessing", ".py"):
        assert word not in message


def check_file(folder: Path, data: bytes) -> None:
    path = write(folder, data, f"{SECRET}.zip")
    outcome, deeds = try_all(path)
    check(outcome, deeds)
    assert deeds.asked == []
    assert list(folder.rglob(f"*{SECRET}*")) == [path]
    assert path.read_bytes() == data


def check_addresses(text: str) -> None:
    outcome, deeds = try_all(None, text)
    check(outcome, deeds)
    assert isinstance(outcome, PictureError)
    assert deeds.asked == []


def check_answer(server: Server, raw: tuple[bytes, ...]) -> None:
    url = server.offer(f"/{SECRET}.jpg", Answer(raw, is_raw=True))
    outcome, deeds = try_all(None, f"{url}?{SECRET}", THIS_MACHINE_TOO)
    check(outcome, deeds)
    assert all("127.0.0.1" in address or "::1" in address for address in deeds.asked)


@few_and_many(40, 300)
def test_an_archive_ends_in_pictures_or_in_one_sentence(folder, number):
    try_cases(number, archives(), lambda data: check_file(folder, data))


@few_and_many(25, 200)
def test_a_picture_ends_in_a_picture_or_in_one_sentence(folder, number):
    try_cases(number, pictures(), lambda data: check_file(folder, data))


@few_and_many(25, 200)
def test_addresses_that_lead_astray_end_in_one_sentence_and_nobody_is_asked(number):
    try_cases(number, lists_as_text(), check_addresses)


# urllib3 leaves the socket to the garbage collector when a server names two lengths.
@pytest.mark.filterwarnings("ignore:Exception ignored in.*socket")
@few_and_many(20, 120)
def test_an_answer_ends_in_pictures_or_in_one_sentence(server, number):
    try_cases(number, answers(), lambda raw: check_answer(server, raw))


@pytest.mark.parametrize("seed", range(3))
def test_the_watch_would_see_what_is_written_and_who_is_asked(folder, server, seed):
    with watch() as deeds:
        (folder / f"seen-{seed}").write_bytes(b"")
        (folder / f"seen-{seed}").unlink()
    assert deeds.written == [str(folder / f"seen-{seed}")] * 2
    url = server.offer("/1.jpg", Answer((photo(seed),)))
    _, deeds = try_all(None, url, THIS_MACHINE_TOO)
    assert deeds.asked == [str(("127.0.0.1", server.server_port))]
    assert deeds.logged
