"""Addresses -> the files behind them: public ones only, bounded in time and size, in order."""

import logging
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import BinaryIO
from urllib.parse import urljoin

import requests
from requests_hardened.ip_filter import InvalidIPAddress
from requests_hardened.ip_filter_adapter import IPFilterAdapter
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from preprocessing.archive import File, read_files
from preprocessing.errors import ArchiveError, DownloadError, PictureError
from preprocessing.kinds import HEAD_BYTES, WEB_PAGE, describe, is_archive, picture_kind
from preprocessing.limits import (
    GIB,
    KIB,
    MAX_ADDRESSES,
    MAX_ARCHIVE_BYTES,
    MAX_FILE_BYTES,
    MAX_UNPACKED_BYTES,
    MIB,
)
from preprocessing.share_links import direct_link, host_of
from preprocessing.threads import map_in_order, result_of

# Both log addresses, with whatever secret they carry, or what a private name resolves to.
for talkative in ("urllib3", "requests_hardened"):
    logging.getLogger(talkative).setLevel(logging.CRITICAL + 1)

_USER_AGENT = "Mozilla/5.0 (compatible; lora-training)"  # some hosts refuse a bare library's name
_CHUNK_BYTES = 256 * KIB
_TRY_AGAIN = (HTTPStatus.TOO_MANY_REQUESTS, *range(500, 600))
_SIGNED_OUT = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_FIRST_PAUSE_SECONDS = 0.5
_GRACE_SECONDS = 1.0  # a download that keeps its own deadline reports better than one given up

_SHARE = (
    "The link leads to a page about the file: share the file with everyone who has the link, and"
    " use the link that downloads it. (Google Drive also shows a page when a file was asked for too"
    " often that day.)"
)
TOO_SLOW = "took too long. Try again, or send the pictures as a zip."
# The first that fits; the last fits all.
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (InvalidIPAddress, "leads into a private network. Only public addresses are fetched."),
    (requests.TooManyRedirects, "redirects without end. Give the address it should lead to."),
    (requests.exceptions.InvalidSchema, "redirects to something other than http or https."),
    (requests.Timeout, "did not answer in time. Try again, or send the pictures as a zip."),
    (requests.ConnectionError, "cannot be reached. Is the address right?"),
    (requests.exceptions.InvalidHeader, "sent an answer that contradicts itself. Send a zip."),
    (ValueError, "no address that can be fetched. Is it complete?"),
    (Exception, "broke off while it was sending. Try again, or send the pictures as a zip."),
)


@dataclass(frozen=True, kw_only=True)
class DownloadPolicy:
    """Who may be asked, and how long for.

    Attributes:
        allow_loopback: also fetch from this machine itself.
        file_seconds, total_seconds: from first to last byte, of one address and of all together.
    """

    allow_loopback: bool
    connect_seconds: float = 5.0
    read_seconds: float = 15.0
    file_seconds: float = 120.0
    total_seconds: float = 600.0
    max_redirects: int = 5
    num_tries: int = 3
    num_threads: int = 4


PUBLIC_ADDRESSES = DownloadPolicy(allow_loopback=False)


def read_addresses(urls: tuple[str, ...], policy: DownloadPolicy) -> Iterator[File]:
    """The file behind each address, in order; a zip or tar gives the files in it.

    An address that fails gives a file with a problem, which names its number and host only: the
    rest of an address may be a secret.

    Raises: DownloadError, for too many addresses or too many bytes in all.
    """
    if len(urls) > MAX_ADDRESSES:
        raise DownloadError(
            f"instance_data_urls holds {len(urls):,} addresses; at most {MAX_ADDRESSES:,} are"
            " accepted. Put the pictures into one zip."
        )
    last_second = time.monotonic() + policy.total_seconds
    fetch = partial(_fetch, policy=policy, last_second=last_second)
    futures = map_in_order(fetch, urls, num_threads=policy.num_threads)
    num_bytes = 0
    for number, (url, future) in enumerate(zip(urls, futures, strict=True), 1):
        try:
            source = _wait_for(future, policy, last_second)
        except DownloadError as error:
            yield _failed(number, url, error)
            continue
        with source:
            num_bytes += source.seek(0, 2)
            _refuse_too_much(num_bytes)
            try:
                for file in read_files(source, _label(url)):
                    yield replace(file, source=number)
            except ArchiveError as error:
                yield _failed(number, url, error)


def _failed(number: int, url: str, error: PictureError) -> File:
    problem = f"address {number} ({host_of(url) or 'without a host'}): {error}"
    return File(name=_label(url), data=b"", problem=problem, is_picture=True, source=number)


def _label(url: str) -> str:
    """Host and last part of the path: what comes after a "?" is often a key."""
    path = url.partition("?")[0].partition("#")[0]
    return f"{host_of(url)}/{path.rpartition('/')[2]}"


def _refuse_too_much(num_bytes: int) -> None:
    if num_bytes > MAX_UNPACKED_BYTES:
        raise DownloadError(
            f"instance_data_urls leads to more than {MAX_UNPACKED_BYTES // GIB} GiB."
            " Send fewer or smaller pictures."
        )


def _wait_for(future: Future[BinaryIO], policy: DownloadPolicy, last_second: float) -> BinaryIO:
    """Even where no time limit reaches: name servers, and headers that come letter by letter."""
    seconds = min(policy.file_seconds, max(0.0, last_second - time.monotonic()))
    try:
        return result_of(future, seconds + _GRACE_SECONDS)
    except TimeoutError as error:
        raise DownloadError(TOO_SLOW) from error


