"""Which icon sets are used, under which licence, and what is kept out of all training."""

from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class IconSet:
    """One npm package of icons; package.json names the same version, package-lock.json its hash."""

    package: str
    version: str
    licence: str
    author: str
    source: str
    style: str  # the word for this style in captions
    weight: float  # how often it is drawn in training; 0 = never
    squeezes_names: bool = False  # "dogface" for what the other sets call "dog-face"


# No share-alike set is used (openmoji, emojione-v1), so the weights carry no such duty.
ICON_SETS = (
    IconSet(
        package="noto",
        version="1.2.9",
        licence="Apache-2.0",
        author="Google Inc",
        source="https://github.com/googlefonts/noto-emoji",
        style="noto",
        weight=1.0,
    ),
    IconSet(
        package="twemoji",
        version="1.2.5",
        licence="CC-BY-4.0",
        author="Twitter, Inc and other contributors",
        source="https://github.com/jdecked/twemoji",
        style="twemoji",
        weight=1.0,
    ),
    IconSet(
        package="fluent-emoji-flat",
        version="1.2.6",
        licence="MIT",
        author="Microsoft Corporation",
        source="https://github.com/microsoft/fluentui-emoji",
        style="fluent",
        weight=1.0,
    ),
    IconSet(
        package="fluent-emoji",
        version="1.2.7",
        licence="MIT",
        author="Microsoft Corporation",
        source="https://github.com/microsoft/fluentui-emoji",
        style="glossy",
        weight=1.0,
    ),
    # The least clean set, and the one with the fewest concepts: seldom drawn.
    IconSet(
        package="fxemoji",
        version="1.2.2",
        licence="Apache-2.0",
        author="Mozilla",
        source="https://github.com/mozilla/fxemoji",
        style="firefox",
        weight=0.4,
        squeezes_names=True,
    ),
    # Held out whole: a style that a LoRA can learn and the base model has never seen.
    IconSet(
        package="fluent-emoji-high-contrast",
        version="1.2.6",
        licence="MIT",
        author="Microsoft Corporation",
        source="https://github.com/microsoft/fluentui-emoji",
        style="mono",
        weight=0.0,
    ),
    # Only for the example archives: more pictures of the held-out concepts.
    IconSet(
        package="noto-v1",
        version="1.2.5",
        licence="Apache-2.0",
        author="Google Inc",
        source="https://github.com/googlefonts/noto-emoji",
        style="noto-v1",
        weight=0.0,
    ),
)

STYLE_WEIGHTS = {icon_set.style: icon_set.weight for icon_set in ICON_SETS if icon_set.weight > 0}
TRAINED_STYLES = tuple(STYLE_WEIGHTS)
HELD_OUT_STYLE = "mono"

# Never seen in training, in any style: subjects that a LoRA can learn.
HELD_OUT_CONCEPTS = (
    "penguin",
    "unicorn",
    "cactus",
    "pineapple",
    "octopus",
    "robot",
    "helicopter",
    "snail",
    "turtle",
    "jack-o-lantern",
    "snowman",
    "snowman-without-snow",
    "lobster",
    "avocado",
    "zebra",
    "violin",
    "sailboat",
    "hamburger",
    "telescope",
    "wrapped-gift",
    "castle",
)


def read_names(path: Path) -> tuple[str, ...]:
    """The names in a list file, without its comments."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return tuple(name for line in lines if not line.startswith("#") for name in line.split())


def trained_concepts() -> tuple[str, ...]:
    """What the base model is trained on, sorted."""
    return tuple(sorted(read_names(HERE / "concepts.txt")))


def common_concepts() -> tuple[str, ...]:
    """The part of `trained_concepts` that is drawn more often."""
    return read_names(HERE / "common_concepts.txt")
