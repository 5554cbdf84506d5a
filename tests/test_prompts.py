"""What each photo is called while it is trained on."""

import logging

import pytest

from preprocessing.captions import FILE_NAME, TABLE, TEXT_FILE, Caption
from preprocessing.errors import PromptError
from preprocessing.prompts import parse_list, prompts_for
from preprocessing.templates import TEMPLATES


@pytest.mark.parametrize("task", ["face", "object", "style", "location"])
def test_every_task_has_twenty_different_templates_with_one_place_for_the_subject(task):
    assert len(set(TEMPLATES[task])) == 20
    assert all(template.count("{}") == 1 for template in TEMPLATES[task])


def prompts_of(
    task: str, num_photos: int, custom_prompts: tuple[str, ...]
) -> tuple[tuple[str, ...], ...]:
    """Of photos that came without captions."""
    found = prompts_for(task, dict.fromkeys(range(1, num_photos + 1)), custom_prompts)
    return tuple(found[position].prompts for position in range(1, num_photos + 1))


def test_without_custom_prompts_every_photo_draws_from_the_templates_of_the_task():
    assert prompts_of("style", 2, ()) == (TEMPLATES["style"], TEMPLATES["style"])


def test_as_many_custom_prompts_as_photos_go_one_to_each():
    assert prompts_of("face", 2, ("{} at sea", "{} at home")) == (("{} at sea",), ("{} at home",))


@pytest.mark.parametrize("num_photos", [1, 3])
def test_otherwise_every_photo_draws_from_all_custom_prompts(num_photos):
    prompts = ("{} at sea", "{} at home")
    assert prompts_of("face", num_photos, prompts) == (prompts,) * num_photos


def test_a_prompt_without_a_place_for_the_subject_gets_it_in_front_and_this_is_said(caplog):
    prompts = ("{} at sea", "smiling at home")
    assert prompts_of("face", 2, prompts) == (("{} at sea",), ("{} smiling at home",))
    assert "no {} in number 2" in caplog.text
    assert "smiling" not in caplog.text


@pytest.mark.parametrize(
    ("prompt", "read_as"),
    [
        ("a photo of [trigger] at sea", "a photo of {} at sea"),
        ("TOK at sea, TOK smiling", "{} at sea, {} smiling"),
        ("<s1><s2> at sea", "{} at sea"),
        ("{} beside a TOK", "{} beside a {}"),
        ("[TRIGGER] and <s1><s2>", "{} and {}"),
        ("a {} and the same {} asleep", "a {} and the same {} asleep"),
        ("TOKYO at night", "{} TOKYO at night"),
        ("a token of love", "{} a token of love"),
    ],
)
def test_what_other_trainers_write_for_the_subject_is_understood(prompt, read_as):
    assert prompts_of("face", 1, (prompt,)) == ((read_as,),)
    caption = {1: Caption(text=prompt, source=TEXT_FILE)}
    assert prompts_for("face", caption, ())[1].prompts == (read_as,)


def test_other_braces_are_left_alone():
    assert prompts_of("face", 1, ("{} in {curly} {{braces",)) == (("{} in {curly} {{braces",),)


def test_line_breaks_within_a_prompt_become_spaces():
    assert prompts_of("face", 1, (" {} at\n the  sea ",)) == (("{} at the sea",),)


def test_what_no_tokenizer_can_read_is_left_out_of_a_prompt():
    assert prompts_of("face", 1, ("{} at\x00 \ud800sea\x1b",)) == (("{} at sea",),)


def test_an_endless_prompt_is_shortened_and_this_is_said_by_its_number(caplog):
    ((shortened,),) = prompts_of("face", 1, ("{} " + "very " * 300 + "old",))
    assert shortened == "{} " + "very " * 198 + "very"
    assert "more than 1000 characters in number 1" in caplog.text


def test_the_subject_is_never_lost_at_the_end_of_an_endless_prompt():
    ((shortened,),) = prompts_of("face", 1, ("very " * 300 + "{}",))
    assert shortened.startswith("{} very very")


def test_a_prompt_that_cannot_be_trained_with_is_refused_by_its_number():
    with pytest.raises(PromptError, match="number 2 is empty"):
        prompts_of("face", 2, ("{} at sea", "  "))


def test_too_many_prompts_are_refused():
    with pytest.raises(PromptError, match="holds 10,001 prompts; at most 10,000"):
        prompts_of("face", 2, ("{} at sea",) * 10_001)


