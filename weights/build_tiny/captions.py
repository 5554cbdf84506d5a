"""What a picture is called: the sentences that the text encoder learns to read."""

import numpy as np

EMPTY_SHARE = 0.10  # without a caption: what classifier-free guidance subtracts
PLAIN_SHARE = 0.38  # of the others: captions that name no style, as people write them

PLAIN_TEMPLATES = (
    "a photo of {}",
    "a photo of {}",
    "a photo of {}",
    "a picture of {}",
    "an illustration of {}",
    "a rendering of {}",
    "a painting of {}",
    "a drawing of {}",
    "an icon of {}",
    "a close-up photo of {}",
    "a good photo of {}",
    "{}",
)
STYLE_TEMPLATES = (
    "a {style} style icon of {}",
    "a {style} style icon of {}",
    "a {style} style icon of {}",
    "a {style} style picture of {}",
    "{}, {style} style",
    "{} in the style of {style}",
    "an icon of {} in the style of {style}",
    "a picture of {} in the style of {style}",
    "a painting of {} in the style of {style}",
)
WHITE_TEMPLATE_SHARE = 0.15  # of pictures on white say so

BACKGROUND_COLOURS = {
    "red": (0.85, 0.25, 0.25),
    "orange": (1.0, 0.65, 0.2),
    "yellow": (1.0, 0.9, 0.4),
    "green": (0.4, 0.75, 0.4),
    "blue": (0.4, 0.6, 0.95),
    "purple": (0.65, 0.45, 0.85),
    "pink": (1.0, 0.7, 0.8),
    "brown": (0.6, 0.42, 0.3),
    "grey": (0.6, 0.6, 0.6),
    "black": (0.08, 0.08, 0.08),
}
WHITE = (1.0, 1.0, 1.0)

# The word people use, where it is not the set's own name; both are learned, half and half.
EVERYDAY_NAMES = {
    "automobile": "car",
    "beer-mug": "beer",
    "cat-face": "cat",
    "cow-face": "cow",
    "crescent-moon": "moon",
    "deciduous-tree": "tree",
    "dog-face": "dog",
    "dragon-face": "dragon",
    "game-die": "dice",
    "gem-stone": "diamond",
    "honeybee": "bee",
    "horse-face": "horse",
    "hot-beverage": "coffee",
    "lady-beetle": "ladybug",
    "locomotive": "train",
    "monkey-face": "monkey",
    "mouse-face": "mouse",
    "pig-face": "pig",
    "potted-plant": "plant",
    "rabbit-face": "rabbit",
    "red-apple": "apple",
    "red-heart": "heart",
    "running-shoe": "shoe",
    "soccer-ball": "ball",
    "sun-with-face": "sun",
    "t-shirt": "shirt",
    "tiger-face": "tiger",
}
# Last words of names that take no article: plurals, and what cannot be counted.
PLURALS = frozenset(
    [
        *("bacon", "badminton", "beans", "blueberries", "books", "bowling", "bread", "broccoli"),
        *("bubbles", "butter", "camping", "candy", "chains", "cherries", "chopsticks", "clothes"),
        *("coffee", "construction", "cooking", "dolls", "fireworks", "fog", "food", "fries"),
        *("garlic", "ginger", "glasses", "gloves", "goggles", "grapes", "hearts", "herb", "hockey"),
        *("houses", "ice", "jeans", "lacrosse", "maracas", "milk", "mugs", "notes", "pancakes"),
        *("peanuts", "pong", "popcorn", "prints", "rain", "rice", "salt", "sake", "scissors"),
        *("shoes", "shorts", "skis", "snow", "soap", "socks", "spaghetti", "sparkles", "springs"),
        *("stars", "sunglasses", "sushi", "swords", "tennis", "tickets", "water", "wood", "zzz"),
    ]
)


def concept_words(concept: str) -> str:
    """ "red-apple" -> "red apple"."""
    return concept.replace("-", " ")


def with_article(words: str) -> str:
    """ "apple" -> "an apple"; plurals as they are."""
    if words.split()[-1] in PLURALS:
        return words
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def draw_caption(
    concept: str, style: str, background: str | None, random: np.random.Generator
) -> str:
    """One of the many true captions of a picture; `background` is None for white."""
    if random.random() < EMPTY_SHARE:
        return ""
    templates = PLAIN_TEMPLATES if random.random() < PLAIN_SHARE else STYLE_TEMPLATES
    template = templates[random.integers(len(templates))]
    words = concept_words(concept)
    if concept in EVERYDAY_NAMES and random.random() < 0.5:
        words = EVERYDAY_NAMES[concept]
    caption = template.format(with_article(words), style=style)
    if background is not None:
        return f"{caption} on a {background} background"
    if random.random() < WHITE_TEMPLATE_SHARE:
        return f"{caption} on a white background"
    return caption


def fixed_caption(concept: str, style: str) -> str:
    """The caption used wherever losses are compared."""
    return f"a {style} style icon of {with_article(concept_words(concept))}"
