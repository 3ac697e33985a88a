"""One of two processes that learn together, as a launcher starts them: a stage of its own, then whole runs, broken off and not.

Usage: two_processes.py CONFIG OUT
"""

from __future__ import annotations

import importlib
import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from tokenizers import Tokenizer
from torch import Tensor

from nerdistill.config import load_config
from nerdistill.corpus.encoded import EncodedCorpus, Encoder, Targets
from nerdistill.labels import LabelScheme
from nerdistill.losses.base import LOSSES, Widths
from nerdistill.records import Sentence
from nerdistill.steps.context import Context, locked
from nerdistill.steps.run import run
from nerdistill.students.base import Shape, build_student
from nerdistill.students.vocabulary import Vocabulary, prune
from nerdistill.text.encoder import WordTable
from nerdistill.training import loop
from nerdistill.training.processes import start
from nerdistill.training.runlog import RunLog
from nerdistill.training.stage import Optimisation, Stage, Term

SCHEME = LabelScheme(("PER", "LOC"))
WORDS = ["Anna", "Berlin", "besucht", ".", "东", "京", "i"]
LENGTHS = (3, 5, 2, 6, 4, 4, 1, 7, 5, 3, 6, 2, 30)
STATES = 4
BREAKS = (5, 21)
"""Steps of a run, each counted from the break before, after which it ends: in the teacher, and in the student."""


NO_CHANCE = "student.options.dropout=0"


class BreakError(BaseException):
    """The end of a process, as far as one that goes on can play it."""


def read_vocabulary(config: Path) -> Vocabulary:
    """Pieces for `mixed_text`, of those of the run's teacher."""
    tokenizer = Tokenizer.from_file(str(config.parent / "teacher" / "tokenizer.json"))
    return prune(tokenizer, unk_id=3, pad_id=1, words=Counter(WORDS), budget=150)


def mixed_text(vocabulary: Vocabulary) -> EncodedCorpus:
    """Labelled sentences and others with signals, in like number but not in every batch; one is longer than a batch."""
    draw = np.random.default_rng(0)

    def sentence(length: int) -> Sentence:
        return Sentence(tuple(draw.choice(WORDS, length).tolist()), SCHEME.decode(draw.choice([0, 1, 3], length).tolist()), "de")

    encoder = Encoder(WordTable(vocabulary.tokenizer, unk_id=1, pad_id=0))
    plain = [sentence(length) for length in reversed(LENGTHS)]
    n_words = sum(LENGTHS)
    signals = Targets(
        draw.normal(size=(n_words, len(SCHEME.tags))).astype(np.float16), draw.normal(size=(n_words, 1, STATES)).astype(np.float16)
    )
    labelled = EncodedCorpus([sentence(length) for length in LENGTHS], encoder, SCHEME)
    return labelled.join(EncodedCorpus(plain, encoder, targets=signals))


def learn(vocabulary: Vocabulary, folder: Path, accelerator: Accelerator) -> dict[str, Tensor]:
    """Take a student through a stage of three terms, of which none counts every word and one owns weights; give all weights."""
    corpus = mixed_text(vocabulary)
    options = {"embedding_width": 6, "hidden_width": 5, "projection_width": 8, "dropout": 0.0}
    student = build_student("bilstm", options, Shape(vocabulary.tokenizer.get_vocab_size(), len(SCHEME.tags)), None, seed=3)
    names = ("hidden_mse", "soft_tags", "hard_tags")
    plan = Stage(
        name="mixed", text="both", terms=tuple(Term(loss=name) for name in names),
        optimisation=Optimisation(batch=12, accumulate=3, epochs=3, learning_rate=1e-2, weight_decay=0.1, evaluations=2),
    )  # fmt: skip
    torch.manual_seed(0)
    kinds = [LOSSES.get(name) for name in names]
    terms = [(kind.build(kind.options(), Widths((12, 10, 8), STATES, (1,))), 0.5 + number) for number, kind in enumerate(kinds)]

    def score() -> float:
        batch = corpus.collate(np.arange(6))
        return -float(terms[2][0](student(batch), batch))

    opened = {name: weight for name, weight in student.named_parameters() if not name.startswith("embeddings.")}
    for name, weight in student.named_parameters():
        weight.requires_grad_(name in opened)
    log = RunLog(folder / "metrics.jsonl" if accelerator.is_main_process else None, quiet=True)
    folder.mkdir(parents=True, exist_ok=True)
    staged = loop.StageRun(
        stage=plan, model=student, trainable=opened, terms=terms, corpus=corpus, score=score, folder=folder / "checkpoint",
        identity="mixed", seed=1, log=log, accelerator=accelerator, checkpoint_seconds=-1.0,
    )  # fmt: skip
    loop.run_stage(staged)
    return {**student.state_dict(), **{f"term.{name}": weight for name, weight in terms[0][0].state_dict().items()}}


@contextmanager
def broken_after(steps: int) -> Iterator[None]:
    """End the block in place of step number `steps`, counted from 0, in all processes alike."""
    step, done = loop._Loop._step, 0

    def counted(self: Any) -> tuple[Tensor, int]:
        nonlocal done
        done += 1
        if done > steps:
            raise BreakError
        return step(self)

    vars(loop)["_Loop"]._step = counted
    try:
        yield
        raise AssertionError(f"there were fewer than {steps} steps")
    except BreakError:
        pass
    finally:
        vars(loop)["_Loop"]._step = step


def whole_run(config: Path, out: Path) -> dict[str, Any]:
    """Everything that the program does, with a checkpoint at every step and nothing left to chance in the network; give the results."""
    original = loop.StageRun

    def often(**fields: Any) -> loop.StageRun:
        return original(**{**fields, "checkpoint_seconds": -1.0})

    modules = [vars(importlib.import_module(f"nerdistill.steps.{name}")) for name in ("teach", "distill")]
    for names in modules:
        names["StageRun"] = often
    try:
        with locked(out):
            finished = run(Context(load_config(config, [NO_CHANCE]), out, quiet=True, cpu=True))
    finally:
        for names in modules:
            names["StageRun"] = original
    assert finished.wheel.is_file()
    return finished.results


def main() -> None:
    """All of it, in this process."""
    torch.set_num_threads(1)
    config, out = Path(sys.argv[1]), Path(sys.argv[2])
    accelerator = start(cpu=True)
    vocabulary = read_vocabulary(config)
    weights = learn(vocabulary, out / "stage", accelerator)
    rows = whole_run(config, out / "whole")["rows"]
    told = {"weights": {name: value.tolist() for name, value in weights.items()}, "rows": rows}
    (out / f"process-{accelerator.process_index}.json").write_text(json.dumps(told))
    for steps in BREAKS:
        with broken_after(steps):
            whole_run(config, out / "broken")
    whole_run(config, out / "broken")


if __name__ == "__main__":
    main()
