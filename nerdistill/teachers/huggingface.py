"""Hugging Face encoders as teachers. The only folder that imports transformers is this one."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from nerdistill.corpus.encoded import Encoder
from nerdistill.errors import ConfigError, DataError
from nerdistill.students.base import ModelOutput
from nerdistill.teachers.bundled import PREFIX, resolve_bundled
from nerdistill.text.encoder import WordTable

_QUERY_KEY = (("query", "key"), ("q_lin", "k_lin"), ("q_proj", "k_proj"))
"""What networks call the two linear layers; BERT and its family, DistilBERT, and most others."""


@dataclass(frozen=True)
class Pieces:
    """A teacher's tokenizer and its technical pieces.

    Attributes:
        tokenizer: Words to pieces.
        bos_id: Piece before a sentence.
        eos_id: Piece after it.
        pad_id: Padding.
        unk_id: Unknown.
        limit: Most pieces that the model reads at once, without begin and end.
    """

    tokenizer: Tokenizer
    bos_id: int
    eos_id: int
    pad_id: int
    unk_id: int
    limit: int

    def encoder(self, limit: int) -> Encoder:
        """Reads words for this teacher, at most `limit` pieces at once."""
        table = WordTable(self.tokenizer, self.unk_id, self.pad_id)
        return Encoder(table, self.bos_id, self.eos_id, min(limit, self.limit))


class TeacherModel(nn.Module):
    """A Hugging Face token classifier over words: each word is read at its first piece.

    Args:
        network: From ``AutoModelForTokenClassification``.
        tags: Its tags in the order of its logits.
        precision: ``bfloat16`` runs it under autocast; ``float32`` does not.
    """

    def __init__(self, network: nn.Module, tags: tuple[str, ...], precision: str) -> None:
        super().__init__()
        self.network = network
        self.tags = tags
        self.precision = precision

    @property
    def word_embeddings(self) -> nn.Embedding:
        """The table of pieces, ``[V, d]``."""
        table: nn.Embedding = self.network.get_input_embeddings()  # type: ignore[operator]
        return table

    @property
    def n_layers(self) -> int:
        """Transformer layers."""
        return int(self.network.config.num_hidden_layers)  # type: ignore[union-attr, arg-type]

    @property
    def width(self) -> int:
        """Of the states, d."""
        return int(self.network.config.hidden_size)  # type: ignore[union-attr, arg-type]

    @property
    def heads(self) -> int:
        """Attention heads of a layer."""
        return int(self.network.config.num_attention_heads)  # type: ignore[union-attr, arg-type]

    def forward(self, batch: Mapping[str, Tensor], with_attention: bool = False) -> ModelOutput:
        """Tag a batch of `collate_pieces` arrays; ``hidden`` has every layer, embeddings first, at first pieces.

        Args:
            batch: The arrays.
            with_attention: Also give the attention scores.

        Raises:
            ConfigError: Scores are asked for and the network's attention has no query and key of its own.
        """
        device = batch["input_ids"].device.type
        with (
            _listen(self.network, with_attention) as heard,
            torch.autocast(device, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"),
        ):
            output = self.network(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], output_hidden_states=not self.training
            )
        first = batch["first_piece"][..., None]

        def at_words(states: Tensor) -> Tensor:
            return states.gather(1, first.expand(-1, -1, states.shape[-1]))

        hidden = () if self.training else tuple(at_words(states) for states in output.hidden_states)
        scores = tuple(_scores(at_words(query), at_words(key), self.heads) for query, key in heard.values())
        return ModelOutput(at_words(output.logits).float(), hidden, scores)


@contextmanager
def _listen(network: nn.Module, wanted: bool) -> Iterator[dict[nn.Module, list[Tensor]]]:
    """Hear query and key of each attention layer, in order, ``[B, S, d]`` each: the library gives only what the softmax makes of them."""
    heard: dict[nn.Module, list[Tensor]] = {}
    if not wanted:
        yield heard
        return
    handles = []
    for module in network.modules():
        for names in _QUERY_KEY:
            parts = [getattr(module, name, None) for name in names]
            if all(isinstance(part, nn.Linear) for part in parts):
                heard[module] = [torch.empty(0)] * 2
                handles += [
                    part.register_forward_hook(lambda _, __, made, owner=module, at=at: heard[owner].__setitem__(at, made))
                    for at, part in enumerate(parts)
                    if part is not None
                ]
    if not heard:
        raise ConfigError("this teacher's attention has no layers called query and key; losses over attention cannot read it")
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def _scores(query: Tensor, key: Tensor, heads: int) -> Tensor:
    """``[B, A, W, W]`` from ``[B, W, d]`` each."""
    queries, keys = (part.float().view(*part.shape[:2], heads, -1).transpose(1, 2) for part in (query, key))
    scores: Tensor = queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1])
    return scores


def best_precision(wanted: str, device: torch.device) -> str:
    """Turn ``auto`` into what is fast and safe on a device: bfloat16 where there is hardware for it, float32 elsewhere."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    tests = (getattr(torch.cpu, name, lambda: False) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return "bfloat16" if device.type == "cpu" and any(test() for test in tests) else "float32"


