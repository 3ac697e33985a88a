"""A random BERT of two layers over the conftest tokenizer, as a checkpoint on disk. Shared by the tests of this folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer

from nerdistill.labels import LabelScheme
from nerdistill.records import Sentence

SCHEME = LabelScheme(("PER", "LOC"))
LAYERS, WIDTH, POSITIONS = 2, 16, 40
WORDS = ["Anna", "Schmidt", "besucht", "Berlin", ".", "محمد", "القاهرة", "东", "京", "राम", "gagné", "internationally"]


def save_checkpoint(folder: Path, tokenizer: Tokenizer, tags: Sequence[str] | None = SCHEME.tags, seed: int = 0) -> Path:
    """Write one, with a head for these tags, or without any."""
    torch.manual_seed(seed)
    labels: dict[str, Any] = {} if tags is None else {"id2label": dict(enumerate(tags)), "label2id": {tag: n for n, tag in enumerate(tags)}}
    config = transformers.BertConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=POSITIONS, pad_token_id=1, initializer_range=0.6, hidden_dropout_prob=0.3, **labels,
    )  # fmt: skip
    network: Any = transformers.BertModel if tags is None else transformers.BertForTokenClassification
    network(config).save_pretrained(folder)
    save_tokenizer(folder, tokenizer)
    return folder


def save_tokenizer(folder: Path, tokenizer: Tokenizer, **other: Any) -> None:
    """Write the tokenizer as transformers reads it."""
    special = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "model_max_length": POSITIONS, **other}
    fast: Any = transformers.PreTrainedTokenizerFast
    fast(tokenizer_object=Tokenizer.from_str(tokenizer.to_str()), **special).save_pretrained(folder)


def text(lengths: Sequence[int]) -> list[Sentence]:
    """Sentences of these lengths."""
    return [
        Sentence(tuple(WORDS[(at * 5 + number) % len(WORDS)] for at in range(length)), None, "de") for number, length in enumerate(lengths)
    ]


def save_masked_lm(folder: Path, tokenizer: Tokenizer, seed: int = 0, **other: Any) -> Path:
    """Write a masked language model of the same shape, with a piece for masks; RoBERTa's head where `other` says ``family="Roberta"``."""
    torch.manual_seed(seed)
    family = other.pop("family", "Bert")
    shape = {
        "vocab_size": tokenizer.get_vocab_size() + 1, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 2,
        "intermediate_size": 24, "max_position_embeddings": 132, "pad_token_id": 1, "type_vocab_size": 2, "initializer_range": 0.3,
    }  # fmt: skip
    network = getattr(transformers, f"{family}ForMaskedLM")(getattr(transformers, f"{family}Config")(**shape | other))
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim == 1:
                weight += 0.3 * torch.randn_like(weight)
    network.save_pretrained(folder)
    save_tokenizer(folder, tokenizer, mask_token="<mask>")
    return folder
