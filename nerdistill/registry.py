"""Names to parts: a folder is searched once, each file registers what it holds.

A part (recipe, student, loss, reader) is added by adding one file to its folder. Nothing else lists it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from nerdistill.errors import ConfigError

T = TypeVar("T")


class Registry(Generic[T]):
    """Parts of one kind, by name.

    Args:
        kind: What the parts are, in the singular, for messages.
        package: The package whose modules register them, imported at first use.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._parts: dict[str, T] = {}
        self._discovered = False

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that stores a part under a name.

        Raises:
            ValueError: The name is taken.
        """

        def store(part: T) -> T:
            if name in self._parts:
                raise ValueError(f"two {self.kind}s are called '{name}'")
            self._parts[name] = part
            return part

        return store

    def get(self, name: str) -> T:
        """The part of that name.

        Raises:
            ConfigError: There is none; the message lists the known names.
        """
        self._discover()
        if name not in self._parts:
            raise ConfigError(f"unknown {self.kind} '{name}'; known: {', '.join(self)}")
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        """The known names, sorted."""
        self._discover()
        return iter(sorted(self._parts))

    def _discover(self) -> None:
        if self._discovered:
            return
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        self._discovered = True
