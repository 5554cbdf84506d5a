"""Is this machine good for training, will Stable Diffusion 1.5 fit, and how long does a job take?

Said from what was measured on it, not from tables of devices.
"""

from benchmarks.measure import Report
from benchmarks.variants import OURS

# Photos decode, files are written and memory breaks into pieces beside what the bench saw.
SPARE_SHARE = 0.1


def diagnose(machine: Report, large: Report) -> Report:
    """The report, as JSON has it; None stands for what is not known.

    Args:
        machine: as `machine.describe` tells it.
        large: what script/bench has found so far for Stable Diffusion 1.5's shapes.
    """
    report = {
        name: machine[name]
        for name in ("device", "driver", "cuda", "precision", "because", "memory_bytes", "python")
    }
    report["torch"] = machine["packages"]["torch"]
    phases = large.get("phases", {}).values()
    peak = max((phase["variants"][OURS]["peak_bytes"] for phase in phases), default=None)
    job = large.get("whole_job")
    if job and peak:
        peak = max(peak, job["peak_bytes"])
    return {
        **report,
        "fits": None if peak is None else peak * (1 + SPARE_SHARE) <= machine["memory_bytes"],
        "peak_bytes": peak,
        "measured_on": f"{large['model']} at {large['resolution']} pixels" if large else None,
        "default_job_seconds": job["default_seconds"] if job else None,
    }


def lines(report: Report) -> list[str]:
    driver = f", driver {report['driver']}" if report["driver"] else ""
    told = [
        f"device     {report['device']}, {report['memory_bytes'] / 2**30:.0f} GiB{driver}",
        f"software   torch {report['torch']}, CUDA {report['cuda']}, Python {report['python']}",
        f"precision  {report['precision']}: {report['because']}",
    ]
    if report["fits"] is None:
        return [*told, "SD 1.5     unknown: its benchmark did not finish, see above"]
    fits = "fits" if report["fits"] else "does NOT fit: lower the resolution"
    seconds = report["default_job_seconds"]
    job = f"takes about {seconds:.0f} s" if seconds else "did not finish: see above"
    return [
        *told,
        f"SD 1.5     {fits}: {report['peak_bytes'] / 2**30:.1f} GiB at most"
        f" ({report['measured_on']})",
        f"a job      with default inputs {job}",
    ]
