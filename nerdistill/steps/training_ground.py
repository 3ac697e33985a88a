"""What all contestants of the training benchmark share: text, teacher, a thin student's shape and first weights, losses.

The student is TinyBERT's shape, four layers of 312 (Jiao et al. 2020), or as many layers as a shallower teacher has. It is made once in the
library that teachers come in, with random weights, and taken over weight for weight into our own network, so both begin as one function.
Its vocabulary is ours, the teacher's pieces cut to a budget that leaves room for all of the text's: student and teacher then cut words
alike, which TextBrewer's matches of states need.

The losses are those of TinyBERT's second and third stage in one (`nerdistill.recipes.tinybert`), attention left out: TextBrewer is given
what the library returns, probabilities over pieces, where ours are scores between words, so the two would not learn the same thing.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from nerdistill.corpus.encoded import EncodedCorpus, Encoder, Targets
from nerdistill.corpus.splits import evenly
from nerdistill.errors import ConfigError, DataError
from nerdistill.losses.base import LOSSES, LossTerm, Widths
from nerdistill.recipes.base import Pair, plan_recipe
from nerdistill.records import Sentence
from nerdistill.steps.build import student_encoder
from nerdistill.steps.context import Context
from nerdistill.steps.teach import Taught, open_teacher
from nerdistill.students.base import Student
from nerdistill.students.transformer import Transformer, TransformerOptions
from nerdistill.students.vocabulary import Vocabulary, count_pieces, prune, tokenizer_characters
from nerdistill.teachers.annotate import Annotator
from nerdistill.teachers.as_transformer import as_transformer
from nerdistill.teachers.huggingface import Pieces, TeacherModel, load_pieces
from nerdistill.training.stage import Term

TEMPERATURE = 2.0
STATES_WIDTH = 128
"""Dimensions that stored states are reduced to where the configuration keeps none."""


@dataclass(frozen=True)
class Ground:
    """See the module's docstring.

    Attributes:
        context: The run.
        sentences: Text that teacher and student each read whole.
        teacher: Reads them, in the precision that the configuration asks for; keeps the states that the losses need.
        vocabulary: The student's.
        encoder: How the student reads.
        network: The student as TextBrewer trains it, a token classifier of the library.
        terms: The loss, by names.
        layers: Pairs of a student's state and the teacher layer that it learns, 0 for the embeddings.
    """

    context: Context
    sentences: Sequence[Sentence]
    teacher: Annotator
    vocabulary: Vocabulary
    encoder: Encoder
    network: TeacherModel
    terms: tuple[Term, ...]
    layers: tuple[tuple[int, int], ...]

    def make_student(self) -> Transformer:
        """The student as we train it: a new copy, with its first weights."""
        return as_transformer(self.network)

    def make_network(self) -> TeacherModel:
        """The student as TextBrewer trains it: a new copy, with its first weights."""
        return copy.deepcopy(self.network)

    def teacher_in(self, precision: str) -> Annotator:
        """The same teacher, computing in ``float32`` or ``bfloat16``."""
        return replace(self.teacher, model=TeacherModel(self.teacher.model.network, self.teacher.model.tags, precision))

    def text(self, encoder: Encoder | None = None, targets: Targets | None = None) -> EncodedCorpus:
        """The sentences, encoded for the student or as another encoder reads."""
        return EncodedCorpus(self.sentences, encoder or self.encoder, targets=targets)

    def teacher_pieces(self) -> npt.NDArray[np.int64]:
        """Pieces of each sentence, begin and end included; ``[S]``."""
        return self.text(self.teacher.encoder).costs

    def live_widths(self, student: Student) -> Widths:
        """What terms must fit where the teacher reads along; its attention is not heard."""
        model = self.teacher.model
        layers = tuple(range(model.n_layers + 1))
        return Widths(student.state_widths, model.width, layers, student.heads)

    def stored_widths(self, student: Student) -> Widths:
        """What terms must fit where its signals are stored."""
        return Widths(student.state_widths, self.teacher.width, self.teacher.layers, student.heads)


def lay_ground(context: Context, taught: Taught, n_sentences: int) -> Ground:
    """Choose the text and make the student.

    Args:
        context: The run.
        taught: Its teacher.
        n_sentences: Of the transfer text, evenly; those that teacher or student could not read whole are left out.

    Raises:
        DataError: There is no such text.
        ConfigError: The teacher's tokenizer is of a kind that cannot be cut, or a student with its pieces cuts words otherwise.
    """
    sample = evenly(context.data.transfer, n_sentences)
    if not sample:
        raise DataError("there is no transfer text: name some under [[data.transfer]], or set data.swap.copies")
    teacher = open_teacher(context, taught)
    model = teacher.model
    options = TransformerOptions(layers=min(TransformerOptions().layers, model.n_layers))
    vocabulary = _vocabulary(load_pieces(taught.model), sample, context.config.student.pieces)
    network = _thin_bert(options, len(vocabulary.teacher_ids), context.data.scheme.tags, context.config.seed)
    student = as_transformer(network)
    encoder = student_encoder(student, vocabulary)
    sentences = _read_whole(sample, teacher.encoder, encoder)
    pair = Pair(tuple(group.name for group in student.groups()), options.layers, model.n_layers)
    stages = {stage.name: stage for stage in plan_recipe("tinybert", {"attention": False}, pair)}
    states = stages["intermediate"].terms
    layers = tuple((term.options["state"], term.options["layer"]) for term in states)
    terms = (Term(loss="soft_tags", options={"temperature": TEMPERATURE}), *states)
    kept = min(context.config.signals.width or STATES_WIDTH, model.width)
    teacher = replace(teacher, layers=tuple(layer for _, layer in layers), width=kept)
    return Ground(context, sentences, teacher, vocabulary, encoder, network, terms, layers)


def build_terms(terms: Sequence[Term], widths: Widths) -> list[tuple[LossTerm, float]]:
    """Loss terms with their weights; the projections in them begin alike whenever they are built."""
    kinds = [LOSSES.get(term.loss) for term in terms]
    return [(kind.build(kind.options.model_validate(term.options), widths), term.weight) for kind, term in zip(kinds, terms, strict=True)]


def _vocabulary(pieces: Pieces, sentences: Sequence[Sentence], budget: int) -> Vocabulary:
    """Every piece that the text uses, filled up to the budget with others."""
    words: Counter[str] = Counter(word for sentence in sentences for word in sentence.words)
    characters = {character for word in words for character in tokenizer_characters(pieces.tokenizer, word)}
    # A character is up to three pieces: at the start of a word, inside it, and with a mark that says which.
    least = 4 + 3 * (1 + len(characters)) + len(count_pieces(pieces.tokenizer, words))
    return prune(pieces.tokenizer, pieces.unk_id, pieces.pad_id, words, max(budget, least), (pieces.bos_id, pieces.eos_id))


def _read_whole(sentences: Sequence[Sentence], *encoders: Encoder) -> list[Sentence]:
    """The sentences that no encoder has to cut in parts."""
    read = [[encoder.costs(encoder.table.rows(sentence.words)) for sentence in sentences] for encoder in encoders]
    for sentence, mine, theirs in zip(sentences, *read, strict=True):
        if not np.array_equal(mine, theirs):
            raise ConfigError(
                f"the student's tokenizer cuts '{' '.join(sentence.words)}' into {mine.sum()} pieces, the teacher's into {theirs.sum()}: "
                "TextBrewer cannot match their states; take a teacher with a Unigram or WordPiece tokenizer"
            )
    limit = min(encoder.limit for encoder in encoders)
    whole = [sentence for sentence, costs in zip(sentences, read[0], strict=True) if 0 < costs.sum() <= limit]
    if not whole:
        raise DataError(
            f"all {len(sentences)} sentences of the sample have over {limit} pieces, which teacher and student do not read whole"
        )
    return whole


def _thin_bert(options: TransformerOptions, n_pieces: int, tags: tuple[str, ...], seed: int) -> TeacherModel:
    """A BERT of the student's shape with random weights; without dropout in its attention, which ours has not either."""
    from transformers import BertConfig, BertForTokenClassification

    config = BertConfig(
        vocab_size=n_pieces, hidden_size=options.width, num_hidden_layers=options.layers, num_attention_heads=options.heads,
        intermediate_size=options.ffn, max_position_embeddings=options.positions, hidden_act=options.activation, pad_token_id=0,
        hidden_dropout_prob=options.dropout, attention_probs_dropout_prob=0.0,
        id2label=dict(enumerate(tags)), label2id={tag: number for number, tag in enumerate(tags)},
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TeacherModel(BertForTokenClassification(config), tags, "float32")