def _fetch(url: str, *, policy: DownloadPolicy, last_second: float) -> BinaryIO:
    """What is behind an address, in a file without a name.

    Raises: DownloadError; OSError, if the disk is full.
    """
    link = direct_link(url)
    last_second = min(last_second, time.monotonic() + policy.file_seconds)
    with _open_session(policy) as session:
        with reasons_told():
            response = _follow(session, link, policy, last_second)
        with response:
            return _save(response, last_second)


@contextmanager
def reasons_told() -> Iterator[None]:
    """For what is asked of the network; not for the disk, of which callers know nothing."""
    try:
        yield
    except DownloadError:
        raise
    except (requests.RequestException, HTTPError, OSError, ValueError) as error:
        reason = next(reason for kind, reason in _REASONS if isinstance(error, kind))
        raise DownloadError(reason) from error


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: requests would read whatever comes with a redirect, however much it is."""


def _open_session(policy: DownloadPolicy) -> requests.Session:
    """A session that looks a host up once, checks the address found, and asks that very one."""
    session = _Session()
    for scheme in ("http", "https"):
        adapter = IPFilterAdapter(
            is_https_proto=scheme == "https", allow_loopback=policy.allow_loopback
        )
        session.mount(f"{scheme}://", adapter)
    session.trust_env = False  # a proxy would do the looking up
    session.headers["User-Agent"] = _USER_AGENT
    session.headers["Accept-Encoding"] = "identity"  # what is unpacked here cannot be bounded
    return session


def _follow(
    session: requests.Session, link: str, policy: DownloadPolicy, last_second: float
) -> requests.Response:
    """The answer at the end of all redirects. Raises: DownloadError, RequestException."""
    for _ in range(policy.max_redirects + 1):
        response = _ask(session, link, policy, last_second)
        if not response.is_redirect:
            return response
        response.close()
        target = response.headers["Location"].encode("latin-1")  # http's; sent as UTF-8 by most
        link = urljoin(link, target.decode("utf-8", errors="replace"))
    raise requests.TooManyRedirects


def _ask(
    session: requests.Session, link: str, policy: DownloadPolicy, last_second: float
) -> requests.Response:
    """The first answer that is not "try again". Raises: DownloadError, RequestException."""
    timeout = (policy.connect_seconds, policy.read_seconds)
    for attempt in range(1, policy.num_tries + 1):
        _require_time(last_second)
        try:
            response = session.get(link, stream=True, timeout=timeout)
            if response.status_code not in _TRY_AGAIN or attempt == policy.num_tries:
                return response
            response.close()
        except requests.ConnectionError:
            if attempt == policy.num_tries:
                raise
        time.sleep(_FIRST_PAUSE_SECONDS * attempt)
    raise AssertionError("the last attempt returns or raises")


def _save(response: requests.Response, last_second: float) -> BinaryIO:
    refuse_status(response.status_code)
    if response.headers.get("Content-Encoding", "").strip().lower() not in ("", "identity"):
        raise DownloadError("sent in a compressed form that was not asked for. Send a zip instead.")
    with ExitStack() as closed_on_failure:
        file = closed_on_failure.enter_context(tempfile.TemporaryFile())
        _copy_bounded(response, file, last_second)
        closed_on_failure.pop_all()
        return file


def refuse_status(status: int) -> None:
    if status in _SIGNED_OUT:
        raise DownloadError(
            f"refused (status {status}). Share it with everyone who has the link, or send a zip."
        )
    if status != HTTPStatus.OK:
        known = HTTPStatus(status).phrase if status in list(HTTPStatus) else "unknown"
        advice = (
            "Try again later, or send the pictures as a zip."
            if status in _TRY_AGAIN
            else "Open it in a browser first."
        )
        raise DownloadError(f"answered with status {status} ({known}). {advice}")


def _copy_bounded(response: requests.Response, file: BinaryIO, last_second: float) -> None:
    head = b""
    while len(head) < HEAD_BYTES and (chunk := _read_some(response, last_second)):
        head += chunk
    if not is_archive(head) and not picture_kind(head):
        noun, advice = describe(head)
        raise DownloadError(f"not a picture but {noun}. {_SHARE if noun == WEB_PAGE else advice}")
    max_bytes = MAX_ARCHIVE_BYTES if is_archive(head) else MAX_FILE_BYTES
    expected = response.headers.get("Content-Length", "")
    refuse_size(int(expected) if expected.isdecimal() else 0, max_bytes)
    num_bytes = len(head)
    file.write(head)
    while chunk := _read_some(response, last_second):
        num_bytes += len(chunk)
        refuse_size(num_bytes, max_bytes)
        file.write(chunk)
    if expected and expected != str(num_bytes):
        raise DownloadError("broke off while it was sending. Try again, or send a zip.")


def refuse_size(num_bytes: int, max_bytes: int) -> None:
    if num_bytes > max_bytes:
        raise DownloadError(f"more than {max_bytes // MIB:,} MiB. Send it smaller.")


def _read_some(response: requests.Response, last_second: float) -> bytes:
    _require_time(last_second)
    return read_some(response.raw)


def read_some(body: BaseHTTPResponse) -> bytes:
    """What has arrived. (To wait for more would leave a server that drips its bytes unwatched.)

    Raises: DownloadError.
    """
    with reasons_told():
        return body.read1(_CHUNK_BYTES)


def _require_time(last_second: float) -> None:
    if time.monotonic() > last_second:
        raise DownloadError(TOO_SLOW)
