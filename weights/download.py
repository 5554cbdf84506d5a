"""Fetch a base model from the hub: whole or not at all, and exactly what the manifest names."""

import errno
import logging
import os
import shutil
import ssl
from pathlib import Path

import httpx2
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import (
    FileMetadataError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # not in its list

from weights.folder import WeightsError, claimed, complete, sha256_of
from weights.manifest import HubFile, HubModel

logger = logging.getLogger(__name__)

NO_SPACE = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
UNREACHABLE = (
    httpx2.RequestError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    FileMetadataError,
)


def download(model: HubModel, destination: Path) -> None:
    """Fetch a model's files. What an earlier try left, even half a file, is not fetched again.

    Raises:
        WeightsError: when the network, the hub, its licence page, the disk or another process that
            fetches the same stands in the way.
    """
    partial = destination.with_name(f"{destination.name}.partial")
    try:
        with claimed(partial):
            check_space(model, partial)
            for number, (hub_path, file) in enumerate(model.files.items(), 1):
                megabytes = file.size / 1e6
                logger.info("%d/%d %s, %.1f MB", number, len(model.files), file.path, megabytes)
                fetch_file(model, hub_path, partial)
            complete(partial, model, model.name)
            partial.rename(destination)
    except (*UNREACHABLE, OSError, ImportError, ValueError) as error:
        raise WeightsError(explain(error, model)) from error


def check_space(model: HubModel, partial: Path) -> None:
    """Raises: WeightsError, when what is still to come is more than the disk has room for."""
    num_bytes_here = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
    missing = model.num_bytes - num_bytes_here
    free = shutil.disk_usage(partial).free
    if missing > free:
        raise WeightsError(
            f"{model.name} needs {missing / 1e9:.1f} GB more, and the disk has {free / 1e9:.1f} GB"
            " left. Free some space and run this again."
        )


def fetch_file(model: HubModel, hub_path: str, folder: Path) -> None:
    """One file to its place in `folder`; a file that is there already is only checked."""
    file = model.files[hub_path]
    path = folder / file.path
    if path.is_file() and is_as_pinned(path, file):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.unfinished")
    fetch_bytes(hf_hub_url(model.repository, hub_path, revision=model.revision), file, unfinished)
    if not is_as_pinned(unfinished, file):
        unfinished.unlink()
        raise WeightsError(
            f"{hub_path} came with other contents than the manifest pins, and was thrown away. Run"
            " this again; if it happens again, something between you and the hub changes files:"
            " try another network."
        )
    unfinished.rename(path)


def fetch_bytes(url: str, file: HubFile, path: Path) -> None:
    """Append to `path` what it still lacks. The hub's client goes on after a lost connection."""
    metadata = get_hf_file_metadata(url)
    if metadata.size not in (None, file.size):
        raise WeightsError(
            f"The hub offers {file.path} with {metadata.size} bytes, and the manifest pins"
            f" {file.size}. Run this again; if it happens again, open an issue."
        )
    # Big files come from another host, which must not see the token.
    is_the_hubs_own = metadata.location.startswith(f"{constants.ENDPOINT}/")
    headers = build_hf_headers(token=None if is_the_hubs_own else False)
    with path.open("ab") as unfinished:
        if unfinished.tell() > file.size:
            unfinished.seek(0)
            unfinished.truncate()
        http_get(
            metadata.location,
            unfinished,
            resume_size=unfinished.tell(),
            headers=headers,
            expected_size=file.size,
            displayed_filename=file.path,
        )


def is_as_pinned(path: Path, file: HubFile) -> bool:
    return path.stat().st_size == file.size and sha256_of(path) == file.sha256


def explain(error: Exception, model: HubModel) -> str:
    """What stood in the way, and what to do."""
    again = "then run this again: it goes on where it stopped."
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, RemoteEntryNotFoundError | RevisionNotFoundError):
        return (
            f"The hub no longer has all of {model.name} at the revision that the manifest pins. Get"
            " the model elsewhere and give it with --from, and open an issue."
        )
    if isinstance(error, RepositoryNotFoundError) or status in (401, 403):
        return (
            f"The hub does not let you have {model.name}: it is gone, or its licence must be"
            f" accepted first. Log in at {constants.ENDPOINT}/{model.repository}, accept"
            f" {model.licence} if it asks, put a token of yours into HF_TOKEN, {again}"
        )
    if isinstance(error, OfflineModeIsEnabled):
        return f"HF_HUB_OFFLINE is set, so {model.name} may not be fetched. Unset it, {again}"
    if is_about_settings(error):
        return (
            f"{model.name} could not be fetched: the network's settings cannot be used"
            f" ({type(error).__name__}). HTTP_PROXY, HTTPS_PROXY and ALL_PROXY must name an http://"
            " proxy, none of socks, SSL_CERT_FILE a file of certificates, and HF_TOKEN a token of"
            f" the hub. Mend or unset them, {again}"
        )
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, UNREACHABLE) or number is None:  # the client's own have no number
        answer = f"it answered with status {status}" if status else type(error).__name__
        return (
            f"{model.name} could not be fetched: the connection to the hub failed ({answer}). Check"
            f" the network and the proxy, {again}"
        )
    what = "the disk is full" if number in NO_SPACE else os.strerror(number)
    return (
        f"{model.name} could not be written: {what}. It needs {model.num_bytes / 1e9:.1f} GB under"
        f" weights/. Mend that, {again}"
    )


def is_about_settings(error: Exception) -> bool:
    """The client's, of what the environment asks of it. That of a missing file names no file."""
    is_missing = isinstance(error, FileNotFoundError) and error.filename is None
    return is_missing or isinstance(error, ImportError | ValueError | ssl.SSLError)
