"""What lies in a folder of parts is registered, and what is registered lies there."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from nerdistill.corpus.readers import READERS
from nerdistill.errors import ConfigError
from nerdistill.losses.base import LOSSES
from nerdistill.recipes.base import RECIPES
from nerdistill.registry import Registry
from nerdistill.students.base import STUDENTS

# Files of a folder that are no part: what several parts share.
SHARED: dict[str, tuple[Registry[Any], set[str]]] = {
    "losses": (LOSSES, {"base", "states"}),
    "students": (STUDENTS, {"base", "embeddings", "vocabulary"}),
    "recipes": (RECIPES, {"base"}),
    "readers": (READERS, {"lines"}),
}


@pytest.mark.parametrize("folder", SHARED)
def test_files_are_the_registered_names(folder: str) -> None:
    """A part whose registering line was forgotten, or whose name is not its file's, cannot be found by its name."""
    registry = SHARED[folder][0]
    package = importlib.import_module(registry.package)
    files = {file.stem for path in package.__path__ for file in Path(path).glob("*.py")} - {"__init__"} - SHARED[folder][1]
    assert files == set(registry), f"{folder}: each file registers the part of its own name; helpers are named in SHARED in this test"


@pytest.mark.parametrize("folder", SHARED)
def test_unknown_names_list_the_known_ones(folder: str) -> None:
    """A misspelt name would otherwise leave the user to search the source."""
    registry = SHARED[folder][0]
    with pytest.raises(ConfigError, match=next(iter(registry))):
        registry.get("no-such-part")


@pytest.mark.parametrize("folder", SHARED)
def test_a_name_is_given_once(folder: str) -> None:
    """Two parts of one name: which one runs would depend on the order of files."""
    registry = SHARED[folder][0]
    with pytest.raises(ValueError, match="two"):
        registry.register(next(iter(registry)))(object())


@pytest.mark.parametrize("registry", [LOSSES, STUDENTS, RECIPES])
def test_each_says_what_it_is(registry: Registry[Any]) -> None:
    """The listing of parts would have an empty line."""
    for name in registry:
        part = registry.get(name)
        assert part.summary.strip() == part.summary != ""
        assert "\n" not in part.summary
