"""A disk that is full, made by the kernel's own limit."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

LARGEST_FILE_BYTES = 3 * 2**19


@contextmanager
def full_disk(largest_file_bytes: int = LARGEST_FILE_BYTES) -> Iterator[None]:
    """No file of this process can grow beyond this."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
