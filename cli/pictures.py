"""What became of each picture, as data: the table of the log for programs."""

from typing import Any

from preprocessing.prepare import Prepared
from preprocessing.report import PhotoReport


def describe_pictures(prepared: Prepared) -> dict[str, Any]:
    """Pictures have numbers here, as in the log: no names of files, and no captions."""
    num_used = sum(report.used for report in prepared.reports)
    return {
        "num_used": num_used,
        "num_skipped": len(prepared.reports) - num_used,
        "warnings": list(prepared.warnings),
        "table": [describe_picture(report) for report in prepared.reports],
    }


def describe_picture(report: PhotoReport) -> dict[str, Any]:
    """The same keys for every picture; null where there is nothing to tell."""
    return {
        "number": report.position,
        "used": report.used,
        "reason": report.reason,
        "warnings": list(report.warnings),
        "size": list(report.size) if report.size else None,
        "crop": [round(edge, 2) for edge in report.crop] if report.crop else None,
        "scale": round(report.scale, 4) if report.scale is not None else None,
        "faces": report.num_faces,
        "caption_source": report.caption_source or None,
    }
