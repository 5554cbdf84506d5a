"""What each photo is called while it is trained on: templates of the task, or the caller's own."""

import json
import logging

from preprocessing.errors import PromptError
from preprocessing.limits import MAX_PROMPT_CHARACTERS, MAX_PROMPTS

logger = logging.getLogger(__name__)

SLOT = "{}"  # where the placeholder tokens go

# Only how a picture was made, never what is in it: whatever a template says that the photo does not
# show would be learned as part of the subject.
TEMPLATES: dict[str, tuple[str, ...]] = {
    "face": (
        "a photo of {}",
        "a portrait of {}",
        "a close-up of {}",
        "a headshot of {}",
        "a colour photo of {}",
        "a sharp photo of {}",
        "a candid photo of {}",
        "a snapshot of {}",
        "a simple picture of {}",
        "a portrait photograph showing {}",
        "a photograph of {}, head and shoulders",
        "a picture showing the face of {}",
        "the face of {}",
        "a natural portrait of {}",
        "a detailed photo of the face of {}",
        "a well lit portrait of {}",
        "a profile picture of {}",
        "an everyday photo of {}",
        "one person, {}",
        "{}, portrait photography",
    ),
    "object": (
        "a photo of {}",
        "a picture of {}",
        "a close-up of {}",
        "a sharp photo of {}",
        "a colour photo of {}",
        "a snapshot of {}",
        "a detailed picture of {}",
        "a simple photo of {}",
        "a product photo of {}",
        "a photograph showing {}",
        "a view of {}",
        "a well lit photo of {}",
        "an everyday photo of {}",
        "{} in the middle of the picture",
        "{} seen from nearby",
        "this is {}",
        "one {}",
        "an image with {} in it",
        "a plain view of {}",
        "{}, photographed",
    ),
    "style": (
        "a picture in the style of {}",
        "artwork in the style of {}",
        "an image made in {} style",
        "a work by {}",
        "a composition in the manner of {}",
        "something drawn in {} style",
        "a scene in the style of {}",
        "a design in {} style",
        "a study in the style of {}",
        "a piece with the look of {}",
        "a picture that looks like {}",
        "visual art, {} style",
        "a detailed work in {} style",
        "a small picture in {} style",
        "an example of {} style",
        "a typical work of {}",
        "the look of {}",
        "everything in {} style",
        "{} style",
        "in the style of {}",
    ),
    "location": (
        "a photo of {}",
        "a view of {}",
        "a picture taken at {}",
        "a scene at {}",
        "a wide view of {}",
        "a photograph of the place {}",
        "a colour photo of {}",
        "a sharp photo of {}",
        "a snapshot taken at {}",
        "a detailed view of {}",
        "the surroundings of {}",
        "a visit to {}",
        "at {}",
        "a simple picture of {}",
        "an everyday view of {}",
        "a postcard of {}",
        "a photograph showing {}",
        "the place called {}",
        "a look around {}",
        "{}, seen by a visitor",
    ),
}


def prompts_for(
    task: str, num_photos: int, custom_prompts: tuple[str, ...]
) -> tuple[tuple[str, ...], ...]:
    """The prompts of each of `num_photos` photos, every prompt with exactly one `{}`.

    Custom prompts go one to a photo when there are as many as photos; otherwise every photo draws
    from all of them. Without custom prompts every photo draws from the templates of the task.

    Raises: PromptError, as `check_prompts`.
    """
    check_prompts(task, custom_prompts)
    if not custom_prompts:
        return (TEMPLATES[task],) * num_photos
    prompts = tuple(_with_slot(prompt) for prompt in custom_prompts)
    without_slot = [
        str(number) for number, prompt in enumerate(custom_prompts, 1) if SLOT not in prompt
    ]
    if without_slot:
        logger.warning(
            "custom_prompts: no {} in number %s: the subject is put in front",
            ", ".join(without_slot),
        )
    if len(prompts) == num_photos:
        logger.info("custom_prompts: one for each of the %d photos", num_photos)
        return tuple((prompt,) for prompt in prompts)
    logger.info(
        "custom_prompts: %d for %d photos, so every photo draws from all of them",
        len(prompts),
        num_photos,
    )
    return (prompts,) * num_photos


def check_prompts(task: str, custom_prompts: tuple[str, ...]) -> None:
    """Raises: PromptError, for an unknown task and for prompts that cannot be trained with."""
    if task not in TEMPLATES:
        raise PromptError(f"task must be one of {', '.join(TEMPLATES)}; got {task!r}.")
    if len(custom_prompts) > MAX_PROMPTS:
        raise PromptError(
            f"custom_prompts holds {len(custom_prompts):,} prompts; at most {MAX_PROMPTS:,} are"
            " accepted. One for each photo is enough."
        )
    for number, prompt in enumerate(custom_prompts, 1):
        fault = _fault(prompt)
        if fault:
            raise PromptError(f"custom_prompts: number {number} {fault}")


def parse_list(text: str | None, name: str) -> tuple[str, ...]:
    """A field of the form -> its items: a JSON list of strings, or one item a line.

    None and blank text give no items; blank lines are passed over. `name` is the field's, for the
    message.

    Raises: PromptError, for text that begins like a JSON list and is none.
    """
    text = (text or "").strip()
    if not text.startswith("["):
        return tuple(line.strip() for line in text.splitlines() if line.strip())
    how = 'Write ["first", "second"] with double quotes, or one item a line without brackets.'
    try:
        items = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PromptError(f'{name} begins with "[" but is not a JSON list. {how}') from error
    for number, item in enumerate(items, 1):
        if not isinstance(item, str):
            raise PromptError(f"{name}: item {number} of the list is not a text in quotes. {how}")
    return tuple(item.strip() for item in items)


def _with_slot(prompt: str) -> str:
    prompt = " ".join(prompt.split())
    return prompt if SLOT in prompt else f"{SLOT} {prompt}"


def _fault(prompt: str) -> str:
    if not prompt.strip():
        return "is empty. Describe the photo, with {} where its subject goes."
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        return (
            f"has {len(prompt):,} characters; only the first 350 or so could be read."
            " One sentence is enough."
        )
    if prompt.count(SLOT) > 1:
        return f"has {{}} {prompt.count(SLOT)} times. Write it once, where the subject is named."
    return ""
