"""Textual inversion: new words for the subject, and nothing else in the vocabulary touched."""

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTokenizer

from training.base_model import BaseModel, BaseModelError

logger = logging.getLogger(__name__)

_MAX_NUMBERS = 20  # in one line of the log
INITIAL_STD = 0.017  # the prior service's; the spread of CLIP's own token embeddings is 0.014


class PlaceholderEmbedding(nn.Module):
    """The frozen token table with a few trainable rows after its end.

    Only `rows` learns, so no other word can drift: there is nothing to mask in the gradient and
    nothing to restore after an update. Written with `where`, which a CUDA graph can hold.
    """

    def __init__(self, table: nn.Embedding, rows: Tensor) -> None:
        """`rows`: (num_tokens, width), float32, on the table's device."""
        super().__init__()
        self.table = table
        self.rows = nn.Parameter(rows)

    def forward(self, input_ids: Tensor) -> Tensor:
        """(batch, length) token ids -> (batch, length, width) in the table's precision."""
        first = self.table.num_embeddings
        is_placeholder = (input_ids >= first).unsqueeze(-1)
        known = self.table(input_ids.clamp(max=first - 1))
        learned = F.embedding((input_ids - first).clamp(min=0), self.rows).to(known.dtype)
        return torch.where(is_placeholder, learned, known)

    @torch.no_grad()
    def pull_norms(self, target: float, pull: Tensor) -> None:
        """Move each row's L2 norm a fraction `pull` (a scalar) of the way to `target`.

        Directions stay as they are.
        """
        norms = self.rows.norm(dim=-1, keepdim=True)
        self.rows.mul_((norms + pull * (target - norms)) / norms.clamp(min=1e-12))


@dataclass(frozen=True)
class Placeholders:
    """What a run uses while its new words exist: a tokenizer that knows them, and their rows."""

    tokens: tuple[str, ...]
    tokenizer: CLIPTokenizer
    embedding: PlaceholderEmbedding

    @property
    def text(self) -> str:
        """The words as they stand in a prompt: `<s1><s2>`, as the prior service wrote them."""
        return "".join(self.tokens)

    def tokenize(self, prompts: tuple[str, ...], pictures: tuple[tuple[int, ...], ...]) -> Tensor:
        """Prompts with `{}` for the placeholders -> (len(prompts), 77) ids, on the CPU.

        What is longer than the text encoder reads loses its end; if the placeholders stood there,
        they are put in front. Both is logged, by the numbers of the prompts' pictures.

        Args:
            pictures: of each prompt the numbers, from 1, of the pictures that it is for.
        """
        texts = [prompt.replace("{}", self.text) for prompt in prompts]
        ids = tokenize(self.tokenizer, tuple(texts))
        num_found = (ids >= self.embedding.table.num_embeddings).sum(dim=1)
        lost = (num_found < len(self.tokens)).nonzero().flatten().tolist()
        for index in lost:
            rest = " ".join(prompts[index].replace("{}", "").split())
            ids[index] = tokenize(self.tokenizer, (f"{self.text} {rest}",))[0]
        self._tell_shortened(texts, lost, pictures)
        return ids

    def _tell_shortened(
        self, texts: list[str], lost: list[int], pictures: tuple[tuple[int, ...], ...]
    ) -> None:
        limit = self.tokenizer.model_max_length
        lengths = [len(ids) for ids in self.tokenizer(texts, verbose=False).input_ids]
        too_long = [index for index, length in enumerate(lengths) if length > limit]
        if too_long:
            logger.warning(
                "prompts: %d of %d cut off after the %d tokens that the text encoder reads (%s)",
                len(too_long),
                len(texts),
                limit - 2,
                _whose(too_long, pictures),
            )
        if lost:
            logger.warning(
                "prompts: %d of these had {} in the part cut off; it is put in front (%s)",
                len(lost),
                _whose(lost, pictures),
            )


def _whose(prompts: list[int], pictures: tuple[tuple[int, ...], ...]) -> str:
    """Only the first few. Training has not met the pictures that were skipped."""
    numbers = sorted({number for index in prompts for number in pictures[index]})
    named = ", ".join(map(str, numbers[:_MAX_NUMBERS]))
    dots = ", ..." if len(numbers) > _MAX_NUMBERS else ""
    noun = "picture" if len(numbers) == 1 else "pictures"
    return f"{noun} {named}{dots}, counted without the skipped ones"


def tokenize(tokenizer: CLIPTokenizer, prompts: tuple[str, ...]) -> Tensor:
    """-> (len(prompts), 77) ids, padded and cut to what the text encoder reads."""
    encoded = tokenizer(
        list(prompts),
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    )
    return encoded.input_ids


@contextmanager
def new_words(
    base: BaseModel, tokens: tuple[str, ...], generator: torch.Generator
) -> Iterator[Placeholders]:
    """Teach tokenizer and text encoder the tokens; both are as before afterwards.

    Raises:
        BaseModelError: when the tokenizer already knows one, or counts other rows than the table.
    """
    table = base.text_encoder.get_input_embeddings()
    if isinstance(table, PlaceholderEmbedding):  # a cancellation came in the last line below
        table = table.table
    tokenizer = copy.deepcopy(base.tokenizer)
    known = [token for token in tokens if token in tokenizer.get_vocab()]
    if known:
        raise BaseModelError(f"The base model's tokenizer already has the words {known}.")
    tokenizer.add_tokens(list(tokens))
    ids = tokenizer.convert_tokens_to_ids(list(tokens))
    if ids != list(range(table.num_embeddings, table.num_embeddings + len(tokens))):
        raise BaseModelError(
            f"The tokenizer has {len(base.tokenizer)} words, the text encoder"
            f" {table.num_embeddings}: they are not of one base model."
        )
    rows = INITIAL_STD * torch.randn(
        len(tokens), table.embedding_dim, generator=generator, device=base.compute.device
    )
    embedding = PlaceholderEmbedding(table, rows)
    try:  # before the change: a cancellation can come at any moment
        base.text_encoder.set_input_embeddings(embedding)
        yield Placeholders(tokens, tokenizer, embedding)
    finally:
        base.text_encoder.set_input_embeddings(table)
