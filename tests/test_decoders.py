"""Photos are decoded in processes of their own, in bounded time and memory."""

import gc
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from preprocessing.decoders import (
    DecodeBudget,
    DecoderError,
    end_idle_workers,
    read_photo_apart,
)
from preprocessing.errors import PhotoError, PictureError
from preprocessing.kinds import picture_kind
from preprocessing.limits import MAX_DECODE_BYTES
from preprocessing.photos import Photo, read_photo
from service.answers import InternalError, answered
from tests.bombs import (
    jpeg2000_of_tiny_precincts,
    jpeg_of_many_scans,
    png_of_many_chunks,
    tiff_of_one_tile,
)
from tests.conftest import REPOSITORY
from tests.pictures import HEIC_SIDEWAYS, encode, noise, photo
from training.settings import TrainingInputs


def read(data: bytes, budget: DecodeBudget | None = None) -> Photo:
    return read_photo_apart(data, 64, 2, budget or DecodeBudget())


@pytest.mark.parametrize(
    "data",
    [
        photo(),
        HEIC_SIDEWAYS,
        encode(noise(80, 64).convert("RGBA")),
        encode(noise(80, 64).convert("P"), "GIF", save_all=True, append_images=[noise(80, 64)]),
    ],
    ids=["JPEG", "HEIC", "RGBA", "animation"],
)
def test_what_comes_back_is_what_decoding_here_gives(data):
    here, apart = read_photo(data, 64), read(data)
    np.testing.assert_array_equal(np.asarray(apart.image), np.asarray(here.image))
    assert (apart.size, apart.remarks) == (here.size, here.remarks)


def test_a_refusal_comes_back_word_for_word():
    for data in (photo()[:900], encode(noise(9, 9)), b"hello", b""):
        with pytest.raises(PhotoError) as here:
            read_photo(data, 64)
        with pytest.raises(PhotoError) as apart:
            read(data)
        assert str(apart.value) == str(here.value)


