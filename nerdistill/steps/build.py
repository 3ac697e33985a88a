"""The student before it learns anything: its vocabulary, its first embeddings, the network."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from nerdistill.config import RunConfig
from nerdistill.corpus.encoded import Encoder
from nerdistill.errors import ConfigError
from nerdistill.export.bundle_writer import MAX_PIECES, window_of
from nerdistill.fingerprint import fingerprint, sha256_file
from nerdistill.runtime.bundle import TOKENIZER
from nerdistill.runtime.tagger import Tagger
from nerdistill.steps.context import Context
from nerdistill.steps.teach import Taught, load_general_teacher, teach, weights_digest
from nerdistill.students.base import STUDENTS, Shape, Student, build_student, student_options
from nerdistill.students.embeddings import full_table, load_vectors, train_fasttext
from nerdistill.students.parts.piece_table import PieceTable
from nerdistill.students.parts.reduction import reduce_table
from nerdistill.students.parts.regress import STEPS, fit_to_table
from nerdistill.students.vocabulary import Vocabulary, count_pieces, prune
from nerdistill.teachers.as_transformer import begin_with, check_layers
from nerdistill.teachers.huggingface import load_pieces, load_table, load_teacher, resolve
from nerdistill.text.encoder import WordTable


def student_settings(config: RunConfig) -> dict[str, Any]:
    """What is set of the student otherwise than by default, for fingerprints; see `nerdistill.steps.context.STEP_VERSIONS`."""
    options = student_options(config.student.kind, config.student.options)
    return {
        "kind": config.student.kind,
        **config.student.model_dump(exclude_defaults=True),
        "options": options.model_dump(exclude_defaults=True),
    }


def outline(config: RunConfig) -> Student:
    """The configured student with next to no pieces, to be asked how it is made."""
    kind = STUDENTS.get(config.student.kind)
    return kind.build(student_options(config.student.kind, config.student.options), Shape(2, 2 * len(config.data.types) + 1), None)


def table_identity(context: Context, taught: Taught, embeddings: str) -> str:
    """Fingerprint of what the first embeddings are made from."""
    source = context.config.student.embeddings_from
    if embeddings == "random":
        return ""
    if embeddings == "fasttext":
        return sha256_file(Path(source)) if source else context.transfer_digest
    return weights_digest(resolve(source)) if source else taught.identity


def layers_identity(context: Context, taught: Taught) -> str:
    """Fingerprint of what the layers begin as; empty for random ones."""
    config = context.config
    if config.student.layers_from == "general":
        return fingerprint(weights_digest(resolve(config.teacher.model)), config.teacher.revision)
    return taught.identity if config.student.layers_from == "teacher" else ""


def plain_start(context: Context) -> Context:
    """The same run with a student that begins with nothing of the teacher's."""
    context.words_digest  # noqa: B018  (text is read and counted once for both)
    other = copy.copy(context)
    student = context.config.student.model_copy(update={"layers_from": "random", "taken_layers": ()})
    other.config = context.config.model_copy(update={"student": student})
    return other


def make_vocabulary(context: Context, taught: Taught) -> Vocabulary:
    """The teacher's pieces, cut to what the run's text uses and to the budget."""
    pieces = load_pieces(taught.model)
    ends = (pieces.bos_id, pieces.eos_id) if outline(context.config).inputs == "pieces" else None
    return prune(pieces.tokenizer, pieces.unk_id, pieces.pad_id, context.words, context.config.student.pieces, ends)


def build(context: Context, taught: Taught, vocabulary: Vocabulary, embeddings: str) -> Student:
    """The configured student with its first weights."""
    config = context.config
    width = STUDENTS.get(config.student.kind).embedding_width(student_options(config.student.kind, config.student.options))
    table = _table(context, taught, vocabulary, embeddings, width)
    shape = Shape(len(vocabulary.teacher_ids), len(context.data.scheme.tags))
    student = build_student(config.student.kind, config.student.options, shape, table, config.seed)
    if embeddings == "distilled":
        _distil_table(context, taught, vocabulary, student)
    if config.student.layers_from != "random":
        _begin(context, taught, vocabulary, embeddings, student)
    return student


