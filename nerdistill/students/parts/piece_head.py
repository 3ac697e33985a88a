"""The head of a masked language model, for stages that learn what stands at a word; it leaves with its stage."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nerdistill.errors import ConfigError
from nerdistill.students.base import ModelOutput, Student
from nerdistill.students.parts.piece_table import PieceTable
from nerdistill.students.parts.positioned import INITIAL_DEVIATION
from nerdistill.students.parts.transformer_layer import NORM_EPSILON


class PieceHead(nn.Module):
    """From a state to a score for every piece (Devlin et al. 2019): a dense layer, GELU, normalisation, and the vectors of the pieces.

    The last product is with the student's own embeddings, as in BERT: they learn from what is read and from what is asked for.

    First scores have a deviation of about 1, however long the vectors are: otherwise a table of unit variance would begin with certainties.

    Args:
        width: Of the states.
        vectors: Of the pieces as they are at first, ``[V, vector_width]``.
    """

    def __init__(self, width: int, vectors: Tensor) -> None:
        super().__init__()
        n_pieces, vector_width = vectors.shape
        self.dense = nn.Linear(width, vector_width)
        self.norm = nn.LayerNorm(vector_width, eps=NORM_EPSILON)
        self.bias = nn.Parameter(torch.zeros(n_pieces))
        nn.init.normal_(self.dense.weight, std=INITIAL_DEVIATION)
        nn.init.zeros_(self.dense.bias)
        nn.init.constant_(self.norm.weight, 1 / float(vectors.detach().norm(dim=1).mean()))

    def forward(self, states: Tensor, vectors: Tensor) -> Tensor:
        """``[..., width]`` and the pieces' vectors ``[V, vector_width]`` to ``[..., V]``."""
        made: Tensor = self.norm(nn.functional.gelu(self.dense(states))) @ vectors.T + self.bias
        return made


class WithPieces(nn.Module):
    """A student whose output has ``pieces``, read off its last state.

    Args:
        student: The student.
        head: Fits its last state and its embeddings.
    """

    def __init__(self, student: Student, head: PieceHead) -> None:
        super().__init__()
        self.student = student
        self.head = head

    def forward(self, batch: Mapping[str, Tensor]) -> ModelOutput:
        """As the student's."""
        output: ModelOutput = self.student(batch)
        return dataclasses.replace(output, pieces=self.head(output.hidden[-1], piece_vectors(self.student)))


def piece_vectors(student: Student) -> Tensor:
    """The vectors of all pieces of a student, ``[V, vector_width]``.

    Raises:
        ConfigError: Its embeddings are no table of pieces.
    """
    embeddings = student.groups()[-1].module
    if not isinstance(embeddings, PieceTable):
        raise ConfigError("losses over pieces need a student whose embeddings are a table of pieces, such as student.kind = 'transformer'")
    return embeddings.all_vectors(torch.arange(embeddings.table.num_embeddings, device=embeddings.table.weight.device))


def make_piece_head(student: Student) -> PieceHead:
    """A head that fits a student; its first weights depend on nothing else, so a continued run equals a whole one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return PieceHead(student.state_widths[-1], piece_vectors(student))
