"""Docs between processes, without a search for every message.

``nlp.pipe(texts, n_process=...)`` sends each doc back as messages of msgpack within a message. For each message srsly asks its registries
for codecs, and these look through every entry point that is installed and every function that is registered anywhere. For short docs this
took several times as long as tagging them did, in the worker that packs and again in the process that unpacks, so that two workers were
slower than none. Here the registries remember their answer until another codec is registered. What is sent stays the same.
"""

from __future__ import annotations

from typing import Any

import srsly
from catalogue import Registry  # type: ignore[import-untyped]


class RememberingRegistry(Registry):  # type: ignore[misc]
    """A registry that looks for its functions once, and again after one was registered."""

    _found: dict[str, Any] | None = None

    def get_all(self) -> dict[str, Any]:
        """All functions by name."""
        if self._found is None:
            self._found = super().get_all()
        return dict(self._found)

    def register(self, name: str, *, func: Any = None) -> Any:
        """Register a function, as a call or as a decorator."""

        def add(function: Any) -> Any:
            Registry.register(self, name, func=function)
            self._found = None
            return function

        return add if func is None else add(func)


def remember_codecs() -> None:
    """Let srsly's registries of codecs remember what they found; the registries that others hold are the same objects."""
    for registry in (srsly.msgpack_encoders, srsly.msgpack_decoders):
        if type(registry) is Registry:
            registry.__class__ = RememberingRegistry
