"""Tests of `nerdistill.pipeline.transport`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import srsly
from catalogue import REGISTRY, Registry  # type: ignore[import-untyped]
from spacy.language import Language
from spacy.tokens import Doc
from spacy.vocab import Vocab

from nerdistill.pipeline.transport import RememberingRegistry, remember_codecs
from tests.pipeline.shared import TEXT, Found

CODECS = (srsly.msgpack_encoders, srsly.msgpack_decoders)


@pytest.fixture(autouse=True)
def _as_srsly_has_them() -> Iterator[None]:
    """Begin with registries that search, and leave no codec behind."""
    for registry in CODECS:
        registry.__class__ = Registry
        vars(registry).pop("_found", None)
    yield
    REGISTRY.pop(("srsly", "msgpack_encoders", "complex"), None)
    vars(srsly.msgpack_encoders).pop("_found", None)
    remember_codecs()


def test_docs_are_packed_as_before(nlp: Language, found: Found) -> None:
    """Prevents bytes that another installation cannot read, and docs that lose something on their way."""
    doc = nlp(TEXT)
    plain = doc.to_bytes()
    remember_codecs()
    assert doc.to_bytes() == plain
    assert found(Doc(Vocab()).from_bytes(plain)) == found(doc)


def test_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents workers that are slower than none because every message begins with a search."""
    remember_codecs()
    remember_codecs()
    assert [type(registry) for registry in CODECS] == [RememberingRegistry] * 2
    searches: list[str] = []
    search = Registry.get_all

    def watched(registry: Registry) -> Any:
        searches.append("->".join(registry.namespace))
        return search(registry)

    monkeypatch.setattr(Registry, "get_all", watched)
    for number in range(5):
        assert srsly.msgpack_loads(srsly.msgpack_dumps({"at": number})) == {"at": number}
    assert len(searches) == len(set(searches)) <= 2


def test_a_later_codec_is_found() -> None:
    """Prevents somebody else's types from failing to travel because their codec was registered after ours were remembered."""
    remember_codecs()
    assert srsly.msgpack_loads(srsly.msgpack_dumps({})) == {}

    def encode(thing: object, chain: Callable[[object], object] | None = None) -> object:
        return {"real": thing.real, "imag": thing.imag} if isinstance(thing, complex) else chain(thing) if chain else thing

    srsly.msgpack_encoders.register("complex", func=encode)
    assert srsly.msgpack_loads(srsly.msgpack_dumps({"z": 1 + 2j})) == {"z": {"real": 1.0, "imag": 2.0}}
    srsly.msgpack_encoders.get_all().clear()
    assert "complex" in srsly.msgpack_encoders.get_all()
