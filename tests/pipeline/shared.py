"""What the tests of the component share: texts, types of fixtures, and the component itself."""

from __future__ import annotations

from collections.abc import Callable

from spacy.language import Language
from spacy.tokens import Doc

from nerdistill.pipeline.component import NerDistill

TEXT = "Anna Schmidt besucht Berlin. La France a gagné contre l'Italie à Paris."
TEXTS = [TEXT, "", "Siemens AG opens in London", " \n ", "Ola Nordmann bor i Oslo no", "東京是日本的首都。"]

Found = Callable[[Doc], list[tuple[int, int, str, float]]]
Make = Callable[..., Language]


def pipe_of(nlp: Language) -> NerDistill:
    """The component of a pipeline."""
    component = nlp.get_pipe("nerdistill")
    assert isinstance(component, NerDistill)
    return component
