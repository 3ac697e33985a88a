"""The command line: data on stdout, one-line errors, documented exit codes."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = ("run", "teach", "annotate", "distill", "evaluate", "package", "tag", "bench-tag", "info", "plan", "recipes", "students",
            "study", "engines", "benchmark", "benchmark-rival", "floor")  # fmt: skip


def call(*arguments: str, stdin: bytes = b"", cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """One call of the program in a process of its own."""
    command = [sys.executable, "-m", "nerdistill", *arguments]
    return subprocess.run(
        command, input=stdin, capture_output=True, timeout=240, check=False, cwd=cwd, env={**os.environ, "COLUMNS": "100"}
    )


def rows(raw: bytes) -> list[dict[str, object]]:
    """JSON lines."""
    return [json.loads(line) for line in raw.decode().split("\n") if line]


def test_help_is_light() -> None:
    """Prevents a --help that loads torch, spaCy or onnxruntime and takes seconds."""
    code = (
        "import sys; sys.argv = ['nerdistill', '--help']\nfrom nerdistill.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "slow = {'torch', 'transformers', 'spacy', 'onnxruntime', 'numpy', 'pydantic'}\n"
        "heavy = sorted({name.split('.')[0] for name in sys.modules} & slow)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    """Prevents a command that is registered but broken at its signature."""
    done = call(command, "--help")
    assert done.returncode == 0, done.stderr
    assert b"Usage" in done.stdout


def test_tag_text(bundle_path: Path) -> None:
    """Prevents output that loses a document, its order or its offsets."""
    text = "Anna Schmidt besucht Berlin .\n\n  \nمحمد علي زار القاهرة\n"
    done = call("tag", str(bundle_path), "-", stdin=text.encode())
    assert done.returncode == 0, done.stderr
    out = rows(done.stdout)
    assert [row["text"] for row in out] == text.split("\n")[:-1]
    for row in out:
        for entity in row["entities"]:  # type: ignore[attr-defined]
            assert row["text"][entity["start"] : entity["stop"]] == entity["text"]  # type: ignore[index]


def test_tag_keeps_good_records_and_names_bad_ones(bundle_path: Path, tmp_path: Path) -> None:
    """Prevents one bad line from losing the others, and a bad line nobody can find."""
    source = tmp_path / "in.jsonl.gz"
    lines = [
        b'{"text": "Anna in Paris", "id": 7}',
        b"{broken",
        b'["a list"]',
        b'{"text": 5}',
        b"\xff\xfe",
        b'{"text": "Berlin", "more": [1]}',
    ]
    source.write_bytes(gzip.compress(b"\n".join(lines)))
    out = tmp_path / "out.jsonl"
    done = call("tag", str(bundle_path), str(source), "-o", str(out))
    assert done.returncode == 4
    kept = rows(out.read_bytes())
    assert [row["text"] for row in kept] == ["Anna in Paris", "Berlin"]
    assert kept[0]["id"] == 7
    assert kept[1]["more"] == [1]
    for number in (2, 3, 4, 5):
        assert f"in.jsonl.gz:{number}:".encode() in done.stderr


def test_tag_to_a_folder(bundle_path: Path, tmp_path: Path) -> None:
    """Prevents options that the command line loses on their way to the run, and counts that scripts cannot read."""
    source = tmp_path / "in.dat"
    source.write_text('{"key": 1, "body": "Anna in Paris", "more": 2}\n{"key": 2}\n', encoding="utf-8")
    options = ["--input-format", "jsonl", "--text-field", "body", "--id-field", "key", "--fields", "", "--workers", "1", "--json"]
    done = call("tag", str(bundle_path), str(source), "-o", f"{tmp_path}/out/", *options)
    assert done.returncode == 4, done.stderr
    counts = json.loads(done.stdout)
    assert (counts["documents"], counts["rejected"], counts["rejects"]) == (1, 1, f"{tmp_path}/out.rejects.jsonl")
    (row,) = rows((tmp_path / "out" / "part-00000.jsonl").read_bytes())
    assert list(row) == ["key", "body", "entities", "n_words", "n_windows"]
    again = call("tag", str(bundle_path), str(source), "-o", f"{tmp_path}/out", *options, "--threshold", "0.5")
    assert again.returncode == 2
    assert b"--threshold changed from 0.0 to 0.5" in again.stderr


def test_tag_refuses_to_overwrite(bundle_path: Path, tmp_path: Path) -> None:
    """Prevents losing an output that took hours."""
    out = tmp_path / "out.jsonl"
    out.write_text("precious")
    done = call("tag", str(bundle_path), "-", "-o", str(out), stdin=b"x\n")
    assert done.returncode == 2
    assert b"--force" in done.stderr
    assert out.read_text() == "precious"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("tag", "nowhere", "-"), 5, b"bundle.json"),
        (("tag", "{bundle}", "missing.txt"), 3, b"missing.txt"),
        (("tag", "{bundle}", "-", "-o", "out.jsonl", "--engine", "ray", "--gpus", "1"), 2, b"onnxruntime-cuda"),
        (("run", "missing.toml"), 2, b"missing.toml"),
        (("plan", "missing.toml"), 2, b"missing.toml"),
        (("info", "nowhere"), 5, b"nowhere"),
        (("package", "{bundle}", "--name", "not a name"), 2, b"not a name"),
        (("nonsense",), 2, b"nonsense"),
    ],
)
def test_errors_are_one_line(bundle_path: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, says: bytes) -> None:
    """Prevents tracebacks for a user's mistakes, and exit codes that scripts cannot use."""
    done = call(*(argument.format(bundle=bundle_path) for argument in arguments), cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert b"Traceback" not in done.stderr
    assert not done.stdout


def test_info_of_a_bundle(bundle_path: Path) -> None:
    """Prevents a description that needs training packages or lies about the file."""
    done = call("info", str(bundle_path), "--json")
    facts = json.loads(done.stdout)
    assert facts["types"] == "PER LOC ORG"
    assert facts["parameters"] > 0


def test_package_writes_a_wheel(bundle_path: Path, tmp_path: Path) -> None:
    """Prevents packing from silently replacing a wheel."""
    first = call("package", str(bundle_path), "--out", str(tmp_path), "--name", "toy")
    assert first.returncode == 0, first.stderr
    assert Path(first.stdout.decode().strip()).is_file()
    second = call("package", str(bundle_path), "--out", str(tmp_path), "--name", "toy")
    assert second.returncode == 2
    assert call("package", str(bundle_path), "--out", str(tmp_path), "--name", "toy", "--force").returncode == 0


def test_run_and_steps(toy_config: Path, tmp_path: Path) -> None:
    """Prevents a command line that differs from the library: a whole run, again without work, and each step finding its result."""
    out = str(tmp_path / "out")
    done = call("run", str(toy_config), "--out", out, "--json", "--cpu", "--results", str(tmp_path / "results.json"))
    assert done.returncode == 0, done.stderr.decode()
    results = json.loads(done.stdout)
    assert [row["system"] for row in results["rows"]] == ["teacher", "student", "no_teacher"]
    assert set(results["rows"][0]["f1_by_language"]) == {"de", "no", "ar", "zh"}
    assert {"what", "command", "commit", "date", "machine", "data", "rows"} <= set(json.loads((tmp_path / "results.json").read_text()))
    for name in ("report", "bundle", "wheel"):
        assert Path(results[name]).exists()
    again = call("distill", str(toy_config), "--out", out, "--cpu")
    assert again.returncode == 0
    assert Path(again.stdout.decode().strip()) == Path(out) / "bundle"
    assert b"fine-tuning" not in again.stderr
    changed = call("run", str(toy_config), "--out", out, "--cpu", "--dry-run", "--set", "student.pieces=140")
    assert json.loads(changed.stdout)["config"]["student"]["pieces"] == 140


def test_wrong_configuration_lists_every_fault(toy_config: Path) -> None:
    """Prevents finding the second mistake only after the first is mended."""
    toy_config.write_text(toy_config.read_text() + "\n[nonsense]\n")
    done = call("run", str(toy_config), "--set", "teacher.epochs=0", "--set", "student.colour=red")
    assert done.returncode == 2
    for name in (b"nonsense", b"teacher.epochs", b"student.colour"):
        assert name in done.stderr
