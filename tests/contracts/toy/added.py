"""A pytest plugin that puts the files beside it into the package's folders, as a user would who copies them there."""

from __future__ import annotations

from pathlib import Path

import nerdistill.losses
import nerdistill.recipes
import nerdistill.students

for package in (nerdistill.losses, nerdistill.recipes, nerdistill.students):
    package.__path__.append(str(Path(__file__).parent / package.__name__.rpartition(".")[2]))
