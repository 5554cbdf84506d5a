"""How fast, and in how much memory, do photos become the squares that are trained on?

    .venv/bin/python -m benchmarks.pictures

Fifty photos of 12 megapixels, made here, through `prepare_examples` and through the plain way that
most trainers take: `Image.open().convert("RGB").resize()`, one by one. Both in the same run, in
turns, each turn in a process of its own; of the ratios the median, the least and the most. The
difference is told from the square that Lanczos makes of all pixels. Then half as many with a face,
as objects and as faces. Six minutes on two cores.
"""

import argparse
import io
import json
import logging
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from preprocessing.crops import crop_square
from preprocessing.prepare import prepare_examples

REPOSITORY = Path(__file__).parent.parent
WIDTH, HEIGHT = 4000, 3000  # a phone's usual 12 megapixels
RESOLUTION = 512
FACE_WAYS = ("ours", "faces")  # what looking for faces and telling them apart costs
MIX = ("JPEG", "PNG", "WEBP")  # by turns


@dataclass(frozen=True, kw_only=True)
class Turn:
    """All photos once, in one way.

    Attributes:
        wall_seconds: the decoders are up, as in a service that is.
        cpu_seconds: of this process and of the decoders.
        peak_bytes: of this process; for ours, of its decoders too: the largest, times their number.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int


def make_photo(seed: int) -> Image.Image:
    """Soft shapes, hard edges, and the noise of a sensor: compresses as photos do (3 to 4 MB)."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    soft = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    edges = random.integers(0, 256, (300, 400, 3), dtype=np.uint8)
    hard = Image.fromarray(edges).resize((WIDTH, HEIGHT), Image.Resampling.NEAREST)
    pixels = np.asarray(Image.blend(soft, hard, 0.15)).astype(np.int16)
    pixels += random.normal(0, 4, (HEIGHT, WIDTH, 1)).astype(np.int16)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_set(path: Path, formats: Sequence[str], num_photos: int) -> int:
    """A zip of photos; its bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for number in range(num_photos):
            buffer = io.BytesIO()
            format = formats[number % len(formats)]
            make_photo(number).save(buffer, format, quality=90)
            archive.writestr(zipfile.ZipInfo(f"{number:03}.{format.lower()}"), buffer.getvalue())
    return path.stat().st_size


def write_face_set(path: Path, num_photos: int) -> int:
    """A zip of JPEGs of 12 megapixels, one woman in each, elsewhere in every one; its bytes."""
    import skimage  # here, as only the development's requirements bring it

    portrait = Image.open(Path(skimage.__file__).parent / "data" / "astronaut.png").convert("RGB")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for number in range(num_photos):
            photo = make_photo(number)
            side = 1000 + 400 * (number % 5)
            left, top = (number * 613) % (WIDTH - side), (number * 389) % (HEIGHT - side)
            photo.paste(portrait.resize((side, side), Image.Resampling.BICUBIC), (left, top))
            buffer = io.BytesIO()
            photo.save(buffer, "JPEG", quality=90)
            archive.writestr(zipfile.ZipInfo(f"{number:03}.jpeg"), buffer.getvalue())
    return path.stat().st_size


def write_small_set(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(4):
            buffer = io.BytesIO()
            Image.new("RGB", (RESOLUTION, RESOLUTION), (number, 0, 0)).save(buffer, "PNG")
            archive.writestr(f"{number}.png", buffer.getvalue())
    return path


def plain(path: Path, filter: Image.Resampling = Image.Resampling.BICUBIC) -> list[Image.Image]:
    """One by one, whole, with Pillow's default filter, from the same crop."""
    images = []
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            photo = Image.open(io.BytesIO(archive.read(name))).convert("RGB")
            box = crop_square(photo.size)
            images.append(photo.resize((RESOLUTION, RESOLUTION), filter, box=box))
    return images


def ours(path: Path, task: str = "object") -> list[Image.Image]:
    prepared = prepare_examples(
        archive=path, urls=(), task=task, resolution=RESOLUTION, custom_prompts=()
    )
    return [example.image for example in prepared.examples]


def faces(path: Path) -> list[Image.Image]:
    return ours(path, "face")


SQUARES: dict[str, Callable[[Path], list[Image.Image]]] = {"plain": plain, "ours": ours}
WAYS = tuple(SQUARES)


def take_turn(way: str, path: Path) -> Turn:
    """In a process of its own, so that its memory can be told."""
    command = [sys.executable, "-m", "benchmarks.pictures", "--way", way, "--set", str(path)]
    output = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True).stdout
    return Turn(**json.loads(output))


