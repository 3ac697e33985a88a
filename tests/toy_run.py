"""A toy run: four languages, a random two-layer teacher, everything in seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

SENTENCES = {
    "de": [
        "Anna Schmidt/PER besucht Berlin/LOC .",
        "Siemens AG/ORG kommt nach London/LOC .",
        "Das Wetter ist gut .",
        "Herr Braun/PER wohnt in Paris/LOC .",
    ],
    "no": ["Ola Nordmann/PER bor i Oslo/LOC .", "Equinor/ORG selger olje .", "Det er kaldt i dag .", "Kari/PER reiser til Bergen/LOC ."],
    "ar": ["محمد علي/PER زار القاهرة/LOC أمس .", "شركة أرامكو/ORG كبيرة .", "الطقس جميل اليوم .", "وصل علي/PER إلى دبي/LOC ."],
    "zh": ["东 京/LOC 是 日 本/LOC 的 首 都 。", "王 明/PER 在 家 。", "今 天 很 冷 。", "李 华/PER 去 北 京/LOC 。"],
}


def tagged(text: str) -> dict[str, Any]:
    """``Anna Schmidt/PER`` marks the words of one entity: everything since the last lower-case or marked word, here up to two words."""
    tokens: list[str] = []
    tags: list[str] = []
    for word in text.split(" "):
        name, slash, kind = word.rpartition("/")
        tokens.append(name if slash else word)
        tags.append(f"B-{kind}" if slash else "O")
        if slash and len(tokens) > 1 and tokens[-2] in ("Anna", "Siemens", "Ola", "محمد", "شركة", "东", "日", "王", "李", "北", "Herr"):
            tags[-2:] = [f"B-{kind}", f"I-{kind}"]
    return {"tokens": tokens, "ner_tags": tags}


def write_toy_run(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    """Write a configuration with its data and teacher beside it, and return its path."""
    data = tmp_path / "data"
    for language, lines in SENTENCES.items():
        folder = data / language
        folder.mkdir(parents=True)
        for split, shift in (("train", 0), ("dev", 1), ("test", 2)):
            repeated = [tagged(f"{line[:-1]}{'!' * shift}{line[-1]}") for line in lines]
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in repeated)
            (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
        plain = "".join(f"{n} {' '.join(tagged(line)['tokens'])}\n" for n in range(8) for line in lines)
        (folder / "plain.txt").write_text(plain, encoding="utf-8")
    save_toy_teacher(tmp_path / "teacher", tokenizer)
    path = tmp_path / "toy.toml"
    path.write_text(TOML.format(teacher=tmp_path / "teacher"), encoding="utf-8")
    return path


def save_toy_teacher(folder: Path, tokenizer: Tokenizer) -> None:
    """A random BERT encoder over the test tokenizer's pieces."""
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    torch.manual_seed(5)
    shape: Any = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 64,
    }
    BertModel(BertConfig(vocab_size=tokenizer.get_vocab_size(), pad_token_id=1, **shape)).save_pretrained(folder)
    fast: Any = PreTrainedTokenizerFast
    names = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    fast(tokenizer_object=tokenizer, model_max_length=64, **names).save_pretrained(folder)


TOML = """
name = "toy"
seed = 4

[data]
root = "data"
languages = ["de", "no", "ar", "zh"]
types = ["PER", "LOC", "ORG"]

[[data.labelled]]
train = "{{lang}}/train.jsonl"
dev = "{{lang}}/dev.jsonl"

[[data.transfer]]
path = "{{lang}}/plain.txt"

[data.swap]
copies = 2

[teacher]
model = "{teacher}"
epochs = 3
learning_rate = 1e-3
batch = 64
precision = "float32"

[signals]
layers = [1]
width = 8

[student]
pieces = 150
[student.options]
embedding_width = 8
hidden_width = 6
projection_width = 10

[recipe]
name = "xtremedistil"
[recipe.options]
representation = {{ epochs = 2, batch = 128 }}
logits = {{ epochs = 2, batch = 128 }}
logits_opening = {{ epochs = 1, batch = 128 }}
labels = {{ epochs = 1, batch = 64 }}
labels_opening = {{ epochs = 1, batch = 64 }}

[evaluation]
test = "{{lang}}/test.jsonl"
[evaluation.baseline_options]
labels = {{ epochs = 2, batch = 64 }}

[package]
name = "toy"
int8_tolerance = 1.0
sentences = ["Anna Schmidt besucht Berlin."]
"""
