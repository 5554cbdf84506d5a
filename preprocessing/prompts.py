"""What each photo is called while it is trained on: its caption, custom prompts, or templates."""

import json
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from preprocessing.captions import FILE_NAME, Caption, clean_text
from preprocessing.errors import PromptError
from preprocessing.limits import MAX_PROMPT_CHARACTERS, MAX_PROMPTS
from preprocessing.report import numbered
from preprocessing.slots import SLOT, begins_with_slot, has_slot, with_slot
from preprocessing.templates import TEMPLATES

logger = logging.getLogger(__name__)

_JSON_OBJECT = re.compile(r"""\{\s*["']""")  # which no prompt begins like: `{}` is the subject


@dataclass(frozen=True, kw_only=True)
class PhotoPrompts:
    """What one photo is called.

    Attributes:
        prompts: at least one, each with `{}`; one is drawn per step.
        source: where they come from, for the report.
    """

    prompts: tuple[str, ...]
    source: str


def prompts_for(
    task: str, captions: Mapping[int, Caption | None], custom_prompts: tuple[str, ...]
) -> dict[int, PhotoPrompts]:
    """The prompts of each photo, by its position.

    What its owner wrote about a photo, beside it or in a table, is its only prompt. Custom prompts
    go one to a photo when there are as many as photos, also to those that have no use for theirs;
    otherwise every photo draws from all of them. Without custom prompts a photo whose name reads
    like a sentence is called that, and all others draw from the templates of the task.

    Args:
        captions: what came with each photo, by its position.

    Raises: PromptError, as `check_prompts`.
    """
    check_prompts(task, custom_prompts)
    # Whoever writes custom prompts means them: a file's name is no reason to pass them over.
    usable = {
        position: caption
        for position, caption in captions.items()
        if caption and not (custom_prompts and caption.source == FILE_NAME)
    }
    found = _prompts_of_all(task, list(captions), custom_prompts)
    found |= {
        position: PhotoPrompts(prompts=(with_slot(caption.text),), source=caption.source)
        for position, caption in usable.items()
    }
    _tell_captions(usable, len(captions), bool(custom_prompts))
    return found


def _prompts_of_all(
    task: str, positions: Sequence[int], custom_prompts: tuple[str, ...]
) -> dict[int, PhotoPrompts]:
    """As if no photo had a caption."""
    if not custom_prompts:
        templates = PhotoPrompts(prompts=TEMPLATES[task], source="templates")
        return dict.fromkeys(positions, templates)
    _tell_custom_prompts(custom_prompts)
    prompts = tuple(with_slot(clean_text(prompt)) for prompt in custom_prompts)
    if len(prompts) == len(positions):
        logger.info("custom_prompts: one for each of the %d pictures sent", len(positions))
        return {
            position: PhotoPrompts(prompts=(prompt,), source="its prompt")
            for position, prompt in zip(positions, prompts, strict=True)
        }
    logger.info(
        "custom_prompts: %d for the %d pictures sent, so every picture draws from all of them",
        len(prompts),
        len(positions),
    )
    return dict.fromkeys(positions, PhotoPrompts(prompts=prompts, source="all prompts"))


def _tell_custom_prompts(custom_prompts: tuple[str, ...]) -> None:
    """What is done to them, by their numbers."""
    too_long = [n for n, p in enumerate(custom_prompts, 1) if len(p) > MAX_PROMPT_CHARACTERS]
    if too_long:
        logger.warning(
            "custom_prompts: more than %d characters in number %s: the rest is left out",
            MAX_PROMPT_CHARACTERS,
            numbered(too_long),
        )
    without_slot = [n for n, p in enumerate(custom_prompts, 1) if not has_slot(clean_text(p))]
    if without_slot:
        logger.warning(
            "custom_prompts: no {} in number %s: the subject is put in front",
            numbered(without_slot),
        )


def _tell_captions(captions: Mapping[int, Caption], num_photos: int, has_others: bool) -> None:
    """Where captions come from, and what is done to them, by the numbers of their photos."""
    if not captions:
        return
    sources = Counter(caption.source for caption in captions.values())
    logger.info(
        "captions: %d of the %d pictures sent brought one (%s)%s",
        len(captions),
        num_photos,
        ", ".join(f"{source} {number}" for source, number in sources.items()),
        ": custom_prompts are for the others" if has_others else "",
    )
    without_slot = [n for n, caption in captions.items() if not has_slot(caption.text)]
    if without_slot:
        logger.warning(
            "captions: no {}, [trigger] or TOK (picture no. %s): the subject is put in front",
            numbered(without_slot),
        )


def check_prompts(task: str, custom_prompts: tuple[str, ...]) -> None:
    """Raises: PromptError, for an unknown task and for prompts that cannot be trained with."""
    if task not in TEMPLATES:
        raise PromptError(f"task must be one of {', '.join(TEMPLATES)}; got {task!r}.")
    if len(custom_prompts) > MAX_PROMPTS:
        raise PromptError(
            f"custom_prompts holds {len(custom_prompts):,} prompts; at most {MAX_PROMPTS:,} are"
            " accepted. One for each picture is enough."
        )
    for number, prompt in enumerate(custom_prompts, 1):
        if not clean_text(prompt):
            raise PromptError(
                f"custom_prompts: number {number} is empty. Describe the photo, with {SLOT} where"
                " its subject goes."
            )


def parse_list(text: str | None, name: str) -> tuple[str, ...]:
    """A field of the form -> its items: a JSON list of strings, or one item a line.

    None and blank text give no items; blank lines are passed over. `name` is the field's, for the
    message.

    Raises: PromptError, for text that begins like a JSON list and is none, for a JSON object, and
        for what is no text.
    """
    if not isinstance(text, str | None):
        raise PromptError(
            f"{name} must be a text; got {type(text).__name__}. Send one item a line, or a JSON"
            " list, as a text."
        )
    text = (text or "").strip()
    how = 'Write ["first", "second"] with double quotes, or one item a line without brackets.'
    if _JSON_OBJECT.match(text):
        raise PromptError(f"{name} is a JSON object, with names; only its values are wanted. {how}")
    if not text.startswith("[") or begins_with_slot(text):  # as "[trigger] at sea" does
        return tuple(line.strip() for line in text.splitlines() if line.strip())
    try:
        items = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PromptError(f'{name} begins with "[" but is not a JSON list. {how}') from error
    for number, item in enumerate(items, 1):
        if not isinstance(item, str):
            raise PromptError(f"{name}: item {number} of the list is not a text in quotes. {how}")
    return tuple(item.strip() for item in items)
