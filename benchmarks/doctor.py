"""Is this machine good for training, will Stable Diffusion 1.5 fit, and how long does a job take?

Said from what was measured on it, not from tables of devices.
"""

from typing import Any

# Photos decode, files are written and memory breaks into pieces beside what the bench saw.
SPARE_SHARE = 0.1


def diagnose(machine: dict[str, Any], large: dict[str, Any] | None) -> dict[str, Any]:
    """The report, as JSON has it.

    Args:
        machine: as `machine.describe` tells it.
        large: what script/bench found for Stable Diffusion 1.5's shapes; None: it did not finish.
    """
    report = {
        name: machine[name]
        for name in ("device", "driver", "cuda", "precision", "because", "memory_bytes", "python")
    }
    report["torch"] = machine["packages"]["torch"]
    if large is None:
        return {**report, "fits": None, "peak_bytes": None, "default_job_seconds": None}
    peak = max(phase["variants"]["ours"]["peak_bytes"] for phase in large["phases"].values())
    return {
        **report,
        "fits": peak * (1 + SPARE_SHARE) <= machine["memory_bytes"],
        "peak_bytes": peak,
        "measured_on": f"{large['model']} at {large['resolution']} pixels",
        "default_job_seconds": large["whole_job"]["default_seconds"],
    }


def lines(report: dict[str, Any]) -> list[str]:
    driver = f", driver {report['driver']}" if report["driver"] else ""
    told = [
        f"device     {report['device']}, {report['memory_bytes'] / 2**30:.0f} GiB{driver}",
        f"software   torch {report['torch']}, CUDA {report['cuda']}, Python {report['python']}",
        f"precision  {report['precision']}: {report['because']}",
    ]
    if report["fits"] is None:
        return [*told, "SD 1.5     unknown: its benchmark did not finish, see above"]
    fits = "fits" if report["fits"] else "does NOT fit: lower the resolution"
    return [
        *told,
        f"SD 1.5     {fits}: {report['peak_bytes'] / 2**30:.1f} GiB at most"
        f" ({report['measured_on']})",
        f"a job      with default inputs takes about {report['default_job_seconds']:.0f} s",
    ]
