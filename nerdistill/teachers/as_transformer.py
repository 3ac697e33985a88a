"""A BERT or RoBERTa teacher as the project's own Transformer, weight for weight.

The networks are the same (Devlin et al. 2019), so whatever is written for the student's, such as its ONNX graph, serves a teacher too,
and a student can begin with layers of a teacher.

Two things are folded away: the vector of token type 0, which all pieces of one text share, is added to each position's; and RoBERTa's
positions, which begin behind the number of its padding piece, begin at 0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from nerdistill.errors import ConfigError
from nerdistill.students.base import Shape
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
    for what, key, known in (("architecture", "model_type", _ARCHITECTURES), ("activation", "hidden_act", _ACTIVATIONS)):
        if (found := getattr(config, key)) not in known:
            raise ConfigError(
                f"the teacher's {what} is '{found}', expected one of {list(known)}: its weights cannot be taken over; "
                'signals.engine = "torch" reads with any teacher'
            )
    encoder: Any = teacher.network.base_model
    embeddings = encoder.embeddings
    first = 0 if config.model_type == "bert" else config.pad_token_id + 1
    positions = embeddings.position_embeddings.weight[first:] + embeddings.token_type_embeddings.weight[0]
    options = TransformerOptions(
        layers=teacher.n_layers,
        width=teacher.width,
        heads=teacher.heads,
        ffn=config.intermediate_size,
        positions=len(positions),
        dropout=config.hidden_dropout_prob,
        activation=config.hidden_act,
    )
    table = teacher.word_embeddings.weight.detach().cpu()
    made = Transformer(options, Shape(len(table), len(teacher.tags)), table)
    with torch.no_grad():
        made.embeddings.table.weight.copy_(table)  # again: a student's row 0 is padding and was set to zero, a teacher's may be any piece
        made.embeddings.positions.weight.copy_(positions)
    _take(made.embeddings.norm, embeddings.LayerNorm)
    for target, layer in zip(made.layers, encoder.encoder.layer, strict=True):
        if isinstance(target, TransformerLayer):
            take_layer(target, layer)
    head: Any = teacher.network.classifier
    _take(made.head, head)
    return made.eval()


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


def _take(target: nn.Module, source: nn.Module) -> None:
    target.load_state_dict(source.state_dict())
    if isinstance(target, nn.LayerNorm) and isinstance(source, nn.LayerNorm):
        target.eps = source.eps
