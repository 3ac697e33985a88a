"""Tests of `nerdistill.files`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nerdistill import files
from nerdistill.files import DONE, finished, folder_beside, read_json, write_atomic, write_json

OLD_AND_NEW = pytest.mark.parametrize("swaps", [True, False], ids=["swaps", "renames"])


def write(path: Path, version: str) -> None:
    """Put a folder with two files there."""
    with folder_beside(path, {"version": version}) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "one").write_text(version)
        (folder / "two").write_text(version)


def version_at(path: Path) -> str:
    """Version of a complete folder; fails on one that is not."""
    found = {read_json(path / DONE)["version"], (path / "deep" / "one").read_text(), (path / "two").read_text()}
    assert len(found) == 1
    return str(found.pop())


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the folder goes, in a folder with nothing else."""
    return tmp_path / "holder" / "out"


class TestFolderBeside:
    def test_a_first_folder(self, place: Path) -> None:
        """Prevents a folder without its marker, or parents that must be made by hand."""
        write(place, "first")
        assert version_at(place) == "first"
        assert [file.name for file in place.parent.iterdir()] == ["out"]

    @OLD_AND_NEW
    def test_replaces_all_of_the_old(self, place: Path, swaps: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents files of the old folder from staying in the new one, and copies from staying beside it."""
        if not swaps:
            monkeypatch.setattr(files, "_exchange", lambda one, other: False)
        write(place, "old")
        (place / "three").write_text("old")
        write(place, "new")
        assert version_at(place) == "new"
        assert not (place / "three").exists()
        assert [file.name for file in place.parent.iterdir()] == ["out"]

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    @pytest.mark.parametrize("before", [None, "old"])
    def test_an_error_inside_changes_nothing(self, place: Path, before: str | None, error: type[BaseException]) -> None:
        """Prevents half a folder, or half its bytes on the disk, after an error in the block or Ctrl-C."""
        if before:
            write(place, before)
        with pytest.raises(error), folder_beside(place, {}) as folder:  # noqa: PT012
            (folder / "two").write_text("half")
            raise error
        assert [file.name for file in place.parent.iterdir()] == (["out"] if before else [])
        assert before is None or version_at(place) == before

    @OLD_AND_NEW
    @pytest.mark.parametrize("step", range(1, 5))
    def test_an_error_while_moving_leaves_old_or_new(self, place: Path, step: int, swaps: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents a folder that is in neither state because one rename failed (of files, too: the marker is the first)."""
        if not swaps:
            monkeypatch.setattr(files, "_exchange", lambda one, other: False)
        write(place, "old")
        replace, calls = Path.replace, 0

        def fail(self: Path, target: Path) -> Path:
            nonlocal calls
            calls += 1
            if calls == step:
                raise OSError("no space left")
            return replace(self, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", fail)
            try:
                write(place, "new")
            except OSError:
                assert step <= calls
            else:
                assert calls < step
        assert version_at(place) in ("old", "new")
        write(place, "newer")
        assert version_at(place) == "newer"

    def test_leftovers_of_a_kill_are_no_obstacle(self, place: Path) -> None:
        """Prevents old half-written files from getting into a folder that is then called complete."""
        beside = place.with_name(".out.part")
        beside.mkdir(parents=True)
        (beside / "three").write_text("half")
        write(place, "new")
        assert sorted(file.name for file in place.iterdir()) == ["deep", DONE, "two"]

    def test_a_linked_folder_stays_linked(self, place: Path, tmp_path: Path) -> None:
        """Prevents a run folder that was linked to a larger disk from coming back to the small one."""
        write(tmp_path / "disk" / "real", "old")
        place.parent.mkdir()
        place.symlink_to(tmp_path / "disk" / "real")
        write(place, "new")
        assert place.is_symlink()
        assert version_at(tmp_path / "disk" / "real") == "new"

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere two renames are needed, and a kill between them leaves both beside")
    def test_a_kill_at_any_line_leaves_old_or_new(self, tmp_path: Path) -> None:
        """Prevents a kill from leaving neither state, or half of the old one with its marker: a child dies at each line in turn."""
        code = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_files import version_at, write

place = Path(sys.argv[1]) / "out"
lines, at, seen = 0, -1, set()
os.fsync = lambda handle: None  # slow, and of no use to a process

def trace(frame, event, argument):
    global lines
    if not frame.f_code.co_filename.endswith(("nerdistill/files.py", "/shutil.py")):
        return None
    if event == "line":
        if lines == at:
            os._exit(9)
        lines += 1
    return trace

while True:
    at += 1
    write(place, "old")
    child = os.fork()
    if not child:
        sys.settrace(trace)
        write(place, "new")
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
    seen.add(version_at(place))
print(at > 30, sorted(seen))
"""
        command = [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == "True ['new', 'old']"


class TestWriteAtomic:
    def test_text_and_bytes(self, tmp_path: Path) -> None:
        """Prevents text from being written in the locale's encoding, or line ends from changing."""
        write_atomic(tmp_path / "a" / "text", "é\r\n東")
        write_atomic(tmp_path / "a" / "text2", b"\x00\xff")
        assert (tmp_path / "a" / "text").read_bytes() == "é\r\n東".encode()
        assert (tmp_path / "a" / "text2").read_bytes() == b"\x00\xff"

    @pytest.mark.parametrize("step", ["fsync", "replace"])
    def test_an_error_leaves_the_old_file_alone(self, tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents a full disk from costing the file that was there, or leaving a part of the new one."""
        path = tmp_path / "file"
        write_atomic(path, "old")

        def fail(*_: object) -> None:
            raise OSError("no space left")

        monkeypatch.setattr(os if step == "fsync" else Path, step, fail)
        with pytest.raises(OSError, match="no space left"):
            write_atomic(path, "new")
        assert [file.name for file in tmp_path.iterdir()] == ["file"]
        assert path.read_text() == "old"

    def test_json_is_for_people_too(self, tmp_path: Path) -> None:
        """Prevents results that nobody can read in a diff: escapes instead of letters, or no line end."""
        write_json(tmp_path / "file.json", {"b": "東京", "a": [1]})
        assert (tmp_path / "file.json").read_text(encoding="utf-8") == '{\n  "b": "東京",\n  "a": [\n    1\n  ]\n}\n'
        assert read_json(tmp_path / "file.json") == {"b": "東京", "a": [1]}


class TestFinished:
    def test_only_what_was_asked_for(self, place: Path) -> None:
        """Prevents a step of other settings from passing for this one."""
        assert not finished(place)
        write(place, "new")
        assert finished(place)
        assert finished(place, version="new")
        assert not finished(place, version="old")
        assert not finished(place, version="new", seed=1)

    @pytest.mark.parametrize("content", ["", "{", "[]", "null", '"version"'])
    def test_a_damaged_marker_is_no_marker(self, place: Path, content: str) -> None:
        """Prevents a traceback instead of doing the step again."""
        write(place, "new")
        (place / DONE).write_text(content)
        assert not finished(place, version="new")