def test_a_task_that_does_not_exist_is_refused():
    with pytest.raises(PromptError, match="face, object, style, location; got 'car'"):
        prompts_of("car", 1, ())


CAPTIONS = {
    1: Caption(text="{} asleep", source=TEXT_FILE),
    2: None,
    4: Caption(text="a dog in the rain", source=TABLE),
    5: Caption(text="a dog on the grass", source=FILE_NAME),
}


def test_a_caption_is_its_photos_only_prompt_and_the_others_draw_from_the_templates(caplog):
    caplog.set_level(logging.INFO)
    found = prompts_for("object", CAPTIONS, ())
    assert {position: one.source for position, one in found.items()} == {
        1: "text file",
        2: "templates",
        4: "table",
        5: "file name",
    }
    assert found[1].prompts == ("{} asleep",)
    assert found[2].prompts == TEMPLATES["object"]
    assert found[4].prompts == ("{} a dog in the rain",)
    assert found[5].prompts == ("{} a dog on the grass",)
    assert "3 of the 4 pictures sent brought one (text file 1, table 1, file name 1)" in caplog.text
    assert "(picture no. 4-5): the subject is put in front" in caplog.text
    assert "dog" not in caplog.text


def test_captions_written_for_a_photo_go_before_custom_prompts_and_file_names_after(caplog):
    caplog.set_level(logging.INFO)
    found = prompts_for("object", CAPTIONS, ("{} one", "{} two", "{} three", "{} four"))
    assert {position: one.prompts for position, one in found.items()} == {
        1: ("{} asleep",),
        2: ("{} two",),
        4: ("{} a dog in the rain",),
        5: ("{} four",),
    }
    assert "2 of the 4 pictures sent brought one" in caplog.text
    assert "custom_prompts are for the others" in caplog.text


def test_a_pool_of_custom_prompts_is_for_the_photos_without_captions():
    found = prompts_for("object", CAPTIONS, ("{} one", "{} two"))
    assert [found[n].source for n in CAPTIONS] == [
        "text file",
        "all prompts",
        "table",
        "all prompts",
    ]


def test_the_log_never_holds_a_prompt(caplog):
    caplog.set_level(logging.DEBUG)
    prompts_of("face", 1, ("secret {}", "secret"))
    prompts_of("face", 1, ("secret {}",))
    prompts_of("face", 1, ("secret " * 300,))
    prompts_for("face", {1: Caption(text="secret", source=TABLE)}, ())
    assert caplog.records
    assert "secret" not in caplog.text


@pytest.mark.parametrize("text", [None, "", "  \n ", "[]"])
def test_an_empty_field_has_no_items(text):
    assert parse_list(text, "custom_prompts") == ()


def test_a_field_may_be_a_json_list():
    assert parse_list(' ["a {}", "b, c"]\n', "custom_prompts") == ("a {}", "b, c")


def test_a_field_may_have_one_item_a_line():
    assert parse_list("a {}\r\n\n  b, c \n", "custom_prompts") == ("a {}", "b, c")


@pytest.mark.parametrize("text", ["[trigger] at sea\n{} [old]", " [TRIGGER] at sea \n\n{} [old]"])
def test_a_first_line_that_begins_with_the_subject_is_no_json_list(text):
    items = parse_list(text, "custom_prompts")
    assert [item.lower() for item in items] == ["[trigger] at sea", "{} [old]"]


@pytest.mark.parametrize("text", ["['a', 'b']", '["a", "b"', '["a" "b"]', "[" * 100_000, '["a"] b'])
def test_a_broken_json_list_is_explained(text):
    with pytest.raises(PromptError, match=r"instance_data_urls begins with .* double quotes"):
        parse_list(text, "instance_data_urls")


@pytest.mark.parametrize("text", ['{"1.jpg": "a {}"}', " {\n  'a': 'b'\n}", '{ "a": ["b"]}'])
def test_a_json_object_is_not_taken_for_a_prompt(text):
    with pytest.raises(PromptError, match="custom_prompts is a JSON object"):
        parse_list(text, "custom_prompts")


@pytest.mark.parametrize("text", ['["a", 2]', '["a", null]', '["a", ["b"]]', '["a", {"b": 1}]'])
def test_a_list_of_other_things_than_texts_is_explained(text):
    with pytest.raises(PromptError, match="custom_prompts: item 2 of the list is not a text"):
        parse_list(text, "custom_prompts")
