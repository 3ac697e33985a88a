"""Tests of `nerdistill.registry`, on a package of parts made for each test."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nerdistill.errors import ConfigError
from nerdistill.registry import Registry


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An importable package ``made_parts`` whose files register what they hold."""
    folder = tmp_path / "made_parts"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "base.py").write_text("from nerdistill.registry import Registry\nPARTS = Registry('part', 'made_parts')\n")
    for name in ("zeta", "alpha"):
        (folder / f"{name}.py").write_text(f"from made_parts.base import PARTS\nPARTS.register('{name}')(lambda: '{name}')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "made_parts"]:
        del sys.modules[name]


def parts() -> Registry[object]:
    """The registry of that package."""
    from made_parts.base import PARTS  # type: ignore[import-not-found]

    found: Registry[object] = PARTS
    return found


def test_a_file_is_enough(package: Path) -> None:
    """Prevents a part from being known only where somebody happened to import its file; names come sorted."""
    (package / "new.py").write_text("from made_parts.base import PARTS\nPARTS.register('new')(7)\n")
    assert list(parts()) == ["alpha", "new", "zeta"]
    assert parts().get("new") == 7


def test_nothing_is_imported_before_it_is_asked_for(package: Path) -> None:
    """Prevents an import of the registry from importing every part with all that it needs."""
    parts()
    assert "made_parts.alpha" not in sys.modules
    list(parts())
    assert "made_parts.alpha" in sys.modules


def test_an_unknown_name_lists_the_known_ones(package: Path) -> None:
    """Prevents a bare KeyError for a misspelt name in a configuration."""
    with pytest.raises(ConfigError, match="unknown part 'alhpa'; known: alpha, zeta"):
        parts().get("alhpa")


def test_a_name_is_taken_once(package: Path) -> None:
    """Prevents a second part from silently taking the place of the first."""
    (package / "copy.py").write_text("from made_parts.base import PARTS\nPARTS.register('zeta')(8)\n")
    with pytest.raises(ValueError, match="two parts are called 'zeta'"):
        list(parts())


def test_a_broken_file_is_not_hidden(package: Path) -> None:
    """Prevents a part whose file does not import from looking like a part that does not exist."""
    (package / "broken.py").write_text("import a_module_that_is_nowhere\n")
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_nowhere"):
        parts().get("zeta")


def test_register_gives_the_part_back(package: Path) -> None:
    """Prevents a decorated class from becoming None."""

    @parts().register("thing")
    class Thing:
        pass

    assert isinstance(Thing, type)
    assert parts().get("thing") is Thing
