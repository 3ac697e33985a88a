"""What every student is, and how one is added.

A student is one file in this folder: an options model, a `torch.nn.Module` that follows `Student`, and one line that registers both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from nerdistill.errors import ConfigError, faults_of
from nerdistill.registry import Registry

if TYPE_CHECKING:
    import onnx


class Options(BaseModel):
    """Base of the options of a part: frozen, unknown keys and infinite numbers refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class ModelOutput:
    """What a teacher or student says of a batch.

    Attributes:
        logits: ``[B, W, K]``.
        hidden: States of each word, input side first, each ``[B, W, H]``; a student's last one is what its head reads.
        attention: Raw scores ``Q K^T / sqrt(d_k)`` of each layer between the first pieces of words, ``[B, A, W, W]``; only where asked for.
        pieces: Scores of every piece for standing at each word's first, ``[B, W, V]``; only where asked for.
    """

    logits: Tensor
    hidden: tuple[Tensor, ...]
    attention: tuple[Tensor, ...] = ()
    pieces: Tensor | None = None

    @property
    def asked_pieces(self) -> Tensor:
        """`pieces`, for those who asked."""
        if self.pieces is None:
            raise ValueError("scores of pieces are read and were not asked for; see nerdistill.students.parts.piece_head")
        return self.pieces


@dataclass(frozen=True)
class ParamGroup:
    """A named part of a student's weights that is frozen or trained as one."""

    name: str
    module: nn.Module


class Student(nn.Module, ABC):
    """A network that tags words.

    Attributes:
        inputs: ``words`` if it takes what `nerdistill.text.collate.collate_words` makes, ``pieces`` for `collate_pieces`.
        state_widths: Width of each state in `ModelOutput.hidden`.
        limit: Most words, or pieces without begin and end, that it reads at once; None for any number.
        heads: Attention heads of a layer; 0 for a student without attention.
        with_attention: Set by whoever wants `ModelOutput.attention` of a student that has it.
    """

    inputs: ClassVar[Literal["words", "pieces"]]
    state_widths: tuple[int, ...]
    limit: int | None = None
    heads: int = 0
    with_attention: bool = False

    @abstractmethod
    def forward(self, batch: Mapping[str, Tensor]) -> ModelOutput:
        """Tag a batch; ``lengths`` ``[B]`` says how many of W words are real. Padding never changes the result of real words."""

    @abstractmethod
    def groups(self) -> tuple[ParamGroup, ...]:
        """All weights, each in one group, from the head down to the embeddings: the order of gradual unfreezing."""

    def folded(self) -> Student:
        """The same network with a piece table as wide as its vectors, to be served; a student whose table is read as it is gives itself."""
        return self

    @abstractmethod
    def to_onnx(self) -> onnx.ModelProto:
        """The network for serving: the arrays of the collate function in, ``logits`` ``[B, W, K]`` out, no dropout."""


@dataclass(frozen=True)
class Shape:
    """What a student must fit.

    Attributes:
        n_pieces: Size of its vocabulary; piece 0 is padding, piece 1 unknown.
        n_tags: K.
    """

    n_pieces: int
    n_tags: int


@dataclass(frozen=True)
class StudentKind:
    """A registered student: its options, how to build it, and what to call it.

    Attributes:
        options: Options model.
        build: From options, shape and an initial embedding table ``[n_pieces, width]`` (None: random).
        embedding_width: The width that the table must have.
        summary: One line for listings.
    """

    options: type[Options]
    build: Callable[[Any, Shape, Tensor | None], Student]
    embedding_width: Callable[[Any], int]
    summary: str


STUDENTS: Registry[StudentKind] = Registry("student", "nerdistill.students")


def count_parameters(model: nn.Module) -> int:
    """Number of weights, embeddings included."""
    return sum(parameter.numel() for parameter in model.parameters())


def student_options(kind: str, options: Mapping[str, Any]) -> Options:
    """The options of a registered student, checked.

    Raises:
        ConfigError: There is no such kind, or the options are wrong.
    """
    try:
        return STUDENTS.get(kind).options.model_validate(dict(options))
    except ValidationError as error:
        raise ConfigError(f"student '{kind}': {'; '.join(faults_of(error, 'student.options'))}") from error


def build_student(kind: str, options: Mapping[str, Any], shape: Shape, embeddings: Tensor | None, seed: int) -> Student:
    """Build a registered student with weights that depend on nothing but the arguments.

    Raises:
        ConfigError: There is no such kind, or the options are wrong.
    """
    checked = student_options(kind, options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return STUDENTS.get(kind).build(checked, shape, embeddings)
