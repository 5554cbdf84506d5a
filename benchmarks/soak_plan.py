"""What the soak asks the server for: good runs, bad ones and cancelled ones, in a seeded order."""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from tests.bombs import jpeg2000_of_tiny_precincts
from tests.cog_server import data_uri
from tests.loopback import Answer, Server
from tests.photographs import astronaut, cameraman
from tests.pictures import encode, photo, zip_of

End = Literal["succeeded", "failed", "canceled", "refused"]

SEED = 0
FORMATS = ("lora_diffusion", "kohya", "diffusers")
TASKS = ("face", "object", "style", "location")
RUNS, FAILURES, CANCELLATIONS = len(FORMATS) * len(TASKS), 4, 4  # of each block of twenty
BLOCK = RUNS + FAILURES + CANCELLATIONS
URL_SHARE = 0.3  # of the runs fetch their zip by address, the others bring it along

SHORT = {"resolution": 64, "max_train_steps_ti": 2, "max_train_steps_tuning": 2}
# Half a second of inversion, then tuning that outlasts every wait: a cancellation may meet either.
LONG = {"resolution": 64, "max_train_steps_ti": 20, "max_train_steps_tuning": 5000}
MAX_CANCEL_DELAY = 1.5  # seconds; pictures and encoding take the first tenth of it

PICTURES = zip_of(
    ("astronaut.png", encode(astronaut())),
    ("cameraman.png", encode(cameraman())),
    *((f"{seed}.jpg", photo(seed)) for seed in range(3)),
)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One prediction.

    Attributes:
        name: what is special about it.
        end: how it must end; refused is 422, before the predictor is asked.
        cancel_after: seconds; None if nobody cancels it.
    """

    name: str
    inputs: dict[str, object]
    end: End
    cancel_after: float | None = None


def plan(num_predictions: int, web: Server) -> list[Step]:
    """Blocks of twenty, each holding every format of every task; the last step repeats a first.

    Runs of one name must give the same bytes, whichever way their zip came.
    """
    chance = random.Random(SEED)
    address = web.offer("/pictures.zip", Answer((PICTURES,)))
    failures = itertools.cycle(bad_steps(web))
    steps: list[Step] = []
    while len(steps) < num_predictions:
        block = list(runs(chance, address))
        block += itertools.islice(failures, FAILURES)
        block += (cancelled(chance) for _ in range(CANCELLATIONS))
        chance.shuffle(block)
        steps += block
    del steps[num_predictions:]
    first_run = next(step for step in steps if step.end == "succeeded")
    return [*steps[:-1], replace(first_run)]


def runs(chance: random.Random, address: str) -> Iterator[Step]:
    for output_format, task in itertools.product(FORMATS, TASKS):
        archive = address if chance.random() < URL_SHARE else data_uri(PICTURES)
        inputs = {**SHORT, "instance_data": archive, "task": task, "output_format": output_format}
        yield Step(name=f"{task}, {output_format}", inputs=inputs, end="succeeded")


def cancelled(chance: random.Random) -> Step:
    inputs = {**LONG, "instance_data": data_uri(PICTURES), "task": chance.choice(TASKS)}
    delay = chance.uniform(0, MAX_CANCEL_DELAY)
    return Step(name="cancelled", inputs=inputs, end="canceled", cancel_after=delay)


def bad_steps(web: Server) -> list[Step]:
    """What users get wrong; the first four are in the shortest soak."""
    missing = web.offer("/missing.zip", Answer(status=404))
    half = Answer((PICTURES[: len(PICTURES) // 2],), headers={"Content-Length": str(len(PICTURES))})
    unusable = zip_of(("notes.txt", b"no picture"), ("cut.jpg", photo()[:200]))
    # Each 2 x 2 pixels are decoded on their own: its decoder runs out of memory and is replaced.
    bomb = zip_of(("bomb.j2k", jpeg2000_of_tiny_precincts(8000)))
    diverging: dict[str, object] = {
        "learning_rate_unet": 1,
        "learning_rate_text": 1,
        "max_train_steps_tuning": 100,
    }
    changes: list[tuple[str, End, dict[str, object]]] = [
        ("value out of range", "refused", {"resolution": 2000}),
        ("unusable pictures", "failed", {"instance_data": data_uri(unusable)}),
        ("diverging rate", "failed", diverging),
        ("missing zip", "failed", {"instance_data": missing}),
        ("bad zip", "failed", {"instance_data": data_uri(PICTURES[:1000])}),
        ("word for a number", "refused", {"lora_rank": "many"}),
        ("nothing sent", "failed", {"instance_data": data_uri(b"")}),
        ("picture like a bomb", "failed", {"instance_data": data_uri(bomb)}),
        ("broken download", "failed", {"instance_data": web.offer("/half.zip", half)}),
    ]
    good = {**SHORT, "instance_data": data_uri(PICTURES)}
    return [Step(name=name, inputs=good | change, end=end) for name, end, change in changes]