def resolve(model: str) -> str:
    """A model's folder or hub id; bundled backbones are made at first use."""
    return str(resolve_bundled(model.removeprefix(PREFIX))) if model.startswith(PREFIX) else model


def load_pieces(model: str, revision: str | None = None) -> Pieces:
    """The tokenizer of a checkpoint.

    Raises:
        ConfigError: It has no fast tokenizer, or lacks a technical piece.
        DataError: The checkpoint cannot be read.
    """
    from transformers import AutoTokenizer

    fast = _from_pretrained(AutoTokenizer, model, revision)
    if not getattr(fast, "is_fast", False):
        raise ConfigError(f"teacher '{model}': its tokenizer has no fast form (tokenizer.json); save one beside it")
    first = [fast.cls_token_id, fast.bos_token_id]
    last = [fast.sep_token_id, fast.eos_token_id]
    ids = {
        "begin (cls or bos)": next((i for i in first if i is not None), None),
        "end (sep or eos)": next((i for i in last if i is not None), None),
        "pad": fast.pad_token_id,
        "unk": fast.unk_token_id,
    }
    missing = [name for name, number in ids.items() if number is None]
    if missing:
        raise ConfigError(f"teacher '{model}': its tokenizer has no piece for {', '.join(missing)}")
    tokenizer = Tokenizer.from_str(_words_apart(fast.backend_tokenizer.to_str()))
    limit = min(int(fast.model_max_length), 512) - 2
    begin, end, pad, unknown = (int(number) for number in ids.values() if number is not None)
    return Pieces(tokenizer, begin, end, pad, unknown, limit)


def _words_apart(raw: str) -> str:
    """The tokenizer without truncation and padding, and with a space before each word for byte-level models."""
    spec: dict[str, Any] = json.loads(raw)
    spec["truncation"] = spec["padding"] = None
    pre = spec.get("pre_tokenizer") or {}
    for step in [pre, *pre.get("pretokenizers", [])]:
        if step.get("type") == "ByteLevel":
            step["add_prefix_space"] = True
    return json.dumps(spec)


def load_teacher(model: str, tags: tuple[str, ...] | None, precision: str, seed: int, revision: str | None = None) -> TeacherModel:
    """A token classifier, with its own head or a new one.

    Args:
        model: Folder or hub id.
        tags: Tags of a new head; None keeps the checkpoint's own head.
        precision: As in `TeacherModel`.
        seed: Of a new head's weights.
        revision: Of a hub model.

    Raises:
        ConfigError: The checkpoint's own head is asked for and it has none, or its labels have no names.
        DataError: The checkpoint cannot be read.
    """
    from transformers import AutoModelForTokenClassification

    own = checkpoint_tags(model, revision) if tags is None else _head_tags(model, revision)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if tags is None or own == tags:
            if own is None:
                raise ConfigError(f"teacher '{model}': it has no token-classification head; set teacher.fine_tune = true")
            network, names = _from_pretrained(AutoModelForTokenClassification, model, revision, dtype=torch.float32), own
        else:
            labels = {"id2label": dict(enumerate(tags)), "label2id": {tag: number for number, tag in enumerate(tags)}}
            options = {"num_labels": len(tags), "ignore_mismatched_sizes": True, "dtype": torch.float32, **labels}
            network, names = _from_pretrained(AutoModelForTokenClassification, model, revision, **options), tags
            for module in network.children() if own is not None else ():
                if isinstance(module, nn.Linear):  # a head of the same size was taken over, for other tags
                    module.reset_parameters()
    return TeacherModel(network, names, precision)


@dataclass(frozen=True)
class MaskedLM:
    """A masked language model.

    Attributes:
        network: From ``AutoModelForMaskedLM``, float32, in evaluation mode.
        mask_id: Piece that stands for what it is to guess.
    """

    network: nn.Module
    mask_id: int


