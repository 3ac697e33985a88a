"""The student: built, trained stage by stage, and written as a bundle."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from torch import nn

from nerdistill import __version__
from nerdistill.config import RunConfig
from nerdistill.corpus.splits import evenly
from nerdistill.errors import ConfigError
from nerdistill.evaluation.scores import f1_by_language
from nerdistill.export.bundle_writer import Manifest, write_bundle
from nerdistill.files import DONE, folder_beside, read_json
from nerdistill.fingerprint import fingerprint
from nerdistill.labels import tags_of
from nerdistill.losses.base import LOSSES, LossTerm, Widths
from nerdistill.recipes.base import Pair, plan_recipe
from nerdistill.records import Sentence
from nerdistill.runtime.tagger import Tagger
from nerdistill.steps.annotate import Signals, annotate_transfer
from nerdistill.steps.assistant import Assistant, assistant_context, assistant_run, check, check_terms, hand_down, is_asked_for
from nerdistill.steps.build import build, layers_identity, make_vocabulary, outline, plain_start, student_settings, table_identity
from nerdistill.steps.checks import check_teacher
from nerdistill.steps.context import Context
from nerdistill.steps.teach import Taught, teach, teacher_depth
from nerdistill.steps.texts import Texts, learns_attention, read_texts
from nerdistill.students.base import Student, student_options
from nerdistill.students.parts.piece_head import WithPieces
from nerdistill.teachers.huggingface import best_precision
from nerdistill.training.loop import StageRun, run_stage
from nerdistill.training.runlog import RunLog
from nerdistill.training.selection import DevF1, HeldOutLoss
from nerdistill.training.stage import Stage, Term

DEV_BATCH = 16384

GATE_SENTENCES = 1000
"""Labelled sentences of each language that the 8-bit network is held to: on few, one entity more or less decides in some language."""


@dataclass(frozen=True)
class Distilled:
    """A finished student.

    Attributes:
        bundle: Its folder.
        stages: Fingerprints of its stages, each of all that led to it.
        seconds: Time that its stages took.
        reading: Time that the teacher took to read the transfer text; None where nothing was learnt from that.
    """

    bundle: Path
    stages: tuple[str, ...]
    seconds: float
    reading: float | None = None


def distill(context: Context) -> Distilled:
    """Make the run's student, or find it made; teaches, annotates and makes an assistant first if need be."""
    config = context.config
    plan = plan_of(config, config.recipe.name, config.recipe.options)  # first: what cannot be done is said before anything is
    taught = teach(context)
    signals = _signals(context, taught, plan)
    assistant = train_assistant(context, taught) if is_asked_for(config, plan) else None
    if config.assistant and not assistant:
        context.log.say(f"assistant: not made, as nothing of recipe '{config.recipe.name}' learns from it")
    return _train(context, taught, signals, plan, "student", config.student.embeddings, assistant)


def train_assistant(context: Context, taught: Taught) -> Assistant:
    """Make the run's assistant, or find it made: the student of another configuration, in the same folder."""
    gives = context.config.assistant.hand_down if context.config.assistant else ()
    context = assistant_context(context)
    config = context.config
    plan = plan_of(config, config.recipe.name, config.recipe.options)
    signals = _signals(context, taught, plan)
    with context.making(context.folder / f"assistant-{fingerprint(student_settings(config), config.recipe.model_dump())[:8]}"):
        made = _train(context, taught, signals, plan, "assistant", config.student.embeddings)
    return Assistant(made.bundle, made.stages[-1], gives)


def train_baseline(context: Context) -> Distilled:
    """The same student on the labels alone, from random embeddings: no teacher, no transfer text; only the choice of pieces is shared."""
    context = plain_start(context)
    taught = teach(context)
    plan = plan_of(context.config, "labels_only", context.config.evaluation.baseline_options)
    return _train(context, taught, None, plan, "no_teacher", "random")


def _signals(context: Context, taught: Taught, plan: Sequence[Stage]) -> Signals | None:
    """What the teacher says of the transfer text, where a plan learns from that; None where none does."""
    if all(stage.text == "labelled" for stage in plan):
        return None
    return annotate_transfer(context, taught)


