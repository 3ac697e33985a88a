"""A loss, a student and a recipe are each added by one file: it is listed, and held to what all others are held to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A process of its own: registries are filled once."""
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)


LISTINGS = """
import tests.contracts.toy.added
from nerdistill.cli.listing import recipes, students
recipes(False)
students(False)
"""


def test_it_is_listed() -> None:
    """A part that nobody finds, because some list elsewhere has to name it too."""
    ran = python("-c", LISTINGS)
    assert "toy_bag" in ran.stdout, ran.stderr
    assert "toy_two_steps" in ran.stdout


def test_it_passes_the_contract_tests() -> None:
    """A contract test that only fits the parts that are there: a list of their names, an assumption about their groups or options."""
    ran = python(
        "-m", "pytest", "-q", "-p", "tests.contracts.toy.added", "-p", "no:cacheprovider", "tests/contracts", "-k", "toy and not listed"
    )
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    assert int(ran.stdout.rpartition(" passed")[0].split()[-1]) > 20, "the toy parts were not among the cases"
