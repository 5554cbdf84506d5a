"""What is drawn to show what a run learned: the same prompts and seeds, before and after."""

from collections.abc import Sequence
from dataclasses import dataclass

from training.settings import Task

NUM_COLUMNS = 8
COLOURS = ("red", "blue", "green", "yellow", "pink", "orange", "purple", "brown")
SUBJECTS = ("dog", "cat", "apple", "car", "house", "heart", "tiger", "sunflower")
OTHER_SUBJECTS = ("elephant", "banana", "rocket", "owl", "mushroom", "fish", "guitar", "tree")
SETTINGS = ("snow", "rain", "fog", "sunshine", "spring", "autumn", "winter", "the evening")


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One row of samples.

    Attributes:
        title: for the caption, with `{}` for the words that stand for the subject.
        prompts: one a column, with `{}` likewise.
        labels: what is different in each column.
    """

    title: str
    prompts: tuple[str, ...]
    labels: tuple[str, ...]


def scenes(task: Task) -> tuple[Scene, Scene]:
    """Two rows that suit the task: the subject itself, and then with something else."""
    if task == "style":
        return (
            varied("a {other} in the style of {{}}", SUBJECTS),
            varied("a {other} in the style of {{}}", OTHER_SUBJECTS),
        )
    if task == "location":
        return repeated("a photo of {}"), varied("a photo of {{}} in {other}", SETTINGS)
    return repeated("a photo of {}"), varied("{{}} on a {other} background", COLOURS)


def repeated(prompt: str) -> Scene:
    """The same prompt in every column; only the seed differs."""
    labels = tuple(f"seed {column}" for column in range(NUM_COLUMNS))
    return Scene(title=prompt, prompts=(prompt,) * NUM_COLUMNS, labels=labels)


def varied(pattern: str, others: Sequence[str]) -> Scene:
    """Another word in every column, and another seed."""
    return Scene(
        title=pattern.format(other="..."),
        prompts=tuple(pattern.format(other=other) for other in others),
        labels=tuple(others),
    )
