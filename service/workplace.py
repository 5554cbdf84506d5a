"""The one place on disk for what people send: private, and emptied of it however a run ends."""

import atexit
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT_NAME = "vana-lora"


class StorageError(OSError):
    """The disk cannot take what has to be written; the message says what to do."""


class Workplace:
    """A folder of this process (mode 0700), where all of its temporary files go, Cog's included.

    What processes that were killed left in theirs is removed when the next one starts: a living
    process holds a lock on its folder, and the system lets go of it however the process ends.
    """

    def __init__(self, parent: Path) -> None:
        """Raises: StorageError, when `parent` cannot be written to."""
        root = parent / f"{ROOT_NAME}-{os.getuid()}"
        try:
            root.mkdir(mode=0o700, exist_ok=True)
            if root.is_symlink() or root.stat().st_uid != os.getuid():
                root = Path(tempfile.mkdtemp(prefix=f"{ROOT_NAME}-", dir=parent))  # not ours
            root.chmod(0o700)
            with _locked(root):  # another process may be starting, too
                _remove_abandoned(root)
                self.folder = Path(tempfile.mkdtemp(dir=root))
                self._lock = _lock(self.folder)
        except OSError as error:
            raise storage_error("Temporary files could not be written", error) from error
        atexit.register(self.remove)

    def use_for_temporary_files(self) -> None:
        """Also for those of libraries, and for the uploads that Cog hands to the predictor."""
        tempfile.tempdir = str(self.folder)
        # Cog writes an upload before it calls the predictor, which could only then look for the
        # folder. The standard library calls this function for each of its files.
        tempfile.gettempdir = self.present

    def present(self) -> str:
        """The folder, made again if something that tidies up old ones in /tmp has removed it.

        Raises: StorageError.
        """
        if not self.folder.is_dir():
            try:
                self.folder.parent.mkdir(mode=0o700, exist_ok=True)
                with _locked(self.folder.parent):
                    self.folder.mkdir(mode=0o700, exist_ok=True)
                    gone, self._lock = self._lock, _lock(self.folder)
                    os.close(gone)  # that of the folder which is no more
            except OSError as error:
                raise storage_error("Temporary files could not be written", error) from error
        return str(self.folder)

    def clear(self, keep: Iterable[object] = ()) -> None:
        """Remove all that is there but `keep`. Raises: StorageError."""
        for path in Path(self.present()).iterdir():
            if path not in keep:
                _remove(path)

    def new_folder(self) -> Path:
        """For the files of one run. Raises: StorageError."""
        try:
            return Path(tempfile.mkdtemp(prefix="run-", dir=self.folder))
        except OSError as error:
            raise storage_error("Temporary files could not be written", error) from error

    def remove(self) -> None:
        """The folder itself, at the end of the process."""
        _remove(self.folder)


def storage_error(what: str, error: OSError) -> StorageError:
    """The system's own errors name our temporary files, which help nobody."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        advice = "Free some disk space and try again."
    else:
        advice = "Set TMPDIR to a folder that can be written to, and start again."
    return StorageError(f"{what}: {error.strerror}. {advice}")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_abandoned(root: Path) -> None:
    for folder in root.iterdir():
        try:
            os.close(_lock(folder))
        except BlockingIOError:  # somebody is at work there
            continue
        except OSError:
            pass
        _remove(folder)


def _lock(folder: Path) -> int:
    """Raises: BlockingIOError, when another process holds it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _remove(path: Path) -> None:
    """As far as it goes: on a disk that became read-only, what cannot be written is told later."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
