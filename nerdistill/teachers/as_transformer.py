"""A BERT or RoBERTa teacher as the project's own Transformer, weight for weight.

The networks are the same (Devlin et al. 2019), so whatever is written for the student's, such as its ONNX graph, serves a teacher too,
and a student can begin with layers of a teacher.

Two things are folded away: the vector of token type 0, which all pieces of one text share, is added to each position's; and RoBERTa's
positions, which begin behind the number of its padding piece, begin at 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from nerdistill.errors import ConfigError
from nerdistill.students.base import Options, Shape, Student
from nerdistill.students.parts.piece_head import PieceHead
from nerdistill.students.parts.piece_table import PAD
from nerdistill.students.parts.positioned import PositionedEmbedding
from nerdistill.students.parts.transformer_layer import TransformerLayer
from nerdistill.students.transformer import Transformer, TransformerOptions
from nerdistill.teachers.huggingface import TeacherModel

_ARCHITECTURES = ("bert", "roberta", "xlm-roberta")
_ACTIVATIONS = ("gelu", "relu")


def as_transformer(teacher: TeacherModel) -> Transformer:
    """The same network on the CPU, in evaluation mode, with weights of its own; logits in the order of the teacher's tags.

    Raises:
        ConfigError: The teacher is of another architecture, or its feed-forward networks have another activation.
    """
    config: Any = teacher.network.config
    _check_kind(config, 'signals.engine = "torch" reads with any teacher')
    encoder: Any = teacher.network.base_model
    options = TransformerOptions(
        layers=teacher.n_layers,
        width=teacher.width,
        heads=teacher.heads,
        ffn=config.intermediate_size,
        positions=len(_positions(teacher)),
        dropout=config.hidden_dropout_prob,
        activation=config.hidden_act,
    )
    table = teacher.word_embeddings.weight.detach().cpu()
    made = Transformer(options, Shape(len(table), len(teacher.tags)), table)
    take_embeddings(made.embeddings, teacher, range(len(table)))
    for target, layer in zip(made.layers, encoder.encoder.layer, strict=True):
        if isinstance(target, TransformerLayer):
            take_layer(target, layer)
    head: Any = teacher.network.classifier
    _take(made.head, head)
    return made.eval()


def spread(mine: int, theirs: int) -> tuple[int, ...]:
    """As many layers of a teacher, from 1, as a student has, evenly from the first to the last; the first for a student of one.

    For 6 of 12 these are DistilBERT's: 1, 3, 5, 8, 10 and 12.
    """
    if mine == 1:
        return (1,)
    return tuple(1 + (2 * m * (theirs - 1) + mine - 1) // (2 * (mine - 1)) for m in range(mine))


def check_layers(kind: str, options: Options, config: Any, chosen: Sequence[int]) -> tuple[int, ...]:
    """Which layers of a teacher a student can begin with.

    Args:
        kind: Of the student.
        options: Of the student.
        config: The teacher's, as transformers reads it.
        chosen: The layers that are asked for, from 1; none for `spread`.

    Raises:
        ConfigError: Student or teacher is of another kind, their layers differ, or there are no such layers.
    """
    if not isinstance(options, TransformerOptions):
        raise ConfigError(
            f"student.layers_from gives a student layers of the teacher, which one of kind '{kind}' has not; take student.kind = "
            "'transformer', or leave layers_from out"
        )
    _check_kind(config, "leave student.layers_from out")
    mine = {"width": options.width, "heads": options.heads, "ffn": options.ffn, "activation": options.activation}
    theirs = {
        "width": config.hidden_size,
        "heads": config.num_attention_heads,
        "ffn": config.intermediate_size,
        "activation": config.hidden_act,
    }
    if mine != theirs:
        wrong = ", ".join(f"{key} = {mine[key]!r} (expected {theirs[key]!r})" for key in mine if mine[key] != theirs[key])
        raise ConfigError(f"student.layers_from takes the teacher's layers whole, so student.options must have their shape: found {wrong}")
    if options.positions > (there := config.max_position_embeddings - _first_position(config)):
        raise ConfigError(
            f"student.options.positions = {options.positions}: the teacher has {there} positions to be taken; give at most these"
        )
    depth = config.num_hidden_layers
    if options.layers > depth and not chosen:
        raise ConfigError(
            f"student.options.layers = {options.layers}: the teacher has {depth}; give at most these, or say in student.taken_layers which "
            "are taken twice"
        )
    layers = tuple(chosen) or spread(options.layers, depth)
    if len(layers) != options.layers or max(layers) > depth or min(layers) < 1:
        raise ConfigError(
            f"student.taken_layers = {list(layers)}: expected {options.layers} layers, one for each of the student's, from 1 to {depth}"
        )
    return layers


def begin_with(student: Student, teacher: TeacherModel, layers: Sequence[int], rows: Sequence[int] | None, head: bool) -> None:
    """Give a student first weights of a teacher; see `check_layers` for what fits.

    Args:
        student: Of kind ``transformer``.
        teacher: Of the same shape but for its depth.
        layers: The teacher's layers, from 1.
        rows: The teacher's ids of the student's pieces, to take the embeddings too; None leaves them as they are.
        head: Take its classifier, whose tags are the student's.
    """
    encoder: Any = teacher.network.base_model
    if not isinstance(student, Transformer):
        raise TypeError("only a Transformer begins with layers of a teacher")
    for target, number in zip(student.layers, layers, strict=True):
        if isinstance(target, TransformerLayer):
            take_layer(target, encoder.encoder.layer[number - 1])
    if rows is not None:
        take_embeddings(student.embeddings, teacher, rows)
        with torch.no_grad():
            student.embeddings.table.weight[PAD] = 0.0
    if head:
        classifier: Any = teacher.network.classifier
        _take(student.head, classifier)


def take_embeddings(target: PositionedEmbedding, teacher: TeacherModel, rows: Sequence[int]) -> None:
    """Give embeddings the teacher's: its rows for the pieces, its first positions, its normalisation.

    A narrower table stays as it is, and the map behind it becomes the one that comes nearest to the teacher's rows, in the sense of least
    squares; the constant that such a map lacks goes to the positions. Of a table reduced by PCA, this undoes the reduction. A DeFINE unit
    has no such solution: it stays as it is, and so does everything else.

    Args:
        target: As wide as the teacher.
        teacher: A BERT or RoBERTa network.
        rows: The teacher's id of each piece.
    """
    if target.define is not None:
        return
    wanted = teacher.word_embeddings.weight.detach().cpu()[torch.tensor(list(rows))]
    positions = _positions(teacher)[: target.positions.num_embeddings]
    encoder: Any = teacher.network.base_model
    with torch.no_grad():
        if target.widen is None:
            target.table.weight.copy_(wanted)
        else:
            known = torch.cat([target.table.weight, torch.ones(len(wanted), 1)], dim=1)[1:].double()  # but padding, which is 0 and stays it
            fitted = torch.linalg.lstsq(known, wanted[1:].double()).solution.float()
            target.widen.weight.copy_(fitted[:-1].T)
            positions = positions + fitted[-1]
        target.positions.weight.copy_(positions)
    _take(target.norm, encoder.embeddings.LayerNorm)


def take_layer(target: TransformerLayer, layer: Any) -> None:
    """Give a layer the weights of a BERT or RoBERTa layer of the same shape, and the constants of its normalisations."""
    attention = layer.attention.self
    parts = [part.state_dict() for part in (attention.query, attention.key, attention.value)]
    target.attention.query_key_value.load_state_dict({name: torch.cat([part[name] for part in parts]) for name in parts[0]})
    _take(target.attention.output, layer.attention.output.dense)
    _take(target.attention_norm, layer.attention.output.LayerNorm)
    _take(target.inner, layer.intermediate.dense)
    _take(target.outer, layer.output.dense)
    _take(target.outer_norm, layer.output.LayerNorm)


def take_piece_head(target: PieceHead, network: Any, bias: torch.Tensor) -> bool:
    """Give a head the weights of a BERT or RoBERTa masked language model's, if they are of its shape; whether they were.

    Args:
        target: The student's.
        network: The masked language model.
        bias: Its bias for each of the student's pieces.
    """
    found = [getattr(network, name, None) for name in ("cls", "lm_head")]
    if found[0] is not None:
        parts = found[0].predictions.transform
        dense, norm = parts.dense, parts.LayerNorm
    elif found[1] is not None:
        dense, norm = found[1].dense, found[1].layer_norm
    else:
        return False
    if dense.weight.shape != target.dense.weight.shape or network.config.hidden_act != "gelu":
        return False
    _take(target.dense, dense)
    _take(target.norm, norm)
    with torch.no_grad():
        target.bias.copy_(bias)
    return True


def _check_kind(config: Any, remedy: str) -> None:
    for what, key, known in (("architecture", "model_type", _ARCHITECTURES), ("activation", "hidden_act", _ACTIVATIONS)):
        if (found := getattr(config, key, None)) not in known:
            raise ConfigError(
                f"the teacher's {what} is '{found}', expected one of {list(known)}: its weights cannot be taken over; {remedy}"
            )


def _first_position(config: Any) -> int:
    """Of RoBERTa's, the first that a piece has."""
    return 0 if config.model_type == "bert" else int(config.pad_token_id) + 1


def _positions(teacher: TeacherModel) -> torch.Tensor:
    """``[positions, d]``, with the vector of token type 0 in each."""
    config: Any = teacher.network.config
    encoder: Any = teacher.network.base_model
    embeddings = encoder.embeddings
    places: torch.Tensor = embeddings.position_embeddings.weight[_first_position(config) :] + embeddings.token_type_embeddings.weight[0]
    return places.detach().cpu()


def _take(target: nn.Module, source: nn.Module) -> None:
    target.load_state_dict(source.state_dict())
    if isinstance(target, nn.LayerNorm) and isinstance(source, nn.LayerNorm):
        target.eps = source.eps
