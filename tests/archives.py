"""What is read from an archive that was sent, and what forgers make of one."""

import io

from preprocessing.archive import File, read_files


def files_in(data: bytes) -> list[File]:
    return list(read_files(io.BytesIO(data), "holiday.zip"))


def names_in(data: bytes) -> list[str]:
    return [file.name for file in files_in(data)]


def problem_with(data: bytes) -> str:
    (file,) = files_in(data)
    assert file.data == b""
    return file.problem


def patch(data: bytes, mark: bytes, offset: int, value: bytes) -> bytes:
    """Overwrites bytes at `offset` behind the last `mark`: what a forger would do."""
    start = data.rindex(mark) + offset
    return data[:start] + value + data[start + len(value) :]
