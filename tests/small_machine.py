"""`python -m tests.small_machine PHOTO LIMIT`: three runs, the second of them under a limit."""

import inspect
import json
import pathlib
import resource
import sys

from predict import Predictor

SPARE_BYTES = {"RLIMIT_AS": 30 << 20, "RLIMIT_FSIZE": 4096}
SMALL = {
    "task": "object",
    "resolution": 64,
    "max_train_steps_ti": 2,
    "max_train_steps_tuning": 2,
    "lora_rank": 4,
}


def main(photo: pathlib.Path, limit: str) -> None:
    predictor = Predictor()
    predictor.setup()
    parameters = list(inspect.signature(Predictor.predict).parameters.values())[1:]
    form = {field.name: field.default.default for field in parameters}
    form |= SMALL | {"instance_data": photo}

    def answer(**inputs: object) -> list[str]:
        try:
            return ["made", predictor.predict(**(form | inputs)).read_bytes().hex()[:2000]]
        except Exception as error:
            return [type(error).__name__, str(error)]

    answers = [answer()]
    kind = getattr(resource, limit)
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (SPARE_BYTES[limit] + in_use(limit), hard))
    answers.append(answer(resolution=128, lora_rank=128))
    resource.setrlimit(kind, (soft, hard))
    answers.append(answer())
    left = [str(path) for path in predictor.workplace.folder.rglob("*")]
    sys.stdout.write(f"ANSWERS{json.dumps([answers, left])}")


def in_use(limit: str) -> int:
    if limit != "RLIMIT_AS":
        return 0
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2])
