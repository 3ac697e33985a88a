"""Tagging with a finished student. Imports nothing that trains."""

import os

# Official builds of onnxruntime (1.29 and later) report to their maker unless this is set before their first import. The thread that
# does it also keeps a forked child from ever ending. Whoever wants it says ORT_DISABLE_TELEMETRY=0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
