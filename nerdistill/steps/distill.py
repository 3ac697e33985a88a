"""The student: built, trained stage by stage, and written as a bundle."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from tokenizers import Tokenizer

from nerdistill import __version__
from nerdistill.config import RunConfig
from nerdistill.corpus.encoded import EncodedCorpus, Encoder
from nerdistill.corpus.splits import evenly
from nerdistill.errors import ConfigError
from nerdistill.evaluation.scores import f1_by_language
from nerdistill.export.bundle_writer import MAX_PIECES, WINDOW, Manifest, write_bundle
from nerdistill.files import DONE, finished, folder_beside, read_json
from nerdistill.fingerprint import fingerprint
from nerdistill.labels import tags_of
from nerdistill.losses.base import LOSSES, LossTerm, Widths
from nerdistill.recipes.base import plan_recipe
from nerdistill.records import Sentence
from nerdistill.runtime.bundle import TOKENIZER
from nerdistill.runtime.tagger import Tagger
from nerdistill.steps.annotate import Signals, annotate_transfer
from nerdistill.steps.context import Context
from nerdistill.steps.teach import Taught, teach
from nerdistill.students.base import STUDENTS, Shape, Student, build_student, student_options
from nerdistill.students.parts.reduction import reduce_table
from nerdistill.students.vocabulary import Vocabulary, prune
from nerdistill.teachers.huggingface import best_precision, load_pieces, load_teacher
from nerdistill.text.encoder import WordTable
from nerdistill.training.loop import StageRun, run_stage
from nerdistill.training.runlog import RunLog
from nerdistill.training.selection import DevF1, HeldOutLoss
from nerdistill.training.stage import Stage, Term

HELD_OUT_EVERY = 50
"""One transfer sentence in so many is held out to choose weights where there are no labels."""

DEV_BATCH = 16384

GATE_SENTENCES = 300
"""Labelled sentences of each language that the 8-bit network is held to: on fewer, one entity more or less would decide."""


@dataclass(frozen=True)
class Distilled:
    """A finished student.

    Attributes:
        bundle: Its folder.
        stages: Fingerprints of its stages, each of all that led to it.
        seconds: Time that its stages took.
    """

    bundle: Path
    stages: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Texts:
    """Encoded text of a student's stages.

    Attributes:
        labelled: Gold tags.
        transfer: Signals, or None for a recipe without a teacher.
        held_out: A part of the transfer text that no stage learns from.
        dev: For selection.
    """

    labelled: EncodedCorpus
    transfer: EncodedCorpus | None
    held_out: EncodedCorpus | None
    dev: EncodedCorpus


def distill(context: Context) -> Distilled:
    """Make the run's student, or find it made; teaches and annotates first if need be."""
    config = context.config
    taught = teach(context)
    plan = plan_of(config, config.recipe.name, config.recipe.options)
    signals = annotate_transfer(context, taught) if any(stage.text != "labelled" for stage in plan) else None
    return _train(context, taught, signals, plan, "student", config.student.embeddings)


def train_baseline(context: Context) -> Distilled:
    """The same student on the labels alone, from random embeddings: no teacher, no transfer text; only the choice of pieces is shared."""
    config = context.config
    taught = teach(context)
    plan = plan_of(config, "labels_only", config.evaluation.baseline_options)
    return _train(context, taught, None, plan, "no_teacher", "random")


def _identities(context: Context, taught: Taught, signals: Signals | None, plan: Sequence[Stage], embeddings: str) -> tuple[str, ...]:
    """A fingerprint for each stage, of all that leads to its result: two plans that begin alike share their first stages."""
    config = context.config
    table = taught.identity if embeddings != "random" else ""
    settings = {**_student_settings(config), "embeddings": embeddings}
    identity = context.identity("distill", context.words_digest, table, settings, config.data.types, config.data.alpha)
    texts = {
        "labelled": [context.train_digest],
        "transfer": [signals and signals.identity],
        "both": [context.train_digest, signals and signals.identity],
    }
    found = []
    for stage in plan:
        identity = fingerprint(identity, stage.model_dump(), texts[stage.text], context.dev_digest)
        found.append(identity)
    return tuple(found)


def _student_settings(config: RunConfig) -> dict[str, Any]:
    """The student's settings with every default written out: a default that changes must change the fingerprint."""
    options = student_options(config.student.kind, config.student.options)
    return {**config.student.model_dump(), "options": options.model_dump()}


def plan_of(config: RunConfig, recipe: str, options: Mapping[str, Any]) -> tuple[Stage, ...]:
    """The stages of a recipe for the configured student, from nothing but the configuration."""
    kind = STUDENTS.get(config.student.kind)
    tiny = kind.build(student_options(config.student.kind, config.student.options), Shape(2, 2 * len(config.data.types) + 1), None)
    plan = plan_recipe(recipe, options, [group.name for group in tiny.groups()])
    needs_states = any("teacher_hidden" in LOSSES.get(term.loss).needs for stage in plan for term in stage.terms)
    if needs_states and not config.signals.width:
        raise ConfigError(f"recipe '{recipe}' learns from teacher states: set signals.width above 0, or leave that stage out")
    return plan


