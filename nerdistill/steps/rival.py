"""A rival for the benchmark: spaCy's own small network (tok2vec and ner), trained by ``spacy train`` on a run's labelled sentences.

Shape and settings are those that ``spacy init config --optimize efficiency`` writes for one processor; nothing is tuned against it. It
reads the sentences that the run's teacher and student learn from, without those that a held-out set also has, and chooses its weights on
the same dev set.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import spacy
from spacy.about import __version__ as spacy_version
from spacy.tokens import Doc, DocBin, Span

from nerdistill.config import RunConfig
from nerdistill.corpus.splits import evenly
from nerdistill.errors import ConfigError
from nerdistill.files import finished, folder_beside
from nerdistill.fingerprint import fingerprint, fingerprint_sentences
from nerdistill.labels import spans_of
from nerdistill.records import Sentence
from nerdistill.steps.prepare import prepare
from nerdistill.training.runlog import RunLog

VERSION = 1
"""Part of the fingerprint; counts up when the same input makes another pipeline."""

BEST = "model-best"


def train_rival(config: RunConfig, folder: Path, limit: int, steps: int, log: RunLog) -> Path:
    """Train spaCy's network on the labelled sentences of a run; a pipeline that is there already is taken.

    Args:
        config: The run; of it count only the labelled sources and the types.
        folder: Where to put the sentences, the configuration and what training leaves; it is the rival's own and replaced.
        limit: Training sentences of each language, evenly over the set; 0 takes all.
        steps: Of training, at most; 0 leaves spaCy's own number. spaCy stops earlier where dev no longer improves.
        log: Where to tell.

    Returns:
        The folder of the best pipeline, for a contestant of the kind ``spacy``.

    Raises:
        ConfigError: ``spacy train`` ended with an error, which stands on stderr above.
        DataError: A file is missing or malformed.
    """
    data = prepare(_labelled_alone(config))
    train = [sentence for language in config.data.languages for sentence in evenly(_of(data.train, language), limit)]
    facts = (fingerprint_sentences(train), fingerprint_sentences(data.dev), spacy_version, steps, config.seed)
    identity = fingerprint(VERSION, *facts)
    if finished(folder, identity=identity):
        return folder / BEST
    log.say(f"spaCy's network: {len(train):,} training and {len(data.dev):,} dev sentences")
    with folder_beside(folder, {"identity": identity}) as made:
        write_docs(train, made / "train.spacy")
        write_docs(data.dev, made / "dev.spacy")
        _write_config(made / "config.cfg", steps, config.seed)
        _spacy_train(made)
    return folder / BEST


def write_docs(sentences: Sequence[Sentence], path: Path) -> None:
    """Write labelled sentences, a doc each with the words as they are, in spaCy's binary format."""
    vocab = spacy.blank("xx").vocab
    docs = DocBin(attrs=["ORTH", "SPACY", "ENT_IOB", "ENT_TYPE"])
    for sentence in sentences:
        doc = Doc(vocab, words=list(sentence.words))
        found = [Span(doc, span.start, span.stop, label=span.label) for span in spans_of(sentence.tags or ())]
        doc.set_ents(found, default="missing" if sentence.unannotated else "outside")
        docs.add(doc)
    docs.to_disk(path)


def _labelled_alone(config: RunConfig) -> RunConfig:
    """The run without transfer text, which spaCy has no use for."""
    data = config.data
    plain = {"transfer": (), "swap": data.swap.model_copy(update={"copies": 0}), "replace": data.replace.model_copy(update={"copies": 0})}
    return config.model_copy(update={"data": data.model_copy(update=plain)})


def _of(sentences: Sequence[Sentence], language: str) -> list[Sentence]:
    return [sentence for sentence in sentences if sentence.language == language]


def _write_config(path: Path, steps: int, seed: int) -> None:
    from spacy.cli.init_config import init_config

    made: Any = init_config(lang="xx", pipeline=["ner"], optimize="efficiency", gpu=False)
    made["training"]["seed"] = seed
    if steps:
        made["training"]["max_steps"] = steps
    made.to_disk(path)


def _spacy_train(folder: Path) -> None:
    """Run ``spacy train`` in a process of its own; what it prints goes to stderr, as stdout is for data."""
    paths = [f"--paths.{part}={folder / part}.spacy" for part in ("train", "dev")]
    command = [sys.executable, "-m", "spacy", "train", str(folder / "config.cfg"), "--output", str(folder), *paths]
    done = subprocess.run(command, stdout=2, check=False)
    if done.returncode:
        raise ConfigError(f"`spacy train` ended with exit code {done.returncode}; what it said stands above")
