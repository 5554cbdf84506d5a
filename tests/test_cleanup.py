"""A cancellation can come while a run takes its words and layers out of the base model."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from preprocessing.example import Example
from tests.test_training import assert_same_lora, ignore, state_of
from training.base_model import BaseModel
from training.phase import Progress
from training.pivotal import train
from training.settings import TrainingSettings

pytestmark = pytest.mark.slow  # three trainings each

Settings = Callable[..., TrainingSettings]


class Cancelled(BaseException):
    pass


class CancelAt:
    """Once the last phase is done, raise at the given line that a function comes to."""

    def __init__(self, function: str, line: int) -> None:
        self.function, self.lines_left = function, line

    def __call__(self, progress: Progress) -> None:
        if progress.phase == "tuning" and progress.step == progress.num_steps:
            frame: FrameType | None = sys._getframe()
            while frame := frame and frame.f_back:
                frame.f_trace = self.trace  # those that are running are not asked else
            sys.settrace(self.trace)

    def trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_name == self.function and event == "line":
            self.lines_left -= 1
            if self.lines_left < 0:
                sys.settrace(None)
                raise Cancelled
        return self.trace


@pytest.mark.parametrize(
    ("function", "line"),
    # Before anything, when hooks are gone, among the layers of either model; before the words are.
    [("remove_lora_layers", n) for n in (0, 1, 3, 9, 20, 90, 250)] + [("new_words", 0)],
)
def test_the_next_run_is_as_on_a_new_base_model(
    base: BaseModel, examples: list[Example], short: Settings, function: str, line: int
) -> None:
    wanted = train(base, examples, short(), ignore)
    before = state_of(base)
    try:
        with pytest.raises(Cancelled):
            train(base, examples, short(), CancelAt(function, line))
    finally:
        sys.settrace(None)

    assert_same_lora(train(base, examples, short(), ignore), wanted)
    assert state_of(base).keys() == before.keys()
    assert not base.unet._forward_pre_hooks
    assert not base.text_encoder._forward_pre_hooks
