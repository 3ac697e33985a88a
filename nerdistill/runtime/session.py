"""How this program opens a network in ONNX Runtime, and how many cores it may give it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnxruntime

_SLOWER_FUSIONS = ["SkipLayerNormFusion"]
"""Rewritings of the network that cost more than they save: this one's kernel took a quarter of an 8-bit Transformer's time."""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_session(network: bytes | Path, threads: int) -> onnxruntime.InferenceSession:
    """Open a network on the CPU; its threads sleep while they wait, so that others may have the core.

    Args:
        network: The file, or its content.
        threads: Threads of one operation; operations run one after the other.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"], disabled_optimizers=_SLOWER_FUSIONS)
