"""What runs a bundle's network: ONNX Runtime, or OpenVINO or a GPU where somebody asks for it.

The default never depends on what is installed or on the processor: the same call gives the same tags everywhere. OpenVINO is asked for by
name, and by another name to compute in bfloat16, which changes a tag here and there. So is a GPU, with ONNX Runtime's build for that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from nerdistill.errors import BundleError, ConfigError, MissingExtraError
from nerdistill.labels import LabelScheme
from nerdistill.runtime.bundle import VARIANTS, Bundle, Variant, open_bundle
from nerdistill.runtime.session import open_session

Backend: TypeAlias = Literal["onnxruntime", "onnxruntime-cuda", "openvino", "openvino-bf16"]
"""``openvino`` computes in float32, ``openvino-bf16`` in bfloat16 where the processor does so natively, in float32 elsewhere.

``onnxruntime-cuda`` computes in float32 on an NVIDIA GPU and needs the package ``onnxruntime-gpu`` in the place of ``onnxruntime``."""

BACKENDS: tuple[Backend, ...] = get_args(Backend)
Run: TypeAlias = Callable[[Mapping[str, npt.NDArray[np.int64]]], npt.NDArray[np.float32]]
"""From the arrays of `nerdistill.text.collate` to logits ``[B, W, K]``."""


def open_for(path: Path, variant: Variant | None, backend: Backend) -> Bundle:
    """Open a bundle folder with a network that the backend runs: all but the first take float32 whatever the bundle's own choice is.

    Raises:
        BundleError: There is no sound bundle at that path.
        ConfigError: There is no such backend, or it does not run that variant.
    """
    check_backend(backend, variant)
    return open_bundle(path, variant or (None if backend == "onnxruntime" else "fp32"))


def check_backend(backend: str, variant: Variant | None) -> None:
    """Refuse what is no backend, and a variant that it does not run.

    Raises:
        ConfigError: See above.
    """
    if backend not in BACKENDS:
        raise ConfigError(f"backend = '{backend}', expected one of {', '.join(BACKENDS)}")
    if backend != "onnxruntime" and variant == "int8":
        raise ConfigError(
            f"backend = '{backend}' with the int8 network: only ONNX Runtime on a CPU runs it; open the fp32 one, or leave out the backend"
        )


def open_network(bundle: Bundle, threads: int, backend: Backend) -> Run:
    """Open a bundle's network, made to be called by any number of threads.

    Raises:
        BundleError: The network cannot be opened, or is none for the bundle's types.
        ConfigError: The backend does not run that variant, or it is a GPU's and there is none.
        MissingExtraError: The backend is not installed.
    """
    check_backend(backend, bundle.variant)
    try:
        run, found = (_onnxruntime if backend.startswith("onnxruntime") else _openvino)(bundle, threads, backend)
    except (BundleError, ConfigError, MissingExtraError):
        raise
    except Exception as error:  # onnxruntime's own exception classes are not public
        raise BundleError(f"{bundle.info.name}: the {bundle.variant} network cannot be opened ({error})") from error
    expected = len(LabelScheme(bundle.info.types).tags)
    if found != expected:
        raise BundleError(f"{VARIANTS[bundle.variant]}: gives {found} scores a word, expected {expected} for the types in bundle.json")
    return run


def _onnxruntime(bundle: Bundle, threads: int, backend: Backend) -> tuple[Run, int]:
    session = open_session(bundle.network, threads, cuda=backend == "onnxruntime-cuda")

    def run(arrays: Mapping[str, npt.NDArray[np.int64]]) -> npt.NDArray[np.float32]:
        logits: npt.NDArray[np.float32] = session.run(["logits"], arrays)[0]
        return logits

    return run, session.get_outputs()[0].shape[-1]


def _openvino(bundle: Bundle, threads: int, backend: Backend) -> tuple[Run, int]:
    from nerdistill.runtime.openvino_session import OpenVINOSession

    info = bundle.info
    longest = info.window + (2 if info.inputs == "pieces" else 0)  # and both ends
    session = OpenVINOSession(bundle.network, threads, "bf16" if backend == "openvino-bf16" else "f32", info.pad_id, longest)
    return session.run, session.width
