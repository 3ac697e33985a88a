"""The project's word splitter as a spaCy tokenizer, so that a pipeline splits text as the student's training did."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

from spacy.language import Language
from spacy.tokens import Doc
from spacy.util import registry
from spacy.vocab import Vocab

from nerdistill.errors import BundleError
from nerdistill.text.splitter import NAME, split_spaced, split_words


def make_tokenizer() -> Callable[[Language], SplitterTokenizer]:
    """What spaCy asks a tokenizer registry for: a function from a pipeline to its tokenizer."""
    return _make


def _make(nlp: Language) -> SplitterTokenizer:
    return SplitterTokenizer(nlp.vocab)


registry.tokenizers("nerdistill.Splitter.v1", func=make_tokenizer)


class SplitterTokenizer:
    """Splits text by `nerdistill.text.splitter`; ``doc.text`` is always the text that was given.

    White space is kept as spaCy keeps it: one space after a word belongs to that word, and what remains of a run is a token of its own.

    Args:
        vocab: The pipeline's vocabulary.
    """

    def __init__(self, vocab: Vocab) -> None:
        self.vocab = vocab

    def __call__(self, text: str) -> Doc:
        """Split one text.

        Raises:
            UnicodeEncodeError: The text holds a lone surrogate, which spaCy cannot store.
        """
        words, spaces = split_spaced(text) or _with_white_space(text)
        return Doc(self.vocab, words=words, spaces=spaces)

    def to_bytes(self, *, exclude: Iterable[str] = ()) -> bytes:
        """The name of the splitting rule: all that there is to save."""
        return json.dumps({"splitter": NAME}).encode()

    def from_bytes(self, raw: bytes, *, exclude: Iterable[str] = ()) -> Self:
        """Check that a saved pipeline was made with this splitting rule.

        Raises:
            BundleError: It was made with another one, so its student would see words it was not trained on.
        """
        try:
            found = json.loads(raw)["splitter"]
        except (ValueError, KeyError, TypeError) as error:
            raise BundleError(f"tokenizer: not the data of a nerdistill tokenizer ({error}); save the pipeline again") from error
        if found != NAME:
            raise BundleError(f"tokenizer: made with the word splitter '{found}', this version has '{NAME}'; install a matching nerdistill")
        return self

    def to_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> None:
        """Write what `to_bytes` gives into a file."""
        Path(path).write_bytes(self.to_bytes())

    def from_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> Self:
        """As `from_bytes`, from a file."""
        return self.from_bytes(Path(path).read_bytes())


def _with_white_space(text: str) -> tuple[list[str], list[bool]]:
    """Words and runs of white space beyond single spaces, in order, and whether a space follows each."""
    words: list[str] = []
    spaces: list[bool] = []
    end = 0
    for word in split_words(text):
        if words and text.startswith(" ", end):
            spaces[-1] = True
            end += 1
        if not text.startswith(word, end):
            start = text.index(word, end)  # only white space stands before it, so it is found where it begins
            words.append(text[end:start])
            spaces.append(False)
            end = start
        words.append(word)
        spaces.append(False)
        end += len(word)
    if words and text.startswith(" ", end):
        spaces[-1] = True
        end += 1
    if end < len(text):
        words.append(text[end:])
        spaces.append(False)
    return words, spaces