def _begin(context: Context, taught: Taught, vocabulary: Vocabulary, embeddings: str, student: Student) -> None:
    """Give the student layers of a teacher, and its embeddings where the table is of the same model."""
    config = context.config.student
    own = config.layers_from == "teacher"
    teacher = load_teacher(taught.model, None, "float32", 0) if own else load_general_teacher(context, "float32")
    layers = check_layers(config.kind, student_options(config.kind, config.options), teacher.network.config, config.taken_layers)
    rows = vocabulary.teacher_ids if embeddings in ("svd", "full") and not config.embeddings_from else None
    begin_with(student, teacher, layers, rows, own and teacher.tags == context.data.scheme.tags)
    whose = "the teacher" if own else "the teacher before fine-tuning"
    context.log.say(f"  the student begins with layers {', '.join(map(str, layers))} of {whose}")


def _distil_table(context: Context, taught: Taught, vocabulary: Vocabulary, student: Student) -> None:
    """Let a table and its unit learn the teacher's rows; pieces that the text does not use count as the rarest that it does."""
    embedding = next(module for module in student.modules() if isinstance(module, PieceTable))
    frequencies = torch.zeros(len(vocabulary.teacher_ids))
    for piece, count in count_pieces(vocabulary.tokenizer, context.words).items():
        frequencies[piece] = count
    frequencies.clamp_(min=float(frequencies[frequencies > 0].min()))
    rows = full_table(_teacher_table(context, taught), vocabulary.teacher_ids)
    left = fit_to_table(embedding, rows, frequencies, STEPS, context.config.seed)
    context.log.say(f"  the first embeddings leave {100 * left:.1f} % of the variance of the teacher's")


def _table(context: Context, taught: Taught, vocabulary: Vocabulary, embeddings: str, width: int) -> torch.Tensor | None:
    """The first embeddings ``[n_pieces, width]``, or None for random ones."""
    source, seed = context.config.student.embeddings_from, context.config.seed
    if embeddings == "random":
        return None
    if embeddings == "fasttext":
        if source:
            made = load_vectors(Path(source), vocabulary, width, seed)
        else:
            made = train_fasttext((sentence.words for sentence in context.data.transfer), vocabulary, width, seed)
        context.log.say(f"  fastText has vectors for {100 * made.found:.1f} % of the pieces")
        return made.table
    teacher = _teacher_table(context, taught)
    if width > teacher.shape[1] or (embeddings == "full" and width != teacher.shape[1]):
        raise ConfigError(
            f"student.options: embedding width {width}, but the teacher's is {teacher.shape[1]}: 'full' needs that, 'svd' at most that"
        )
    return full_table(teacher, vocabulary.teacher_ids) if embeddings == "full" else reduce_table(teacher, vocabulary.teacher_ids, width)


def _teacher_table(context: Context, taught: Taught) -> torch.Tensor:
    """The rows of the teacher's table, or of the model that is to stand in its place."""
    source = context.config.student.embeddings_from
    own = resolve(context.config.teacher.model) if context.config.student.layers_from == "general" else taught.model
    model = resolve(source) if source else own
    if source and load_pieces(model).tokenizer.get_vocab() != load_pieces(taught.model).tokenizer.get_vocab():
        raise ConfigError(f"student.embeddings_from = '{source}': its pieces are not the teacher's; give a model with the same tokenizer")
    return load_table(model)


def student_encoder(student: Student, vocabulary: Vocabulary) -> Encoder:
    """How a student reads words."""
    table = WordTable(vocabulary.tokenizer, unk_id=1, pad_id=0, max_pieces=MAX_PIECES, capacity=1 << 62)
    bos_id, eos_id = vocabulary.ends or (None, None)
    return Encoder(table, bos_id, eos_id, window_of(student))


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
