"""nerdistill: big multilingual named-entity teachers, distilled into small and fast students.

>>> import nerdistill
>>> tagger = nerdistill.load("runs/quickstart/bundle")     # doctest: +SKIP
>>> tagger("Angela Merkel besuchte Paris.")                # doctest: +SKIP
[Entity(start=0, stop=13, text='Angela Merkel', label='PER', score=0.98), ...]
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nerdistill.runtime.backends import Backend
    from nerdistill.runtime.bundle import Variant
    from nerdistill.runtime.tagger import Tagger

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(path: str | Path, variant: Variant | None = None, threads: int | None = None, backend: Backend = "onnxruntime") -> Tagger:
    """Open a distilled student for tagging.

    Args:
        path: A bundle folder.
        variant: ``fp32`` or ``int8``; None takes the bundle's own choice.
        threads: Threads of the network; None takes every core this process may use.
        backend: What runs the network; see `nerdistill.runtime.backends`.

    Raises:
        BundleError: There is no sound bundle at that path.
        MissingExtraError: The backend is not installed.
    """
    from nerdistill.runtime.tagger import Tagger

    return Tagger.load(path, variant, threads, backend)
