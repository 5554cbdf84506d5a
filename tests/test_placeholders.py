import pytest
import torch
from torch import nn

from training.base_model import BaseModel, BaseModelError
from training.placeholders import PlaceholderEmbedding, new_words, tokenize

TOKENS = ("<s1>", "<s2>")


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_the_rows_move_exactly_as_those_of_the_whole_table_would() -> None:
    """Training two rows equals the usual way: train the table, then put the other rows back."""
    torch.manual_seed(0)
    table = nn.Embedding(50, 8).requires_grad_(False)
    ours = PlaceholderEmbedding(table, 0.1 * torch.randn(2, 8))
    both = torch.cat([table.weight, ours.rows.detach()])
    whole = nn.Embedding.from_pretrained(both.clone(), freeze=False)
    input_ids = torch.tensor([[3, 50, 51, 7], [51, 51, 0, 49]])
    target = torch.randn(2, 4, 8)
    optimizers = [
        torch.optim.AdamW([ours.rows], lr=1e-2, weight_decay=0.0),
        torch.optim.AdamW([whole.weight], lr=1e-2, weight_decay=0.0),
    ]

    for _ in range(20):
        for module, optimizer in zip((ours, whole), optimizers, strict=True):
            ((module(input_ids) - target) ** 2).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():
            whole.weight[:50] = both[:50]

    torch.testing.assert_close(ours.rows, whole.weight[50:])
    assert torch.equal(table.weight, both[:50])


def test_norms_are_pulled_toward_the_target_and_directions_kept() -> None:
    embedding = PlaceholderEmbedding(nn.Embedding(5, 3), torch.tensor([[3.0, 0, 4], [0, 0.1, 0]]))
    before = embedding.rows.detach().clone()

    embedding.pull_norms(target=0.4, pull=torch.tensor(0.1))

    norms = embedding.rows.norm(dim=-1)
    torch.testing.assert_close(norms, torch.tensor([5 - 0.46, 0.1 + 0.03]))
    torch.testing.assert_close(
        embedding.rows / norms[:, None], before / before.norm(dim=-1)[:, None]
    )


def test_new_words_begin_at_random_and_with_the_spread_of_the_prior_service(
    base: BaseModel,
) -> None:
    tokens = tuple(f"<s{number}>" for number in range(1, 21))
    with new_words(base, tokens, generator()) as words:
        rows = words.embedding.rows.detach()

    assert rows.std().item() == pytest.approx(0.017, rel=0.05)
    assert abs(rows.mean().item()) < 0.002
    assert len(rows.unique(dim=0)) == 20


def test_each_new_word_is_one_token_wherever_it_stands(base: BaseModel) -> None:
    with new_words(base, TOKENS, generator()) as words:
        ids = words.tokenize(("a photo of {}", "{}, an icon", "the {} style"), ((1,), (2,), (3,)))

    first = base.text_encoder.get_input_embeddings().num_embeddings
    assert ids.shape == (3, 77)
    for row in ids:
        assert row[row >= first].tolist() == [first, first + 1]


def test_words_other_than_the_placeholders_keep_their_meaning(base: BaseModel) -> None:
    ids = tokenize(base.tokenizer, ("a photo of a dog", ""))
    before = base.text_encoder(ids).last_hidden_state

    with new_words(base, TOKENS, generator()) as words:
        assert torch.equal(tokenize(words.tokenizer, ("a photo of a dog", "")), ids)
        during = base.text_encoder(ids).last_hidden_state

    assert torch.equal(during, before)


def test_tokenizer_and_text_encoder_are_as_before_even_after_a_failure(base: BaseModel) -> None:
    table, size = base.text_encoder.get_input_embeddings(), len(base.tokenizer)

    with pytest.raises(RuntimeError, match="stop"), new_words(base, TOKENS, generator()):
        raise RuntimeError("stop")

    assert base.text_encoder.get_input_embeddings() is table
    assert len(base.tokenizer) == size


def test_a_word_that_the_base_model_knows_cannot_be_a_placeholder(base: BaseModel) -> None:
    with (
        pytest.raises(BaseModelError, match="already has the words"),
        new_words(base, ("dog</w>",), generator()),
    ):
        pass


LONG = "a very " * 50 + "long photo"  # 102 words


def test_a_prompt_that_is_too_long_loses_its_end_and_this_is_said(base: BaseModel, caplog) -> None:
    with new_words(base, TOKENS, generator()) as words:
        ids = words.tokenize(("a photo of {}", f"{{}}, {LONG}"), ((1, 2), (3, 7)))
        whole = words.tokenizer(f"<s1><s2>, {LONG}", verbose=False).input_ids

    assert ids[1, :76].tolist() == whole[:76]
    assert ids[1, 76] == whole[-1]
    assert "prompts: 1 of 2 cut off after the 75 tokens that" in caplog.text
    assert "(pictures 3, 7, counted without the skipped ones)" in caplog.text
    assert "put in front" not in caplog.text
    assert "very" not in caplog.text


@pytest.mark.parametrize("num_words", [74, 75, 76, 102])
def test_a_placeholder_that_would_be_cut_off_is_put_in_front(
    base: BaseModel, caplog, num_words: int
) -> None:
    before = " ".join(LONG.split()[:num_words])
    with new_words(base, TOKENS, generator()) as words:
        ids = words.tokenize((f"{before} {{}} at sea", "a photo of {}"), ((2,), (1,)))
        expected = tokenize(words.tokenizer, (f"<s1><s2> {before} at sea",))

    assert torch.equal(ids[:1], expected)
    assert "prompts: 1 of these had {} in the part cut off" in caplog.text
    assert "it is put in front (picture 2, counted" in caplog.text


def test_a_prompt_that_just_fits_is_left_as_it_is(base: BaseModel, caplog) -> None:
    with new_words(base, TOKENS, generator()) as words:
        words.tokenize((" ".join((*LONG.split()[:73], "{}")),), ((1,),))

    assert caplog.text == ""


def test_hundreds_of_prompts_that_are_too_long_do_not_flood_the_log(
    base: BaseModel, caplog
) -> None:
    with new_words(base, TOKENS, generator()) as words:
        prompts = tuple(f"{LONG} {number} {{}}" for number in range(300))
        words.tokenize(prompts, tuple((number + 1,) for number in range(300)))

    assert "300 of 300 cut off" in caplog.text
    assert "(pictures 1, 2, 3," in caplog.text
    assert len(caplog.text) < 1_000
