"""What the teacher may read with, side by side: how fast each is, and what it changes of what the teacher says."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nerdistill.corpus.splits import evenly
from nerdistill.errors import DataError
from nerdistill.evaluation.engine_tables import KIND
from nerdistill.evaluation.machine import results_frame
from nerdistill.evaluation.scores import score
from nerdistill.records import Sentence
from nerdistill.runtime.decode import decode_tags, log_softmax
from nerdistill.steps.context import Context
from nerdistill.steps.teach import open_teacher, teach
from nerdistill.teachers.annotate import Annotator
from nerdistill.teachers.huggingface import TeacherModel, best_precision
from nerdistill.teachers.onnx_engine import OnnxEngine
from nerdistill.training.processes import only_one

ROUNDS = 3

_REFERENCE = "torch float32"


def measure_engines(context: Context, sentences: int) -> dict[str, Any]:
    """Let the teacher read an even sample of the transfer text with every engine, as `annotate_transfer` would, and the dev set.

    Args:
        context: The run.
        sentences: Size of the sample.

    Returns:
        A results object. Beside the reference, torch in float32, a row has ``tags_changed``, the share of words with another tag;
        ``distance_mean`` and ``distance_max``, the total variation distance of the tag distributions of a word, 0 to 1; and
        ``states_error``, the root mean square error of the kept layers' states as a share of their standard deviation.

    Raises:
        DataError: There is no transfer text.
        ConfigError: The teacher's architecture is one that only torch runs.
    """
    only_one("the comparison of engines")
    config, data = context.config, context.data
    sample = evenly(data.transfer, sentences)
    if not sample:
        raise DataError("there is no transfer text: name some under [[data.transfer]], or set data.swap.copies")
    teacher = open_teacher(context, teach(context), config.signals.layers)
    annotators = _engines(teacher)
    readings = {}
    for name, annotator in annotators.items():
        context.log.say(f"  {name} reads")
        readings[name] = _Reading.of(annotator, sample)  # first, so that no timing holds the splitting of new words or a warm-up
    words = sum(len(sentence.words) for sentence in sample)
    pieces = int(teacher.encoder.costs(teacher.encoder.table.rows([word for sentence in sample for word in sentence.words])).sum())
    seconds = _seconds(annotators, sample)
    rows = [
        {
            "system": name,
            "words_per_second": round(words / seconds[name]),
            "pieces_per_second": round(pieces / seconds[name]),
            **readings[name].beside(readings[_REFERENCE]),
            "f1_mean": round(score(data.dev, annotator.tag(data.dev)).f1_mean, 5),
        }
        for name, annotator in annotators.items()
    ]
    facts = {
        "languages": list(config.data.languages),
        "types": list(config.data.types),
        "sentences": len(sample),
        "words": words,
        "pieces": pieces,
        "batch": config.signals.batch,
        "dev_sentences": len(data.dev),
    }
    gpu = torch.cuda.get_device_name() if teacher.device.type == "cuda" else None
    return {**results_frame("engines", context.command, torch.get_num_threads(), facts, rows, gpu), "kind": KIND}


def _engines(teacher: Annotator) -> dict[str, Annotator]:
    """One network in all of them; torch in bfloat16 only where there is hardware for it."""
    model, layers = teacher.model, teacher.layers
    precisions = dict.fromkeys(("float32", best_precision("auto", teacher.device)))
    made = {f"torch {name}": replace(teacher, model=TeacherModel(model.network, model.tags, name)) for name in precisions}
    made["onnx"] = replace(teacher, engine=OnnxEngine(model, layers))
    made["onnx-int8"] = replace(teacher, engine=OnnxEngine(model, layers, int8=True))
    return made


@dataclass(frozen=True)
class _Reading:
    """Of N words: probabilities ``[N, K]``, tags ``[N]``, states ``[N, L, d]``."""

    probabilities: npt.NDArray[np.float32]
    tags: npt.NDArray[np.int64]
    states: npt.NDArray[np.float32]

    @classmethod
    def of(cls, annotator: Annotator, sentences: Sequence[Sentence]) -> _Reading:
        logits, states, offsets = annotator.read(sentences)
        scores = log_softmax(logits)
        return cls(np.exp(scores), decode_tags(scores, offsets, annotator.scheme), states)

    def beside(self, reference: _Reading) -> dict[str, float]:
        distances = 0.5 * np.abs(self.probabilities - reference.probabilities).sum(axis=1)
        error = np.square(self.states - reference.states).mean() / reference.states.var(axis=0).mean()
        return {
            "tags_changed": round(float((self.tags != reference.tags).mean()), 6),
            "distance_mean": round(float(distances.mean()), 6),
            "distance_max": round(float(distances.max()), 6),
            "states_error": round(float(np.sqrt(error)), 6),
        }


def _seconds(annotators: Mapping[str, Annotator], sample: Sequence[Sentence]) -> dict[str, float]:
    """The median of some rounds, in turn within each, so that a busy moment meets them all."""
    spent: dict[str, list[float]] = {name: [] for name in annotators}
    for _ in range(ROUNDS):
        for name, annotator in annotators.items():
            began = time.perf_counter()
            annotator.read(sample)
            spent[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in spent.items()}
