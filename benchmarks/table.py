"""The figures of script/bench for the eye."""

from typing import Any

HEAD = "{:<24} {:>10} {:>7} {:>10} {:>11} {:>15} {:>9} {:>9} {:>12}".format(
    "variant",
    "ms/update",
    "spread",
    "updates/s",
    "pictures/s",
    "cpu ms/picture",
    "of floor",
    "opening s",
    "peak memory",
)


def table(report: dict[str, Any]) -> list[str]:
    """`report`: as the JSON has it. The lines."""
    on = report["machine"]
    lines = [
        f"{report['model']} at {report['resolution']} pixels, rank {report['lora_rank']}, on"
        f" {on['device']} in {on['precision']}, {on['threads']} threads, torch"
        f" {on['packages']['torch']}, commit {on['commit']}",
        f"set-up {report['set_up_seconds']:.1f} s; matrices multiply at"
        f" {report['peak_flops_per_second'] / 1e12:.3g} TFLOP/s",
    ]
    for name, phase in report["phases"].items():
        lines += ["", *_phase_lines(name, phase)]
    if report["whole_job"]:
        lines += ["", *_job_lines(report["whole_job"])]
    lines += [f"{variant} is not measured: {why}" for variant, why in report["left_out"].items()]
    return lines


def sweep_table(found: dict[str, Any]) -> list[str]:
    """`found`: what is varied -> points, as the JSON has them."""
    lines = []
    for name, points in found.items():
        unit = "pictures" if name == "pictures" else "GFLOP"
        lines += ["", f"{name:<12} {unit:>10} {'ms':>10} {'spread':>7} {'peak memory':>12}"]
        lines += [
            f"{point['value']:<12} {point['work']:>10.4g} {point['milliseconds']:>10.2f}"
            f" {point['spread_percent']:>6.0f}% {_gigabytes(point['peak_bytes']):>12}"
            for point in points
        ]
    return lines


def _gigabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes else "-"


def _phase_lines(name: str, phase: dict[str, Any]) -> list[str]:
    size = next(iter(phase["variants"].values()))["batch_size"]
    lines = [
        f"{name}: {size} {'picture' if size == 1 else 'pictures'} an update,"
        f" {phase['flops_per_update'] / 1e9:.4g} GFLOP, at least"
        f" {phase['floor_ms_per_update']:.3g} ms",
        HEAD,
    ]
    for variant, found in phase["variants"].items():
        cpu, peak = found["cpu_ms_per_picture"], found["peak_bytes"]
        lines.append(
            f"{variant:<24} {found['ms_per_update']:>10.2f} {found['spread_percent']:>6.0f}%"
            f" {found['updates_per_second']:>10.2f} {found['pictures_per_second']:>11.2f}"
            f" {f'{cpu:.2f}' if cpu else '-':>15} {100 * found['share_of_floor']:>8.1f}%"
            f" {found['first_seconds']:>9.2f} {_gigabytes(peak):>12}"
        )
    for variant, times in phase["times_ours"].items():
        lines.append(
            f"{variant} takes {times['median']:.2f} times the {phase['compared']} of ours"
            f" ({times['least']:.2f} to {times['most']:.2f})"
        )
    return lines


def _job_lines(job: dict[str, Any]) -> list[str]:
    stages = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in job["seconds"].items())
    lines = [
        f"whole job, {job['num_pictures']} pictures, {job['steps'][0]} + {job['steps'][1]} steps:"
        f" {job['total_seconds']:.2f} s ({stages}), {job['file_bytes'] // 1000} kB",
        f"with the form's default steps: about {job['default_seconds']:.0f} s",
    ]
    return (
        [*lines, f"on the device at most {_gigabytes(peak)}"]
        if (peak := job["peak_bytes"])
        else lines
    )