def measure(way: str, path: Path) -> Turn:
    from preprocessing.decoders import end_idle_workers

    prepare = (SQUARES | {"faces": faces})[way]
    with tempfile.TemporaryDirectory() as folder:  # as in a service that is up: decoders run
        prepare(write_small_set(Path(folder) / "small.zip"))
    start, cpu_start = time.perf_counter(), computing()
    prepare(path)
    wall_seconds = time.perf_counter() - start
    cpu_seconds = computing() - cpu_start
    num_decoders = len(psutil.Process().children())
    end_idle_workers()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = resource.getrusage(resource.RUSAGE_SELF)
    return Turn(
        wall_seconds=wall_seconds,
        cpu_seconds=cpu_seconds,
        peak_bytes=1024 * (own.ru_maxrss + num_decoders * children.ru_maxrss),
    )


def computing() -> float:
    """Seconds of computing so far, of this process and of those that it keeps."""
    here = psutil.Process()
    times = [process.cpu_times() for process in (here, *here.children())]
    return sum(time.user + time.system for time in times)


def differences(path: Path) -> dict[str, dict[str, float]]:
    """Of the squares of both ways from the best there are, in levels of 255, and in decibels."""
    best = plain(path, Image.Resampling.LANCZOS)
    return {way: difference(best, squares(path)) for way, squares in SQUARES.items()}


def difference(ones: list[Image.Image], others: list[Image.Image]) -> dict[str, float]:
    pairs = zip(ones, others, strict=True)
    gaps = np.stack([abs(np.asarray(one).astype(int) - np.asarray(other)) for one, other in pairs])
    return {
        "psnr": round(10 * math.log10(255**2 / np.square(gaps).mean()), 1),
        "mean": round(float(gaps.mean()), 3),
        "p99": float(np.percentile(gaps, 99)),
        "max": int(gaps.max()),
    }


def take_turns(path: Path, ways: tuple[str, ...], num_turns: int) -> dict[str, list[Turn]]:
    turns: dict[str, list[Turn]] = {way: [] for way in ways}
    for _ in range(num_turns):
        for way in ways:
            turns[way].append(take_turn(way, path))
    return turns


def summarise(turns: dict[str, list[Turn]], num_photos: int) -> dict[str, object]:
    """The first of the two ways by the second."""
    first, second = turns
    ratios = {}
    for name in ("wall_seconds", "cpu_seconds", "peak_bytes"):
        pairs = zip(turns[first], turns[second], strict=True)
        found = [getattr(one, name) / getattr(other, name) for one, other in pairs]
        spread = (statistics.median(found), min(found), max(found))
        ratios[name] = [round(ratio, 2) for ratio in spread]
    return {
        "photos": num_photos,
        "turns": {way: [asdict(turn) for turn in turns[way]] for way in turns},
        f"{first}_to_{second}": ratios,
        "photos_per_second": {
            way: round(num_photos / statistics.median(turn.wall_seconds for turn in turns[way]), 1)
            for way in turns
        },
    }


def compare(
    formats: Sequence[str], num_photos: int, num_turns: int, folder: Path
) -> dict[str, object]:
    path = folder / f"{'-'.join(formats)}.zip"
    num_bytes = write_set(path, formats, num_photos)
    turns = take_turns(path, WAYS, num_turns)
    return {
        "formats": formats,
        "set_bytes": num_bytes,
        **summarise(turns, num_photos),
        "difference": differences(path),
    }


def compare_faces(num_photos: int, num_turns: int, folder: Path) -> dict[str, object]:
    path = folder / "faces.zip"
    num_bytes = write_face_set(path, num_photos)
    turns = take_turns(path, FACE_WAYS, num_turns)
    return {"formats": ("JPEG",), "set_bytes": num_bytes, **summarise(turns, num_photos)}


def show(result: dict[str, object]) -> None:
    sys.stdout.write(f"{ {name: result[name] for name in result if name != 'turns'} }\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "output" / "pictures")
    parser.add_argument("--photos", type=int, default=50)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--way", choices=(*WAYS, "faces"), help=argparse.SUPPRESS)
    parser.add_argument("--set", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if arguments.way:
        sys.stdout.write(json.dumps(asdict(measure(arguments.way, arguments.set))))
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        results = []
        for formats, num_photos in ((("JPEG",), arguments.photos), (MIX, arguments.photos // 2)):
            results.append(compare(formats, num_photos, arguments.turns, Path(folder)))
            show(results[-1])
        results.append(compare_faces(arguments.photos // 2, arguments.turns, Path(folder)))
        show(results[-1])
    report = {
        "command": "python -m benchmarks.pictures",
        "machine": {
            "cores": os.cpu_count(),
            "load_average": os.getloadavg(),  # what else went on
            "python": platform.python_version(),
            "packages": {name: version(name) for name in ("pillow", "numpy")},
        },
        "photo": [WIDTH, HEIGHT],
        "resolution": RESOLUTION,
        "results": results,
    }
    (arguments.out / "pictures.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