BOMBS = {
    "JPEG 2000": (jpeg2000_of_tiny_precincts(1_000), 200),
    "JPEG": (jpeg_of_many_scans(1_000, 5_000), 300_000),
    "PNG": (png_of_many_chunks(500_000), 7_000_000),
    "TIFF": (tiff_of_one_tile(64, 12_000), 500_000),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_takes_more_time_than_it_may_is_given_up(name):
    data, most_bytes = BOMBS[name]
    assert len(data) < most_bytes
    budget = DecodeBudget(photo_seconds=0.25, set_seconds=10.0)
    read(photo(), budget)  # so that a process is running
    start = time.monotonic()
    with pytest.raises(PhotoError, match="takes too much time or memory to decode") as refusal:
        read(data, budget)
    assert time.monotonic() - start < 5.0
    assert picture_kind(data) in str(refusal.value)
    assert budget.set_seconds <= 10.0 - 0.25


@pytest.mark.slow
def test_what_takes_more_memory_than_it_may_is_given_up():
    with pytest.raises(PhotoError, match="2000 picture"):
        read(jpeg2000_of_tiny_precincts(9_999))  # 42 GB
    end_idle_workers()
    most_bytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    assert most_bytes < 4.2 * 2**30


def test_after_a_bomb_the_next_photo_is_decoded_as_ever():
    budget = DecodeBudget(photo_seconds=0.25, set_seconds=10.0)
    with pytest.raises(PhotoError):
        read(BOMBS["JPEG"][0], budget)
    assert read(photo(), budget).size == (96, 72)


def test_a_set_has_its_time_too_and_this_is_said():
    budget = DecodeBudget(photo_seconds=0.2, set_seconds=0.5)
    start = time.monotonic()
    for _ in range(3):
        with pytest.raises(PhotoError):
            read(BOMBS["JPEG"][0], budget)
    with pytest.raises(PictureError, match=r"take too long to decode\. Send fewer") as refusal:
        read(photo(), budget)
    assert not isinstance(refusal.value, PhotoError)
    assert time.monotonic() - start < 10.0


def test_ordinary_photos_spend_what_they_take():
    budget = DecodeBudget()
    before = budget.set_seconds
    read(encode(noise(1_000, 1_000)), budget)
    assert 0.001 < before - budget.set_seconds < 2.0


def test_processes_are_used_again_and_many_threads_do_not_meet():
    budget, photos = DecodeBudget(), [encode(noise(80, 64, seed)) for seed in range(4)]
    wrong = []

    def decode(seed: int) -> None:
        for _ in range(5):
            if (
                np.asarray(read(photos[seed], budget).image).tobytes()
                != noise(80, 64, seed).tobytes()
            ):
                wrong.append(seed)

    threads = [threading.Thread(target=decode, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_process_that_was_killed_while_it_was_idle_is_replaced():
    end_idle_workers()
    read(photo())
    for process in Path("/proc/self/task").glob("*/children"):
        for child in process.read_text(encoding="ascii").split():
            if b"preprocessing.decode_worker" in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(int(child), signal.SIGKILL)
                time.sleep(0.1)
                break
    assert read(photo()).size == (96, 72)


def test_processes_that_were_ended_leave_nothing_open():
    read(photo())
    end_idle_workers()
    gc.collect()  # would warn of an open pipe, and warnings are errors
    assert read(photo()).size == (96, 72)


def test_a_process_at_work_ends_with_the_one_that_asked(tmp_path):
    """As when a run is stopped: nobody waits for the thread that decodes."""
    (tmp_path / "bomb").write_bytes(BOMBS["JPEG"][0])
    code = (
        "import sys, threading, time; from pathlib import Path;"
        " from preprocessing.decoders import *; from preprocessing import decoders;"
        " data = Path(sys.argv[1]).read_bytes(); arguments = (data, 64, 2, DecodeBudget());"
        " threading.Thread(target=read_photo_apart, args=arguments, daemon=True).start();"
        " time.sleep(2);"
        " print(*[worker.pid for worker in decoders._workers], decoders._idle_workers.empty())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "bomb"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    worker, is_at_work = run.stdout.split()
    assert is_at_work == "True"
    assert not Path(f"/proc/{worker}").exists()


DECODE = (
    "import sys; sys.path.insert(0, sys.argv[1]);"
    " from tests.test_decoders import read, photo; print(read(photo()).size)"
)


def decode_elsewhere(folder: Path, before: str = "", **environment: str):
    """In a process that was started in another folder."""
    return subprocess.run(
        ["sh", "-c", f'{before} exec "$0" "$@"', sys.executable, "-c", DECODE, REPOSITORY],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_photos_are_decoded_where_python_does_not_look_into_its_folder(tmp_path):
    assert decode_elsewhere(tmp_path, PYTHONSAFEPATH="1").stdout == "(96, 72)\n"


@pytest.mark.slow
def test_photos_are_decoded_where_less_memory_is_allowed_than_a_decoder_may_take(tmp_path):
    run = decode_elsewhere(tmp_path, before=f"ulimit -v {MAX_DECODE_BYTES // 1024 - 500_000};")
    assert run.stdout == "(96, 72)\n", run.stderr


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("PYTHONHOME", "/nowhere", "exit code 1"),  # Python without its library
        ("LONG", 200_000 * "x", "Argument list too long"),  # the kernel refuses
    ],
)
def test_a_decoder_that_cannot_start_is_our_fault_and_not_the_photos(
    monkeypatch, variable, value, reason
):
    end_idle_workers()
    monkeypatch.setenv(variable, value)
    budget = DecodeBudget()
    before = budget.set_seconds
    with pytest.raises(DecoderError, match=f"decoder of pictures did not start: {reason}"):
        read(photo(), budget)
    assert budget.set_seconds == before
    with pytest.raises(InternalError, match="on our side"), answered(TrainingInputs()):
        read(photo())


@pytest.mark.slow
def test_why_a_decoder_cannot_start_is_in_the_servers_own_log(tmp_path):
    """Asked with a library that breaks on import, which the decoders find first."""
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit('a broken library')")
    code = f"import os; os.environ['PYTHONPATH'] = {str(tmp_path)!r}; {DECODE}"
    run = subprocess.run(
        [sys.executable, "-c", code, REPOSITORY], capture_output=True, text=True, check=False
    )
    assert "a broken library" in run.stderr
    assert "DecoderError: The decoder of pictures did not start: exit code 1." in run.stderr
