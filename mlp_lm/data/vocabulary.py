"""Tokens and their integer ids. Id 0 is always the boundary token."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int

BOUNDARY = "."  # Before the first and after the last token of a word, as in the makemore lectures.
BOUNDARY_ID = 0


@dataclass(frozen=True)
class Vocabulary:
    """An ordered set of tokens whose first one is the boundary.

    Sorting alone would put `.` first only where no token sorts before it, so its place is pinned.
    """

    tokens: tuple[str, ...]

    @classmethod
    def of(cls, sequences: Iterable[Iterable[str]]) -> "Vocabulary":
        """The vocabulary of all tokens that occur in `sequences` (for names: the characters of the words)."""
        characters = set().union(*sequences)
        return cls((BOUNDARY, *sorted(characters - {BOUNDARY})))

    @cached_property
    def ids(self) -> dict[str, int]:
        """Token to id."""
        return {token: i for i, token in enumerate(self.tokens)}

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, tokens: Iterable[str]) -> list[int]:
        """Ids of `tokens`.

        Raises:
            ValueError: a token is not in the vocabulary.
        """
        try:
            return [self.ids[token] for token in tokens]
        except KeyError as unknown:
            raise ValueError(f"token {unknown.args[0]!r} is not in the vocabulary of {len(self)} tokens") from None

    def decode(self, ids: Sequence[int] | Int[np.ndarray, " length"]) -> str:
        """The word spelled by `ids`, up to the first boundary."""
        word = []
        for i in ids:
            if i == BOUNDARY_ID:
                break
            word.append(self.tokens[int(i)])
        return "".join(word)
