"""A command whose reader has left, as `head -1` does when it has seen enough."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path


def run_unread(command: Sequence[str | Path], folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Run it in `folder`, with nobody at the other end of its standard output."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        return subprocess.run(
            command, cwd=folder, stdout=write_end, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(write_end)
