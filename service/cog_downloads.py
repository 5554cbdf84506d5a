"""The zip behind an address in instance_data, in a download that ends and can be cancelled.

Cog would fetch it before it calls the predictor, without a limit, and deaf meanwhile: a web server
that sends a byte a second keeps it busy for days, whoever cancels or sends SIGTERM, and one that
never ends fills the disk. So Cog only makes the file, which the run fills. (Seen in Cog 0.23.1.)
"""

import io
import threading
from collections.abc import Callable
from contextlib import closing
from functools import partial, partialmethod
from pathlib import Path
from typing import Any, BinaryIO

import requests

from preprocessing.download import TOO_SLOW, read_some, reasons_told, refuse_size, refuse_status
from preprocessing.errors import DownloadError
from preprocessing.limits import MAX_ARCHIVE_BYTES
from preprocessing.share_links import host_of
from preprocessing.threads import result_of, start
from service.workplace import Workplace, storage_error

_to_fetch: dict[Path, Any] = {}  # the files that Cog made empty -> its URLPath


def leave_downloads_to_runs(url_path: Any, workplace: Workplace) -> None:
    """From here on Cog makes an empty file for an address. It decodes data URIs as before.

    `url_path`: Cog's class of that name, which is not typed.
    """
    url_path.convert = partialmethod(_make_file, url_path.convert, workplace)


def _make_file(upload: Any, convert: Callable[[Any], Path], workplace: Workplace) -> Path:
    source = upload.fileobj
    is_address = not isinstance(source, io.BytesIO)  # else it is what a data URI held
    if is_address:
        upload.fileobj = io.BytesIO()
    try:
        path = convert(upload)
    except OSError as error:
        workplace.clear()  # Cog leaves what it has written: the disk would stay full
        raise storage_error("instance_data could not be written", error) from error
    if is_address:
        upload.fileobj = source
        _to_fetch[path] = upload
    return path


def fetch(path: Path | None, max_seconds: float) -> None:
    """Fill the file if Cog made it for an address. A cancellation gets through.

    Raises: DownloadError; OSError, if the disk is full.
    """
    upload = _to_fetch.pop(path, None) if path else None
    _to_fetch.clear()  # of runs that were cancelled before they came here
    if not path or not upload:
        return
    is_given_up = threading.Event()
    try:
        with path.open("wb") as file:
            result_of(start(partial(_copy, upload.fileobj, file, is_given_up)), max_seconds)
    except TimeoutError as error:
        raise DownloadError(_about(upload, TOO_SLOW)) from error
    except DownloadError as error:
        raise DownloadError(_about(upload, str(error))) from error
    finally:
        is_given_up.set()


def _about(upload: Any, reason: str) -> str:
    return f"instance_data ({host_of(upload.source) or 'without a host'}): {reason}"


def _copy(source: Any, file: BinaryIO, is_given_up: threading.Event) -> None:
    num_bytes = 0
    with closing(_open(source)) as response:
        expected = response.headers.get("Content-Length", "")
        refuse_size(int(expected) if expected.isdecimal() else 0, MAX_ARCHIVE_BYTES)
        while not is_given_up.is_set() and (chunk := read_some(response)):
            num_bytes += len(chunk)
            refuse_size(num_bytes, MAX_ARCHIVE_BYTES)
            file.write(chunk)


def _open(source: Any) -> Any:
    """urllib3's response to what Cog asks, which it may ask of private networks, too.

    Raises: DownloadError.
    """
    with reasons_told():
        try:
            return source.__wrapped__
        except requests.HTTPError as error:
            error.response.close()
            refuse_status(error.response.status_code)
            raise
