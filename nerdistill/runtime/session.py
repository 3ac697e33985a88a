"""How this program opens a network in ONNX Runtime, and how many cores it may give it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from nerdistill.errors import ConfigError

if TYPE_CHECKING:
    import onnxruntime

_SLOWER_FUSIONS = ["SkipLayerNormFusion"]
"""Rewritings of the network that cost more than they save: this one's kernel took a quarter of an 8-bit Transformer's time."""

_NO_GPU = (
    "ONNX Runtime cannot compute on a GPU here: that takes an NVIDIA GPU with its driver, and the package onnxruntime-gpu in the place of "
    "onnxruntime"
)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def session_options(threads: int, spinning: bool = False) -> onnxruntime.SessionOptions:
    """The options that every network is opened with: threads sleep while they wait, so that others have the core, but for `spinning`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    options.log_severity_level = 3
    return options


def open_session(
    network: bytes | Path, threads: int, cuda: bool = False, options: onnxruntime.SessionOptions | None = None
) -> onnxruntime.InferenceSession:
    """Open a network.

    Args:
        network: The file, or its content.
        threads: Threads of one operation; operations run one after the other.
        cuda: On an NVIDIA GPU.
        options: Others than `session_options`, for those who measure; they say the threads then.

    Raises:
        ConfigError: There is no such GPU, or ONNX Runtime's build cannot use it; it would take the CPU without a word.
    """
    import onnxruntime

    wanted = "CUDAExecutionProvider" if cuda else "CPUExecutionProvider"
    if wanted not in (there := onnxruntime.get_available_providers()):
        raise ConfigError(f"{_NO_GPU}; this one has {', '.join(there)}")

    options = options or session_options(threads)
    providers = list(dict.fromkeys([wanted, "CPUExecutionProvider"]))
    session = onnxruntime.InferenceSession(network, options, providers=providers, disabled_optimizers=_SLOWER_FUSIONS)
    if session.get_providers()[0] != wanted:
        raise ConfigError(f"{_NO_GPU}; it fell back to {session.get_providers()[0]}")
    return session