def load_masked_lm(model: str, wanted_by: str, remedy: str, revision: str | None = None) -> MaskedLM:
    """A checkpoint with the masked language model's head that it was trained with.

    Args:
        model: Folder or hub id.
        wanted_by: What asks for it, for the message where it is none.
        remedy: What to do then.
        revision: Of a hub model.

    Raises:
        ConfigError: Its tokenizer has no piece for masks, or the file lacks weights of the head, which would be made up at random.
        DataError: The checkpoint cannot be read.
    """
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    mask_id = _from_pretrained(AutoTokenizer, model, revision).mask_token_id
    network, loading = _from_pretrained(AutoModelForMaskedLM, model, revision, dtype=torch.float32, output_loading_info=True)
    if mask_id is None or loading["missing_keys"]:
        lacks = "its tokenizer has no mask" if mask_id is None else f"the file lacks {sorted(loading['missing_keys'])[0]}"
        raise no_masked_lm(model, wanted_by, lacks, remedy)
    return MaskedLM(network, int(mask_id))


def no_masked_lm(model: str, wanted_by: str, lacks: str, remedy: str) -> ConfigError:
    """What is said of a checkpoint that was taken for a masked language model."""
    return ConfigError(f"{wanted_by}: '{model}' is no masked language model ({lacks}); {remedy}")


def load_table(model: str, revision: str | None = None) -> Tensor:
    """The table of pieces of a checkpoint, ``[V, d]`` float32, with or without a head on it.

    Raises:
        DataError: The checkpoint cannot be read.
    """
    from transformers import AutoModel

    network = _from_pretrained(AutoModel, model, revision, dtype=torch.float32)
    table: Tensor = network.get_input_embeddings().weight.detach()
    return table


def checkpoint_tags(model: str, revision: str | None = None) -> tuple[str, ...] | None:
    """The tags of a checkpoint's token-classification head in logit order, None if it has no such head.

    Raises:
        ConfigError: The head's labels are only numbered.
        DataError: The checkpoint cannot be read.
    """
    tags = _head_tags(model, revision)
    if tags and any(tag.startswith("LABEL_") for tag in tags):
        raise ConfigError(f"teacher '{model}': its labels are {list(tags)[:3]}..., without names; put id2label into its config.json")
    return tags


def checkpoint_config(model: str, revision: str | None = None) -> Any:
    """A checkpoint's settings as transformers reads them, such as ``num_hidden_layers`` and ``hidden_size``; nothing is fetched.

    Raises:
        DataError: The checkpoint is not on this machine, or cannot be read.
    """
    from transformers import AutoConfig

    return _from_pretrained(AutoConfig, model, revision, local_files_only=True)


def _head_tags(model: str, revision: str | None) -> tuple[str, ...] | None:
    from transformers import AutoConfig

    config = _from_pretrained(AutoConfig, model, revision)
    if not any(name.endswith("ForTokenClassification") for name in config.architectures or []):
        return None
    return tuple(config.id2label[number] for number in range(len(config.id2label)))


def save_teacher(teacher: TeacherModel, pieces: Pieces, folder: Path) -> None:
    """Write a checkpoint that transformers loads by path."""
    from transformers import PreTrainedTokenizerFast
    from transformers.utils import logging

    chatter: Any = logging  # untyped in the library
    chatter.disable_progress_bar()
    teacher.network.save_pretrained(folder)  # type: ignore[operator]
    chatter.enable_progress_bar()
    tokenizer = pieces.tokenizer
    names = {"cls_token": pieces.bos_id, "sep_token": pieces.eos_id, "pad_token": pieces.pad_id, "unk_token": pieces.unk_id}
    special = {name: tokenizer.id_to_token(number) for name, number in names.items()}
    fast: Any = PreTrainedTokenizerFast  # untyped in the library
    fast(tokenizer_object=tokenizer, model_max_length=pieces.limit + 2, **special).save_pretrained(folder)


def _from_pretrained(kind: Any, model: str, revision: str | None, **options: Any) -> Any:
    from transformers.utils import logging

    chatter: Any = logging  # untyped in the library
    verbosity = chatter.get_verbosity()
    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    try:
        return kind.from_pretrained(model, revision=revision, **options)
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise DataError(
            f"teacher '{model}': cannot be loaded ({reason}); give a checkpoint folder, a reachable hub id, or a bundled one"
        ) from error
    finally:
        chatter.set_verbosity(verbosity)
        chatter.enable_progress_bar()
