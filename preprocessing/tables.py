"""A table of captions that came with the pictures: metadata.jsonl, captions.csv and the like."""

import csv
import io
import json
import logging
from collections.abc import Iterator, Sequence, Set
from pathlib import PurePosixPath

from preprocessing.captions import CaptionError, clean_text, decode
from preprocessing.entries import Entry, EntryError, clean_name, comparable, read_whole
from preprocessing.limits import MAX_TABLES_BYTES

logger = logging.getLogger(__name__)

_NAME_COLUMNS = ("file_name", "filename", "image_file")
_TEXT_COLUMNS = ("text", "caption")
_REST = "the rest of the row"
_DELIMITERS = (",", ";", "\t")  # spreadsheets write ";" where a comma is part of numbers


def read_tables(
    tables: Sequence[Entry], pictures: Set[str]
) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Captions by path; and of those tables that give none, name and problem.

    Args:
        pictures: the paths of all pictures in the archive. All paths are `comparable`.
    """
    found: dict[str, str] = {}
    problems: list[tuple[str, str]] = []
    num_bytes_left = MAX_TABLES_BYTES
    for table in tables:
        try:
            data = read_whole(table, num_bytes_left)
            num_bytes_left -= len(data)
            captions = _by_path(read_table(data, table.name), table.name)
            if pictures.isdisjoint(captions):
                raise CaptionError("none of its rows names a picture that was sent with it")
        except (EntryError, CaptionError) as error:
            problems.append((table.name, f"a table of captions that is not used: {error}"))
            continue
        num_lost = len(captions.keys() - pictures)
        if num_lost:
            logger.warning("captions: rows of a table that name no picture: %d", num_lost)
        found = {path: text for path, text in captions.items() if path in pictures} | found
    return found, problems


def _by_path(rows: dict[str, str], table: str) -> dict[str, str]:
    """Rows name pictures as seen from the table's own folder."""
    folder = PurePosixPath(table).parent
    return {comparable(clean_name(f"{folder}/{name}")): text for name, text in rows.items()}


def read_table(data: bytes, name: str) -> dict[str, str]:
    """The bytes of a table -> file name, as it stands there -> caption.

    Args:
        name: ends in .jsonl, one JSON object a line, or in .csv, columns named in the first line.

    Raises: CaptionError, if it cannot be read or lacks one of the two columns.
    """
    read_rows = _json_rows if name.lower().endswith(".jsonl") else _csv_rows
    captions: dict[str, str] = {}
    for row in read_rows(decode(data)):
        file_name, text = _first(row, _NAME_COLUMNS), clean_text(_first(row, _TEXT_COLUMNS))
        if file_name and text:
            captions.setdefault(file_name, text)
    if not captions:
        raise CaptionError(
            f"no row has both a file's name ({' or '.join(_NAME_COLUMNS)}) and a caption"
            f" ({' or '.join(_TEXT_COLUMNS)})"
        )
    return captions


def _json_rows(text: str) -> Iterator[dict[str, object]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CaptionError(f"line {number} is not JSON") from error
        if not isinstance(row, dict):
            raise CaptionError(f'line {number} is not an object like {{"file_name": ..., ...}}')
        yield {column.strip().lower(): value for column, value in row.items()}


def _csv_rows(text: str) -> Iterator[dict[str, object]]:
    header = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=header.count)
    is_one_open = text.count('"') % 2 == 1  # and what follows it, rows and all, is one cell
    try:
        rows = csv.DictReader(
            io.StringIO(text, newline=""),
            delimiter=delimiter,
            skipinitialspace=True,  # or the quotes of `1.jpg, "a dog, asleep"` would not be seen
            restkey=_REST,
        )
        for number, row in enumerate(rows, 1):
            rest = [part for part in row.pop(_REST, ()) if part]
            cells = {str(column).strip().lower(): value for column, value in row.items()}
            last = next(reversed(cells), "")
            if rest and last in _TEXT_COLUMNS:  # a sentence with commas, not in quotes
                cells[last] = f"{delimiter} ".join((cells[last], *rest))
            if is_one_open and any("\n" in str(cell) for cell in cells.values()):
                raise CaptionError(f'a quote (") in its row {number} is opened and not closed')
            yield cells
    except csv.Error as error:
        raise CaptionError("it is not in the form of a CSV") from error


def _first(row: dict[str, object], columns: Sequence[str]) -> str:
    values = (row.get(column) for column in columns)
    return next((value.strip() for value in values if isinstance(value, str)), "")