def _train(context: Context, taught: Taught, signals: Signals | None, plan: tuple[Stage, ...], system: str, embeddings: str) -> Distilled:
    identities = _identities(context, taught, signals, plan, embeddings)
    identity = identities[-1]
    bundle = context.step_folder(system, identity)
    if finished(bundle, identity=identity):
        return Distilled(bundle, identities, read_json(bundle / DONE)["seconds"])
    context.log.say(f"{system.replace('_', ' ')}: {len(plan)} stage{'s' * (len(plan) > 1)}")
    vocabulary = _vocabulary(context, taught)
    student = _build(context.config, taught, vocabulary, embeddings, len(context.data.scheme.tags))
    texts, widths = _texts(context, vocabulary, signals, student.state_widths)
    seconds = sum(
        _learn(context, student, texts, widths, stage, identity, context.log.named(system, identity))
        for stage, identity in zip(plan, identities, strict=True)
    )
    provenance = _provenance(context, system, embeddings)
    manifest = Manifest(
        name=context.config.package.name if system == "student" else f"{context.config.package.name}-{system}",
        types=context.config.data.types,
        languages=context.config.data.languages,
        student={
            "kind": context.config.student.kind,
            "options": _student_settings(context.config)["options"],
            "pieces": len(vocabulary.teacher_ids),
        },
        version=context.config.package.version,
        provenance=provenance,
    )
    gate_text = _gate_text(context)
    score = (lambda tagger: tagger_f1(tagger, gate_text)) if system == "student" else None
    student.cpu().eval()
    write_bundle(
        bundle,
        student,
        vocabulary,
        manifest,
        score,
        context.config.package.int8_tolerance,
        {"identity": identity, "seconds": round(seconds, 2)},
    )
    return Distilled(bundle, identities, round(seconds, 2))


def tagger_tags(tagger: Tagger, sentences: Sequence[Sentence]) -> list[tuple[str, ...]]:
    """A tagger's tags for sentences that are split already."""
    found = tagger.tag_words([sentence.words for sentence in sentences])
    return [tags_of(spans, len(sentence.words)) for spans, sentence in zip(found, sentences, strict=True)]


def tagger_f1(tagger: Tagger, sentences: Sequence[Sentence]) -> dict[str, float]:
    """A tagger's strict F1 by language."""
    return f1_by_language(sentences, tagger_tags(tagger, sentences))


def _gate_text(context: Context) -> list[Sentence]:
    """Dev sentences of each language, filled up from train; the gate compares two forms of the same weights, so both may have seen it."""
    text: list[Sentence] = []
    for language in context.config.data.languages:
        dev, train = ([s for s in part if s.language == language] for part in (context.data.dev, context.data.train))
        text += [*evenly(dev, GATE_SENTENCES), *(evenly(train, GATE_SENTENCES - len(dev)) if len(dev) < GATE_SENTENCES else [])]
    return text


def _vocabulary(context: Context, taught: Taught) -> Vocabulary:
    pieces = load_pieces(taught.model)
    return prune(pieces.tokenizer, pieces.unk_id, pieces.pad_id, context.words, context.config.student.pieces)


def vocabulary_facts(context: Context, tagger: Tagger) -> dict[str, float]:
    """What the cut of the vocabulary does to dev text: pieces a word for the student and its teacher, and the share of unknown pieces."""
    words = [word for sentence in context.data.dev for word in sentence.words]
    teacher = load_pieces(teach(context).model).tokenizer
    cut, full = (
        [encoding.ids for encoding in tokenizer.encode_batch_fast(words, add_special_tokens=False)]
        for tokenizer in (Tokenizer.from_str(tagger.bundle.files[TOKENIZER].decode()), teacher)
    )
    pieces = sum(map(len, cut))
    return {
        "pieces": tagger.info.student["pieces"],
        "pieces_per_word": round(pieces / len(words), 4),
        "teacher_pieces_per_word": round(sum(map(len, full)) / len(words), 4),
        "unknown_share": round(sum(ids.count(1) for ids in cut) / max(1, pieces), 6),
    }


def _build(config: RunConfig, taught: Taught, vocabulary: Vocabulary, embeddings: str, n_tags: int) -> Student:
    kind = STUDENTS.get(config.student.kind)
    table = None
    if embeddings == "svd":
        width = kind.embedding_width(student_options(config.student.kind, config.student.options))
        teacher = load_teacher(taught.model, None, "float32", config.seed).word_embeddings.weight
        if width > teacher.shape[1]:
            raise ConfigError(
                f"student.options: embedding width {width} is above the teacher's {teacher.shape[1]}; use a smaller one or random"
            )
        table = reduce_table(teacher, vocabulary.teacher_ids, width)
    return build_student(config.student.kind, config.student.options, Shape(len(vocabulary.teacher_ids), n_tags), table, config.seed)


