"""More transfer text from labelled sentences: entities swapped for others of the same type and language.

The sentences are real, the statements are not, and in languages that inflect names the case may be wrong. They serve as transfer text,
which the teacher labels like any other; no gold tag is made up.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from nerdistill.errors import DataError
from nerdistill.labels import spans_of
from nerdistill.records import Sentence, labelled
from nerdistill.text.splitter import split_words

Names = Mapping[tuple[str, str], Sequence[tuple[str, ...]]]
"""(language, type) to names, each as its words."""


def read_names(path: Path, language: str, types: Sequence[str]) -> dict[tuple[str, str], list[tuple[str, ...]]]:
    """Names of one language from a file of ``TYPE<tab>name`` lines.

    Raises:
        DataError: The file cannot be read, or a line has another form or an unknown type.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); expected UTF-8 text") from error
    names: dict[tuple[str, str], list[tuple[str, ...]]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        kind, tab, name = line.rstrip("\r").partition("\t")
        if not tab or kind not in types or not split_words(name):
            raise DataError(f"{path}:{number}: found {line[:60]!r}, expected a type of {', '.join(types)}, a tab and a name")
        names.setdefault((language, kind), []).append(tuple(split_words(name)))
    return names


def names_in(sentences: Sequence[Sentence]) -> dict[tuple[str, str], list[tuple[str, ...]]]:
    """The entities of labelled sentences, each once."""
    names: dict[tuple[str, str], dict[tuple[str, ...], None]] = {}
    for sentence, tags in labelled(sentences):
        for span in spans_of(tags):
            names.setdefault((sentence.language, span.label), {})[sentence.words[span.start : span.stop]] = None
    return {key: list(values) for key, values in names.items()}


def swap_entities(sentences: Sequence[Sentence], names: Names, copies: int, seed: int) -> list[Sentence]:
    """New unlabelled sentences from labelled ones.

    Args:
        sentences: Labelled; those without an entity give nothing.
        names: What to put in; a type without names keeps its entities.
        copies: New sentences for each.
        seed: Of the choice.
    """
    chooser = random.Random(seed)
    made: list[Sentence] = []
    for sentence, tags in labelled(sentences):
        spans = spans_of(tags)
        for _ in range(copies if spans else 0):
            words: list[str] = []
            at = 0
            for span in spans:
                pool = names.get((sentence.language, span.label))
                words += sentence.words[at : span.start]
                words += chooser.choice(pool) if pool else sentence.words[span.start : span.stop]
                at = span.stop
            made.append(Sentence((*words, *sentence.words[at:]), None, sentence.language, f"{sentence.origin} (swapped)"))
    return made
