"""What some choices in a student's shape cost where it serves: norm and activation, and how a narrow table becomes wide.

MobileBERT leaves out layer normalisation and GELU for the sake of speed (192 to 62 ms on a phone, by the paper), and for it a
DeFINE unit is folded into a plain table. Weights are random, since no time depends on them; one thread, calls of the network alone.
Run it with ``python -m nerdistill.steps.shapes [--results FILE]``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nerdistill.evaluation.machine import results_frame
from nerdistill.evaluation.parts import fastest
from nerdistill.evaluation.shape_tables import KIND, shapes_table
from nerdistill.export.onnx_variants import write_fp32, write_int8
from nerdistill.files import write_json
from nerdistill.runtime.session import open_session
from nerdistill.students.base import Shape, Student, build_student, count_parameters
from nerdistill.text.collate import Arrays

N_PIECES = 36_000
N_TAGS = 9
SENTENCES, WORDS, DISTINCT, PIECES = 40, 25, 600, 3
"""Of one call: sentences of so many words, of which so many are distinct, each of so many pieces."""

_MOBILE = {"layers": 6, "width": 384, "inner_width": 128, "heads": 4, "ffn": 512, "ffns": 4, "embedding_width": 96}
_BILSTM = {"embedding_width": 96, "hidden_width": 160, "projection_width": 128, "pooling": "first_mean_last"}
_TINY = {"layers": 4, "width": 312, "heads": 12, "ffn": 1200}
_UNIT = {"layers": 3, "groups": 4}


@dataclass(frozen=True)
class Choice:
    """One row.

    Attributes:
        group: What it is compared within; the first of a group is what the others are held against.
        name: What was chosen.
        kind: A registered student.
        options: Of the student.
        folded: Serve its table as wide as its vectors.
    """

    group: str
    name: str
    kind: str
    options: Mapping[str, Any]
    folded: bool = False


CHOICES = (
    Choice("MobileBERT", "NoNorm, ReLU", "mobilebert", _MOBILE),
    Choice("MobileBERT", "NoNorm, GELU", "mobilebert", {**_MOBILE, "activation": "gelu"}),
    Choice("MobileBERT", "layer normalisation, ReLU", "mobilebert", {**_MOBILE, "norm": "layer"}),
    Choice("MobileBERT", "layer normalisation, GELU", "mobilebert", {**_MOBILE, "norm": "layer", "activation": "gelu"}),
    Choice("BiLSTM", "table of 48, DeFINE", "bilstm", {**_BILSTM, "define": {"width": 48, "expand": 192, **_UNIT}}),
    Choice("BiLSTM", "the same, folded", "bilstm", {**_BILSTM, "define": {"width": 48, "expand": 192, **_UNIT}}, folded=True),
    Choice("BiLSTM", "table of 48, linear map", "bilstm", {**_BILSTM, "table_width": 48}),
    Choice("BiLSTM", "table of 96", "bilstm", _BILSTM),
    Choice("TinyBERT's 4 x 312", "table of 80, DeFINE", "transformer", {**_TINY, "define": {"width": 80, "expand": 320, **_UNIT}}),
    Choice(
        "TinyBERT's 4 x 312", "the same, folded", "transformer", {**_TINY, "define": {"width": 80, "expand": 320, **_UNIT}}, folded=True
    ),
    Choice("TinyBERT's 4 x 312", "table of 80, linear map", "transformer", {**_TINY, "embedding_width": 80}),
)


def measure_shapes(choices: Sequence[Choice] = CHOICES, n_pieces: int = N_PIECES) -> list[dict[str, Any]]:
    """Measure each choice in float32 and in 8 bits, all of them in turn.

    Args:
        choices: What is measured.
        n_pieces: Rows of the piece table.

    Returns:
        A row for each: ``group``, ``name``, ``parameters``, ``bytes`` and ``microseconds`` a word by variant, and ``times``, the
        latter over those of the group's first.
    """
    rows: list[dict[str, Any]] = []
    jobs: dict[str, Callable[[], object]] = {}
    with tempfile.TemporaryDirectory() as place:
        for number, choice in enumerate(choices):
            student = build_student(choice.kind, choice.options, Shape(n_pieces, N_TAGS), None, 0).eval()
            student = student.folded() if choice.folded else student
            files = {"fp32": Path(place) / "full.onnx", "int8": Path(place) / "small.onnx"}
            write_fp32(student, files["fp32"])
            write_int8(files["fp32"], files["int8"])
            given = _inputs(student, n_pieces)
            for variant, file in files.items():
                session = open_session(file.read_bytes(), threads=1)
                jobs[f"{number} {variant}"] = partial(session.run, None, given)
            sizes = {variant: file.stat().st_size for variant, file in files.items()}
            rows.append({"group": choice.group, "name": choice.name, "parameters": count_parameters(student), "bytes": sizes})
    for job in jobs.values():
        job()
    seconds = fastest(jobs)
    for number, row in enumerate(rows):
        first = next(at for at, other in enumerate(rows) if other["group"] == row["group"])
        taken = {variant: seconds[f"{number} {variant}"] for variant in ("fp32", "int8")}
        row["microseconds"] = {variant: round(1e6 * one / (SENTENCES * WORDS), 3) for variant, one in taken.items()}
        row["times"] = {variant: round(one / seconds[f"{first} {variant}"], 3) for variant, one in taken.items()}
    return rows


def _inputs(student: Student, n_pieces: int) -> Arrays:
    """Arrays of one call, every sentence equally long."""
    rng = np.random.default_rng(0)
    lengths = np.full(SENTENCES, WORDS)
    if student.inputs == "words":
        pieces = rng.integers(4, n_pieces, (DISTINCT, PIECES))
        return {"word_pieces": pieces, "word_index": rng.integers(0, DISTINCT, (SENTENCES, WORDS)), "lengths": lengths}
    size = WORDS * PIECES + 2
    first = np.tile(np.arange(WORDS) * PIECES + 1, (SENTENCES, 1))
    ids = rng.integers(4, n_pieces, (SENTENCES, size))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "first_piece": first, "lengths": lengths}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table and write the results; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m nerdistill.steps.shapes", description="What a student's shape costs.")
    parser.add_argument("--results", type=Path, metavar="FILE", help="Write a results file.")
    options = parser.parse_args(arguments)
    data = {"sentences": SENTENCES, "words": WORDS, "distinct_words": DISTINCT, "pieces_per_word": PIECES, "pieces": N_PIECES}
    results = results_frame("choices in a student's shape", "python -m nerdistill.steps.shapes", 1, data, measure_shapes())
    results |= {"kind": KIND}
    if options.results:
        write_json(options.results, results)
    print(shapes_table(results))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
