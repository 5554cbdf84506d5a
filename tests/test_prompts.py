"""What each photo is called while it is trained on."""

import logging

import pytest

from preprocessing.errors import PromptError
from preprocessing.prompts import TEMPLATES, parse_list, prompts_for


@pytest.mark.parametrize("task", ["face", "object", "style", "location"])
def test_every_task_has_twenty_different_templates_with_one_place_for_the_subject(task):
    assert len(set(TEMPLATES[task])) == 20
    assert all(template.count("{}") == 1 for template in TEMPLATES[task])


def test_without_custom_prompts_every_photo_draws_from_the_templates_of_the_task():
    assert prompts_for("style", 2, ()) == (TEMPLATES["style"], TEMPLATES["style"])


def test_as_many_custom_prompts_as_photos_go_one_to_each():
    assert prompts_for("face", 2, ("{} at sea", "{} at home")) == (("{} at sea",), ("{} at home",))


@pytest.mark.parametrize("num_photos", [1, 3])
def test_otherwise_every_photo_draws_from_all_custom_prompts(num_photos):
    prompts = ("{} at sea", "{} at home")
    assert prompts_for("face", num_photos, prompts) == (prompts,) * num_photos


def test_a_prompt_without_a_place_for_the_subject_gets_it_in_front_and_this_is_said(caplog):
    prompts = ("{} at sea", "smiling at home")
    assert prompts_for("face", 2, prompts) == (("{} at sea",), ("{} smiling at home",))
    assert "no {} in number 2" in caplog.text
    assert "smiling" not in caplog.text


def test_other_braces_are_left_alone():
    assert prompts_for("face", 1, ("{} in {curly} {{braces",)) == (("{} in {curly} {{braces",),)


def test_line_breaks_within_a_prompt_become_spaces():
    assert prompts_for("face", 1, (" {} at\n the  sea ",)) == (("{} at the sea",),)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("{} and {}", "number 2 has {} 2 times"),
        ("  ", "number 2 is empty"),
        ("{} " + "very " * 300, "number 2 has 1,503 characters"),
    ],
)
def test_a_prompt_that_cannot_be_trained_with_is_refused_by_its_number(prompt, words):
    with pytest.raises(PromptError) as refusal:
        prompts_for("face", 2, ("{} at sea", prompt))
    assert words in str(refusal.value)


def test_a_task_that_does_not_exist_is_refused():
    with pytest.raises(PromptError, match="face, object, style, location; got 'car'"):
        prompts_for("car", 1, ())


def test_the_log_never_holds_a_prompt(caplog):
    caplog.set_level(logging.DEBUG)
    prompts_for("face", 1, ("secret {}", "secret"))
    prompts_for("face", 1, ("secret {}",))
    assert caplog.records
    assert "secret" not in caplog.text


@pytest.mark.parametrize("text", [None, "", "  \n ", "[]"])
def test_an_empty_field_has_no_items(text):
    assert parse_list(text, "custom_prompts") == ()


def test_a_field_may_be_a_json_list():
    assert parse_list(' ["a {}", "b, c"]\n', "custom_prompts") == ("a {}", "b, c")


def test_a_field_may_have_one_item_a_line():
    assert parse_list("a {}\r\n\n  b, c \n", "custom_prompts") == ("a {}", "b, c")


@pytest.mark.parametrize("text", ["['a', 'b']", '["a", "b"', '["a" "b"]', "[" * 100_000, '["a"] b'])
def test_a_broken_json_list_is_explained(text):
    with pytest.raises(PromptError, match=r"instance_data_urls begins with .* double quotes"):
        parse_list(text, "instance_data_urls")


@pytest.mark.parametrize("text", ['["a", 2]', '["a", null]', '["a", ["b"]]', '["a", {"b": 1}]'])
def test_a_list_of_other_things_than_texts_is_explained(text):
    with pytest.raises(PromptError, match="custom_prompts: item 2 of the list is not a text"):
        parse_list(text, "custom_prompts")
