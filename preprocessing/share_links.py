"""Addresses that people copy lead to pages about a file; these lead to the file."""

import re
from urllib.parse import SplitResult, parse_qs, parse_qsl, urlencode, urlsplit, urlunsplit

from preprocessing.errors import DownloadError

_GOOGLE_DRIVE = ("drive.google.com", "docs.google.com")
_DROPBOX = ("dropbox.com", "www.dropbox.com")
_GITHUB = ("github.com", "www.github.com")
_MAX_HOST_CHARACTERS = 253  # RFC 1035


def direct_link(url: str) -> str:
    """An address as people share it -> the address that downloads the file.

    Raises: DownloadError, for what is no web address, or that of a Google Drive folder.
    """
    parts = _split(url)
    if parts.hostname in _GOOGLE_DRIVE:
        return _google_drive_link(url)
    if parts.hostname in _DROPBOX:
        query = {**dict(parse_qsl(parts.query)), "dl": "1"}
        return urlunsplit(parts._replace(query=urlencode(query)))
    if parts.hostname in _GITHUB:
        path = re.sub(r"^(/[^/]+/[^/]+)/blob/", r"\1/raw/", parts.path)
        return urlunsplit(parts._replace(path=path))
    return url


def host_of(url: str) -> str:
    """The host alone: the rest of an address may hold what gives access. "" if it has none.

    Nor of what is no web address: that may be a sentence that somebody put into the wrong field.
    """
    try:
        return _split(url).hostname or ""
    except DownloadError:
        return ""


def _split(url: str) -> SplitResult:
    advice = "Write one address a line, each beginning with https://."
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise DownloadError(f"no web address. {advice}") from error
    is_web_address = (
        parts.scheme in ("http", "https")
        and 0 < len(parts.hostname or "") <= _MAX_HOST_CHARACTERS
        and not re.search(r"\s", url)
        and url.isprintable()
    )
    if not is_web_address:
        raise DownloadError(f"no web address. {advice}")
    return parts


def _google_drive_link(url: str) -> str:
    parts = urlsplit(url)
    if "/folders/" in parts.path:
        raise DownloadError(
            "a Google Drive folder, which cannot be downloaded. Share a zip, or each picture."
        )
    in_path = re.findall(r"^/file/(?:u/\d+/)?d/([-\w]+)", parts.path)
    file_ids = in_path or parse_qs(parts.query).get("id", [])
    if not file_ids:
        return url
    query = {"id": file_ids[0], "export": "download", "confirm": "t"}  # t: past the scan's page
    # Files shared before September 2021 may open only with the key that their link has.
    for key in parse_qs(parts.query).get("resourcekey", [])[:1]:
        query["resourcekey"] = key
    return f"https://drive.usercontent.google.com/download?{urlencode(query)}"
