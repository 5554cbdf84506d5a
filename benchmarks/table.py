"""The figures of script/bench for the eye."""

from typing import Any

HEAD = ("variant", "ms/update", "spread", "updates/s", "pictures/s", "cpu ms/picture", "of floor")


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
    lines += ["", *_job_lines(report["whole_job"]), report["left_out"]]
    return lines


def _phase_lines(name: str, phase: dict[str, Any]) -> list[str]:
    size = next(iter(phase["variants"].values()))["batch_size"]
    lines = [
        f"{name}: {size} {'picture' if size == 1 else 'pictures'} an update,"
        f" {phase['flops_per_update'] / 1e9:.4g} GFLOP, at least"
        f" {phase['floor_ms_per_update']:.3g} ms",
        "{:<12} {:>10} {:>7} {:>10} {:>11} {:>15} {:>9} {:>12}".format(*HEAD, "peak memory"),
    ]
    for variant, found in phase["variants"].items():
        cpu, peak = found["cpu_ms_per_picture"], found["peak_bytes"]
        lines.append(
            f"{variant:<12} {found['ms_per_update']:>10.2f} {found['spread_percent']:>6.0f}%"
            f" {found['updates_per_second']:>10.2f} {found['pictures_per_second']:>11.2f}"
            f" {f'{cpu:.2f}' if cpu else '-':>15} {100 * found['share_of_floor']:>8.1f}%"
            f" {f'{peak / 1e9:.2f} GB' if peak else '-':>12}"
        )
    for variant, times in phase["times_ours"].items():
        lines.append(
            f"{variant} takes {times['median']:.2f} times the {phase['compared']} of ours"
            f" ({times['least']:.2f} to {times['most']:.2f})"
        )
    return lines


def _job_lines(job: dict[str, Any]) -> list[str]:
    stages = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in job["seconds"].items())
    return [
        f"whole job, {job['num_pictures']} pictures, {job['steps'][0]} + {job['steps'][1]} steps:"
        f" {job['total_seconds']:.2f} s ({stages}), {job['file_bytes'] // 1000} kB",
        f"with the form's default steps: about {job['default_seconds']:.0f} s",
    ]