def _identities(
    context: Context, taught: Taught, signals: Signals | None, plan: Sequence[Stage], embeddings: str, assistant: Assistant | None
) -> tuple[str, ...]:
    """A fingerprint for each stage, of all that leads to its result: two plans that begin alike share their first stages."""
    config = context.config
    table = table_identity(context, taught, embeddings)
    settings = {key: value for key, value in student_settings(config).items() if key != "embeddings_from"} | {"embeddings": embeddings}
    identity = context.identity("distill", context.words_digest, table, settings, config.data.types, config.data.alpha)
    said = signals.identity if signals else None
    texts: dict[str, list[Any]] = {"labelled": [context.train_digest], "transfer": [said], "both": [context.train_digest, said]}
    if layers := layers_identity(context, taught):
        identity = fingerprint(identity, layers)
    if assistant and assistant.hand_down:
        identity = fingerprint(identity, assistant.identity, assistant.hand_down)
    found = []
    for stage in plan:
        heard = [*texts[stage.text], *([assistant.identity] if assistant and stage.teacher == "assistant" else [])]
        versions = {term.loss: kind.version for term in stage.terms if (kind := LOSSES.get(term.loss)).version > 1}
        renewed = [versions] if versions else []  # so that stages of terms that stayed as they were stay valid
        identity = fingerprint(identity, stage.model_dump(exclude_defaults=True), heard, context.dev_digest, *renewed)
        found.append(identity)
    return tuple(found)


def plan_of(config: RunConfig, recipe: str, options: Mapping[str, Any]) -> tuple[Stage, ...]:
    """The stages of a recipe for the configured student, from nothing but the configuration.

    Raises:
        ConfigError: The recipe or its options are wrong, or ask for what student, teacher, signals or assistant have not.
    """
    student = outline(config)
    pair = Pair(
        tuple(group.name for group in student.groups()), len(student.state_widths) - 1 if student.heads else 0, teacher_depth(config)
    )
    plan = plan_recipe(recipe, options, pair)
    if is_asked_for(config, plan):
        assistant = _sound_assistant(config)
        if any(stage.teacher == "assistant" for stage in plan):
            plan = plan_recipe(recipe, options, replace(pair, teacher_layers=len(assistant.state_widths) - 1))
        check_terms(plan, student, assistant)
    needs = {(stage.teacher != "stored", need) for stage in plan for term in stage.terms for need in LOSSES.get(term.loss).needs}
    if (True, "teacher_attention") in needs and not student.heads:
        raise ConfigError(
            f"recipe '{recipe}' learns attention, which a student of kind '{config.student.kind}' has not; take a student with attention, "
            "or set the recipe's attention = false"
        )
    if (False, "teacher_hidden") in needs and not config.signals.width:
        raise ConfigError(f"recipe '{recipe}' learns from teacher states: set signals.width above 0, or leave that stage out")
    check_teacher(config, plan, student)
    return plan


def _sound_assistant(config: RunConfig) -> Student:
    """The assistant's outline; its settings are right, and so is its plan."""
    run = assistant_run(config)
    try:
        plan_of(run, run.recipe.name, run.recipe.options)
    except ConfigError as error:
        raise ConfigError(f"the assistant, as a student: {error}") from error
    return check(config)


def _train(
    context: Context, taught: Taught, signals: Signals | None, plan: tuple[Stage, ...], system: str, embeddings: str,
    assistant: Assistant | None = None,
) -> Distilled:  # fmt: skip
    identities = _identities(context, taught, signals, plan, embeddings, assistant)
    folded = context.config.package.fold and system != "assistant"
    identity = fingerprint(identities[-1], "folded") if folded else identities[-1]
    bundle = context.step_folder(system, identity)
    if context.is_made(bundle, identity):
        return Distilled(bundle, identities, read_json(bundle / DONE)["seconds"], signals.seconds if signals else None)
    context.log.say(f"{system.replace('_', ' ')}: {len(plan)} stage{'s' * (len(plan) > 1)}")
    vocabulary = make_vocabulary(context, taught)
    student = build(context, taught, vocabulary, embeddings)
    if assistant and assistant.hand_down:
        hand_down(assistant.hand_down, assistant.open()[0], student)
    texts = read_texts(context, taught, vocabulary, signals, student, assistant)
    seconds = sum(
        _learn(context, student, texts, stage, identity, context.log.named(system, identity))
        for stage, identity in zip(plan, identities, strict=True)
    )
    provenance = _provenance(context, system, embeddings, assistant)
    manifest = Manifest(
        name=context.config.package.name if system == "student" else f"{context.config.package.name}-{system}",
        types=context.config.data.types,
        languages=context.config.data.languages,
        student={
            "kind": context.config.student.kind,
            "options": student_options(context.config.student.kind, context.config.student.options).model_dump(),
            "pieces": len(vocabulary.teacher_ids),
        },
        version=context.config.package.version,
        provenance=provenance,
    )
    gate_text = _gate_text(context)
    score = (lambda tagger: tagger_f1(tagger, gate_text)) if system == "student" else None
    student.cpu().eval()
    if context.main:
        write_bundle(
            bundle,
            student,
            vocabulary,
            manifest,
            score,
            context.config.package.int8_tolerance,
            {"identity": identity, "seconds": round(seconds, 2)},
            folded,
        )
    context.wait()
    return Distilled(bundle, identities, round(seconds, 2), signals.seconds if signals else None)


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


