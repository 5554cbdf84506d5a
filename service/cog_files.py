"""Where Cog itself keeps requests on disk: one folder for all its servers, whatever TMPDIR says.

It makes a folder there for each prediction, named by its id, with a mode that lets everybody look
in, and removes none. A request of more than 6 MiB lies in it as a file until the worker has read
it, that is before the predictor is called. (Watched in Cog 0.23.1.)
"""

import shutil
import tempfile
import time
from pathlib import Path

from service.workplace import StorageError

COGS_FOLDER = Path("/tmp/coglet")  # written into Cog's program
SECONDS_IN_USE = 600.0  # Cog reads a request in seconds; another server's may just have come


def close_to_others(folder: Path) -> None:
    """Make Cog's folder, or take the one that is there, for this user alone.

    Raises: StorageError, when nothing can be written there: Cog would answer the first request
        with that, and 409 to all others for ever.
    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
        predictions = folder / "predictions"
        predictions.mkdir(mode=0o700, exist_ok=True)
        Path(tempfile.mkdtemp(dir=predictions)).rmdir()
    except OSError as error:
        raise StorageError(
            f"Cog keeps requests in {folder}, where nothing can be written: {error.strerror}."
            " Make room there, or remove it if it is another user's, and start again."
        ) from error


def remove_old(folder: Path) -> None:
    """Remove what predictions left there, but for those that Cog may be reading now."""
    now = time.time()
    for prediction in folder.glob("predictions/*"):
        try:
            last_change = max(path.lstat().st_mtime for path in (prediction, *prediction.glob("*")))
        except OSError:  # another server is removing it, too
            continue
        if last_change < now - SECONDS_IN_USE:
            shutil.rmtree(prediction, ignore_errors=True)
