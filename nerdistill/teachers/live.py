"""A teacher that reads along with the student, batch by batch: for what is too big to store, every layer and every attention map.

A hidden layer of 13 and twelve maps a layer would take a hundred times the space of the text's logits (see `store`), so recipes that
learn from them run the teacher in the step, on less text. The teacher is frozen, in evaluation mode, without gradient. It may be a student
that is done, an assistant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nerdistill.corpus.encoded import EncodedCorpus, Encoder, Targets
from nerdistill.records import Sentence
from nerdistill.students.base import ModelOutput, Student
from nerdistill.teachers.annotate import Annotator
from nerdistill.teachers.reconcile import merge_logits


@dataclass(frozen=True)
class Reader:
    """A network that reads along.

    Attributes:
        encoder: How it reads words.
        read: From its arrays to what it says, with logits ``[B, W, K]`` over the data's tags.
        device: Where it is.
        layers: Numbers of its states that are heard, 0 for the embeddings; all are equally wide.
        width: Of these.
        heads: Attention heads of a layer; 0 where attention is not heard.
    """

    encoder: Encoder
    read: Callable[[Mapping[str, Tensor]], ModelOutput]
    device: torch.device
    layers: tuple[int, ...]
    width: int
    heads: int


def teacher_reader(annotator: Annotator, with_attention: bool) -> Reader:
    """A teacher with the states of all its layers.

    Args:
        annotator: The teacher.
        with_attention: Hear its attention too, which takes a third as long again.
    """
    model = annotator.model

    def read(batch: Mapping[str, Tensor]) -> ModelOutput:
        output = model(batch, with_attention=with_attention)
        return ModelOutput(merge_logits(output.logits, annotator.targets, len(annotator.scheme.tags)), output.hidden, output.attention)

    layers, heads = tuple(range(model.n_layers + 1)), model.heads if with_attention else 0
    return Reader(annotator.encoder, read, annotator.device, layers, model.width, heads)


def heard_layers(student: Student) -> tuple[int, ...]:
    """Of a student that reads along, the states that are as wide as the one that its head reads, by number."""
    return tuple(number for number, width in enumerate(student.state_widths) if width == student.state_widths[-1])


def student_reader(student: Student, encoder: Encoder, device: torch.device, precision: str, with_attention: bool) -> Reader:
    """A finished student, which is frozen, with its `heard_layers`.

    Args:
        student: The network.
        encoder: How it reads words.
        device: Where it is put.
        precision: ``bfloat16`` runs it under autocast; ``float32`` does not.
        with_attention: Hear its attention too, if it has any.
    """
    student.eval().requires_grad_(False).to(device)
    heads = student.heads if with_attention else 0
    student.with_attention = bool(heads)

    def read(batch: Mapping[str, Tensor]) -> ModelOutput:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            output: ModelOutput = student(batch)
        return output

    return Reader(encoder, read, device, heard_layers(student), student.state_widths[-1], heads)


def read_along(reader: Reader, text: EncodedCorpus, sentences: Sequence[Sentence]) -> EncodedCorpus:
    """The student's text with a teacher reading each batch.

    Its batches have ``teacher_logits`` ``[B, W, K]`` over the data's tags, ``teacher_hidden`` ``[B, W, L, d]`` of the layers that are heard
    and, where attention is heard, ``teacher_attention`` ``[B, M, A, W, W]``, raw scores of all M attention layers between the first pieces
    of words; float32. Batches are measured in what the teacher reads, which is what costs.

    Args:
        reader: The teacher.
        text: Encoded for the student. If it has targets, their logits stay, and the reader says the rest; sentences that lack them learn
            nothing of either.
        sentences: The same text.
    """
    both, rows = text.read_by(reader.encoder, sentences)
    stored = text.targets is not None
    both.targets = Targets(text.targets.logits) if text.targets is not None else None
    both.lacks = {name: lacking for name, lacking in text.lacks.items() if stored or name != "without_signals"}

    def read(ranges: npt.NDArray[np.int64]) -> dict[str, Tensor]:
        arrays = reader.encoder.collate([rows[start:stop] for start, stop in ranges])
        with torch.no_grad():
            output = reader.read({name: torch.from_numpy(array).to(reader.device) for name, array in arrays.items()})
        said = {"teacher_hidden": torch.stack([output.hidden[layer].float() for layer in reader.layers], dim=2)}
        if not stored:
            said["teacher_logits"] = output.logits
        if reader.heads:
            said["teacher_attention"] = torch.stack(output.attention, dim=1)
        return said

    both.reader = read
    return both