def _learn(context: Context, student: Student, texts: Texts, stage: Stage, identity: str, log: RunLog) -> float:
    """Take the student through a stage, or take its weights from there if it was done before; return the seconds that it took."""
    target = context.folder / "stages" / f"{stage.name}-{identity[:8]}"
    checkpoint = target.with_name(f"{target.name}-checkpoint")
    with context.making(target):
        if context.is_made(target, identity):
            load_model(student, str(target / "model.safetensors"))
        else:
            result = run_stage(_stage_run(context, student, texts, stage, checkpoint, identity, log))
            if context.main:
                with folder_beside(target, {"identity": identity, "seconds": result.seconds}) as made:
                    save_model(student, str(made / "model.safetensors"))
                shutil.rmtree(checkpoint, ignore_errors=True)
            context.wait()
    seconds: float = read_json(target / DONE)["seconds"]
    return seconds


def _stage_run(context: Context, student: Student, texts: Texts, stage: Stage, folder: Path, identity: str, log: RunLog) -> StageRun:
    reading = texts.of(stage)
    student.with_attention = learns_attention(stage)
    terms = [(_build_term(term, reading.widths, fingerprint(identity, number)), term.weight) for number, term in enumerate(stage.terms)]
    groups = {group.name: group.module for group in student.groups()}
    opened = list(groups) if stage.trainable == ("*",) else list(stage.trainable)
    trainable = {f"{name}.{key}": weight for name in opened for key, weight in groups[name].named_parameters()}
    for weight in student.parameters():
        weight.requires_grad_(False)
    for weight in trainable.values():
        weight.requires_grad_(True)
    model: nn.Module = student
    if reading.head is not None:
        model = WithPieces(student, reading.head)
        trainable |= {f"pieces.{key}": weight for key, weight in reading.head.named_parameters()}
    score: DevF1 | HeldOutLoss | None = None
    if stage.select == "dev_f1":
        score = DevF1(model, texts.dev, context.data.dev, context.data.scheme, DEV_BATCH)
    elif stage.select == "held_out_loss" and reading.held_out is not None:
        # Scores of all pieces take more memory than all else together, so these stages hold no more at once than they learn from.
        batch = stage.optimisation.batch if reading.head else DEV_BATCH
        score = HeldOutLoss(model, terms, reading.held_out, batch)
    return StageRun(
        stage=stage, model=model, trainable=trainable, terms=terms, corpus=reading.corpus, score=score, folder=folder, identity=identity,
        seed=context.config.seed, alpha=context.config.data.alpha, log=log, accelerator=context.accelerator,
        precision=best_precision(context.config.student.precision, context.accelerator.device),
    )  # fmt: skip


def _build_term(term: Term, widths: Widths, identity: str) -> LossTerm:
    """A loss term whose first weights follow from the stage alone, not from what this process did before."""
    kind = LOSSES.get(term.loss)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(identity[:12], 16))
        return kind.build(kind.options.model_validate(term.options), widths)


def public_name(model: str) -> str:
    """A model's name without the folder that it happens to be in."""
    return Path(model).name if Path(model).is_absolute() or Path(model).is_dir() else model


def _provenance(context: Context, system: str, embeddings: str, assistant: Assistant | None) -> dict[str, Any]:
    config = context.config
    learnt_from = {"assistant": config.assistant.model_dump()} if assistant and config.assistant else {}
    return {
        "nerdistill": __version__,
        "licence": config.package.licence,
        "teacher": public_name(config.teacher.model) if system != "no_teacher" else "none",
        "recipe": config.recipe.model_dump() if system != "no_teacher" else {"name": "labels_only"},
        **learnt_from,
        "embeddings": embeddings,
        "seed": config.seed,
        "data": {**context.data.counts, "languages": list(config.data.languages)},
    }
