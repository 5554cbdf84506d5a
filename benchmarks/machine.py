"""On what a figure was measured, and how fast that can multiply."""

import os
import platform
import re
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from training.compute import Compute

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "diffusers", "transformers", "peft", "safetensors", "pillow", "numpy")
MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024  # what one unit of ru_maxrss is
MATRIX_SIDES = {"cuda": 8192, "cpu": 1024}  # large enough to be busy, small enough for seconds
NUM_MULTIPLICATIONS = 30


def say(line: str) -> None:
    """A line of progress: the table alone goes to standard output."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def describe(compute: Compute) -> dict[str, Any]:
    """Device, versions, commit and command, for the JSON beside a figure."""
    return {
        "device": device_name(compute.device),
        "driver": driver_version() if compute.device.type == "cuda" else None,
        "precision": str(compute.dtype).removeprefix("torch."),
        "because": compute.reason,
        "memory_bytes": memory_bytes(compute.device),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg(),  # what else went on
        "python": platform.python_version(),
        "cuda": torch.version.cuda,
        "packages": {name: version(name) for name in PACKAGES},
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{os.cpu_count()}cpu"


def slug(name: str) -> str:
    """A name as part of a file's name: "NVIDIA H100 80GB" -> "nvidia-h100-80gb"."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def driver_version() -> str:
    """The NVIDIA driver's, or "unknown": nvidia-smi need not be installed."""
    return _output_of("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")


def commit() -> str:
    """The commit, with a plus when files differ from it; "unknown" outside a git checkout."""
    found = _output_of("git", "rev-parse", "--short=12", "HEAD")
    is_changed = _output_of("git", "status", "--porcelain", "--untracked-files=no") != ""
    return f"{found}+" if found != "unknown" and is_changed else found


def _output_of(*command: str) -> str:
    try:
        finished = subprocess.run(
            command, cwd=REPOSITORY, capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return finished.stdout.strip()


def memory_bytes(device: torch.device) -> int:
    """The device's, all of it."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def peak_of_this_process() -> int:
    """Bytes of main memory, at most.

    On Linux from VmHWM: what `getrusage` tells begins with the memory of the process that started
    this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (peak,) = re.findall(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE)
        return 1024 * int(peak)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_BYTES


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure_peak_flops(compute: Compute) -> float:
    """FLOP per second of a large matrix product, in the precision of the frozen weights.

    The fastest of many; of one thread by its own time, which other work on the machine changes
    least.
    """
    is_one_thread = compute.device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if is_one_thread else time.perf_counter
    side = MATRIX_SIDES[compute.device.type]
    one, other = torch.randn(2, side, side, device=compute.device, dtype=compute.dtype)
    fastest = float("inf")
    for _ in range(NUM_MULTIPLICATIONS):
        wait_for(compute.device)
        start = clock()
        torch.mm(one, other)
        wait_for(compute.device)
        fastest = min(fastest, clock() - start)
    return 2 * side**3 / fastest
