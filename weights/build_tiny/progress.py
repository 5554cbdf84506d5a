"""How fast, and how long still."""

import time


def eta(started: float, num_done: int, num_left: int) -> str:
    """ "1.2 steps/s  eta 2m01s", from time.monotonic() at the start."""
    pace = num_done / max(time.monotonic() - started, 1e-9)
    minutes, seconds = divmod(int(num_left / pace), 60)
    return f"{pace:.2f} steps/s  eta {minutes}m{seconds:02d}s"
