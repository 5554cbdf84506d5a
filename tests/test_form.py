"""The form keeps to what Cog's static parser understands, and tells people what they need."""

import inspect
from pathlib import Path

import pytest

import predict
from tests.form_rules import faults
from training.settings import TrainingInputs

SOURCE = (Path(__file__).parent.parent / "predict.py").read_text(encoding="utf-8")

GOOD = """
from cog import BasePredictor, Input, Path
class Predictor(BasePredictor):
    def predict(self, steps: int = Input(default=5, ge=1, le=9, description="How many.")) -> Path:
        ...
"""


def form_with(parameter: str, before: str = "") -> str:
    """The good form with another input, and with some lines in front of the class."""
    return before + GOOD.replace(
        'steps: int = Input(default=5, ge=1, le=9, description="How many.")', parameter
    )


def test_the_form_can_be_read_by_cogs_static_parser() -> None:
    assert faults(SOURCE) == []


def test_a_plain_form_is_accepted() -> None:
    assert faults(GOOD) == []


@pytest.mark.parametrize(
    "parameter",
    [
        'steps: int = Input(5, description="a")',
        'steps: int = Input(default=DEFAULT, description="a")',
        'steps: int = Input(default=2 * 3, description="a")',
        'steps: int = Input(default=(5), description="a")',
        'steps: int = Input(default=- 1, description="a")',
        'steps: int = Input(default=None, description="a")',
        'steps: int = Input(default=5, ge=LOW, description="a")',
        'steps: int = Input(default=5, **LIMITS, description="a")',
        'steps: int = Input(default=5, ge=6, description="a")',
        'steps: int = Input(default=5, le=4, description="a")',
        'steps: int = Input(default=5, description="a " "b")',
        'steps: int = Input(default=5, description="a " + "b")',
        'steps: int = Input(default=5, description=("a"))',
        'steps: int = Input(default=5, description=(\n"a"))',
        'steps: int = Input(default=5, description=f"a")',
        'steps: int = Input(default=5, description=u"a")',
        "steps: int = Input(default=5, description='''a\nb''')",
        r'steps: int = Input(default=5, description="a\n")',
        r'steps: int = Input(default=5, description="\u00e9")',
        "steps: int = Input(default=5)",
        'steps: int = cog.Input(default=5, description="a")',
        'steps: int = make_input(default=5, description="a")',
        "steps: int = 5",
        "steps: int",
        "steps",
        'steps = Input(default=5, description="a")',
        'steps: Optional[int] = Input(description="a")',
        'steps: Annotated[int, Input(default=5)] = Input(default=5, description="a")',
        'mode: Literal["a", "b"] = Input(default="a", description="a")',
        'mode: str = Input(default="a", choices=("a", "b"), description="a")',
        'mode: str = Input(default="a", choices=CHOICES, description="a")',
        'mode: str = Input(default="a", choices=sorted(CHOICES), description="a")',
        'mode: str = Input(default="a", choices=[*CHOICES], description="a")',
        'mode: str = Input(default="c", choices=["a", "b"], description="a")',
        'name: str = Input(default="", accept=".zip", description="a")',
        'Status: str = Input(default="a", description="a")',
        '*, steps: int = Input(default=5, description="a")',
        'steps: int = Input(default=5, description="a"), *rest',
        'steps: int = Input(default=5, description="a"), **rest',
    ],
)
def test_an_input_that_the_parser_drops_garbles_or_refuses_is_named(parameter: str) -> None:
    assert faults(form_with(parameter))


@pytest.mark.parametrize(
    "source",
    [
        GOOD.replace("    def predict", "    @torch.no_grad()\n    def predict"),
        GOOD.replace("-> Path", "-> Optional[Path]"),
        GOOD.replace(" -> Path", ""),
        GOOD.replace(", Path", ""),
        "from pathlib import Path\n" + GOOD,
        "from __future__ import annotations\n" + GOOD,
        GOOD.replace("def predict", "def train"),
        GOOD.replace("class Predictor", "class Model"),
    ],
)
def test_a_method_that_the_parser_or_the_server_gets_wrong_is_named(source: str) -> None:
    assert faults(source)


def test_the_form_has_the_settings_names_order_defaults_and_choices() -> None:
    """TrainingInputs is what checks the numbers; the form promises the same."""
    form = inspect.signature(predict.Predictor.predict).parameters
    defaults = {name: parameter.default.default for name, parameter in list(form.items())[4:]}

    assert list(form)[1:4] == ["instance_data", "instance_data_urls", "custom_prompts"]
    assert list(defaults.items()) == list(vars(TrainingInputs()).items())


@pytest.mark.parametrize("name", [name for name in vars(TrainingInputs()) if name != "task"])
def test_the_forms_limits_are_those_that_the_settings_check(name: str) -> None:
    field = inspect.signature(predict.Predictor.predict).parameters[name].default
    if field.choices:
        for choice in field.choices:
            TrainingInputs(**{name: choice})
        return
    TrainingInputs(**{name: field.ge})
    TrainingInputs(**{name: field.le})
    for outside in (field.ge - 1, field.le + 1):
        with pytest.raises(ValueError, match=name):
            TrainingInputs(**{name: outside})


@pytest.mark.parametrize("name", list(inspect.signature(predict.Predictor.predict).parameters)[1:])
def test_every_description_is_one_sentence(name: str) -> None:
    description = inspect.signature(predict.Predictor.predict).parameters[name].default.description

    assert description.endswith(".")
    assert ". " not in description.replace("1.5", "")
    assert 40 < len(description) < 240