def student_encoder(tokenizer: Tokenizer) -> Encoder:
    """How students read words."""
    return Encoder(WordTable(tokenizer, unk_id=1, pad_id=0, max_pieces=MAX_PIECES, capacity=1 << 62), limit=WINDOW)


def _texts(context: Context, vocabulary: Vocabulary, signals: Signals | None, states: tuple[int, ...]) -> tuple[Texts, Widths]:
    data = context.data
    encoder = student_encoder(vocabulary.tokenizer)
    labelled = EncodedCorpus(data.train, encoder, data.scheme)
    dev = EncodedCorpus(data.dev, encoder)
    if signals is None:
        return Texts(labelled, None, None, dev), Widths(states, 0)
    store = signals.open()
    everything = EncodedCorpus(data.transfer, encoder, targets=store.targets())
    held_out, transfer = _part(everything, data.transfer, True), _part(everything, data.transfer, False)
    return Texts(labelled, transfer, held_out, dev), Widths(states, store.counts["hidden_width"], tuple(store.counts["layers"]))


def _part(corpus: EncodedCorpus, sentences: Sequence[Sentence], held_out: bool) -> EncodedCorpus:
    return corpus.select([number for number in range(len(sentences)) if (number % HELD_OUT_EVERY == 0) == held_out])


def _learn(context: Context, student: Student, texts: Texts, widths: Widths, stage: Stage, identity: str, log: RunLog) -> float:
    """Take the student through a stage, or take its weights from there if it was done before; return the seconds that it took."""
    target = context.folder / "stages" / f"{stage.name}-{identity[:8]}"
    checkpoint = target.with_name(f"{target.name}-checkpoint")
    with context.making(target):
        if finished(target, identity=identity):
            load_model(student, str(target / "model.safetensors"))
        else:
            result = run_stage(_stage_run(context, student, texts, widths, stage, checkpoint, identity, log))
            with folder_beside(target, {"identity": identity, "seconds": result.seconds}) as made:
                save_model(student, str(made / "model.safetensors"))
            shutil.rmtree(checkpoint, ignore_errors=True)
    seconds: float = read_json(target / DONE)["seconds"]
    return seconds


def _stage_run(
    context: Context, student: Student, texts: Texts, widths: Widths, stage: Stage, folder: Path, identity: str, log: RunLog
) -> StageRun:
    corpus = texts.labelled
    if stage.text != "labelled":
        if texts.transfer is None:
            raise ConfigError(f"stage '{stage.name}' learns from transfer text, and this run has none")
        corpus = texts.transfer if stage.text == "transfer" else texts.labelled.join(texts.transfer)
    terms = [(_build_term(term, widths, fingerprint(identity, number)), term.weight) for number, term in enumerate(stage.terms)]
    groups = {group.name: group.module for group in student.groups()}
    opened = list(groups) if stage.trainable == ("*",) else list(stage.trainable)
    trainable = {f"{name}.{key}": weight for name in opened for key, weight in groups[name].named_parameters()}
    for weight in student.parameters():
        weight.requires_grad_(False)
    for weight in trainable.values():
        weight.requires_grad_(True)
    score: DevF1 | HeldOutLoss | None = None
    if stage.select == "dev_f1":
        score = DevF1(student, texts.dev, context.data.dev, context.data.scheme, DEV_BATCH)
    elif stage.select == "held_out_loss" and texts.held_out is not None:
        score = HeldOutLoss(student, terms, texts.held_out, DEV_BATCH)
    return StageRun(
        stage=stage, model=student, trainable=trainable, terms=terms, corpus=corpus, score=score, folder=folder, identity=identity,
        seed=context.config.seed, alpha=context.config.data.alpha, log=log, accelerator=context.accelerator,
        precision=best_precision(context.config.student.precision, context.accelerator.device),
    )  # fmt: skip


def _build_term(term: Term, widths: Widths, identity: str) -> LossTerm:
    """A loss term whose first weights follow from the stage alone, not from what this process did before."""
    kind = LOSSES.get(term.loss)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(identity[:12], 16))
        return kind.build(kind.options.model_validate(term.options), widths)


def _provenance(context: Context, system: str, embeddings: str) -> dict[str, Any]:
    config = context.config
    return {
        "nerdistill": __version__,
        "licence": config.package.licence,
        "teacher": config.teacher.model if system == "student" else "none",
        "recipe": config.recipe.model_dump() if system == "student" else {"name": "labels_only"},
        "embeddings": embeddings,
        "seed": config.seed,
        "data": {**context.data.counts, "languages": list(config.data.languages)},
    }
