"""The list of what is done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nerdistill.errors import ConfigError
from nerdistill.files import exclusive
from nerdistill.tagging.manifest import NAME, Manifest

IDENTITY = {"the input": {"a.txt": "1"}, "--threshold": 0.0}


def test_continues_after_a_torn_line(tmp_path: Path) -> None:
    """Prevents a kill while a line is written from losing the shards before it, or from passing for a finished one."""
    path = tmp_path / NAME
    begun = Manifest(path, IDENTITY)
    begun.add(0, {"documents": 3})
    begun.add(2, {"documents": 4})
    whole = path.read_bytes()
    for cut in (1, 2, 20, 34, 35, 36, 40):
        path.write_bytes(whole[:-cut])
        again = Manifest(path, IDENTITY)
        assert set(again.done) == set([0, 2][: whole[:-cut].count(b"\n") - 1])
        again.add(5, {"documents": 1})
        assert set(Manifest(path, IDENTITY).done) == {*again.done}
        path.write_bytes(whole)
    assert Manifest(path, IDENTITY).total("documents") == 7


def test_changes_are_named(tmp_path: Path) -> None:
    """Prevents a run that goes on with another input or setting than it began with, or that does not say which."""
    Manifest(tmp_path / NAME, IDENTITY)
    with pytest.raises(ConfigError, match=r"--threshold changed from 0.0 to 0.5") as raised:
        Manifest(tmp_path / NAME, {"the input": {"a.txt": "2", "b.txt": "3"}, "--threshold": 0.5})
    assert "the input a.txt changed" in str(raised.value)
    assert "the input b.txt changed" in str(raised.value)
    assert "--force" in str(raised.value)


def test_manifest_that_never_began(tmp_path: Path) -> None:
    """Prevents a kill in the first line from locking a folder for ever."""
    (tmp_path / NAME).write_bytes(json.dumps(IDENTITY).encode()[:10])
    assert Manifest(tmp_path / NAME, IDENTITY).done == {}
    assert len((tmp_path / NAME).read_bytes().split(b"\n")) == 2


def test_second_process_is_kept_out(tmp_path: Path) -> None:
    """Prevents two runs that write the same shards."""
    lock = tmp_path / "_lock"
    with exclusive(lock, "wait for it"), pytest.raises(ConfigError, match="in use by process"), exclusive(lock, "wait for it"):
        pass
    with exclusive(lock, "wait for it"):
        pass
