"""What weights are chosen by: held-out text only, never a test set."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from nerdistill.corpus.encoded import EncodedCorpus
from nerdistill.evaluation.scores import f1_by_language
from nerdistill.labels import LabelScheme
from nerdistill.losses.base import LossTerm
from nerdistill.records import Sentence
from nerdistill.runtime.decode import decode_tags, log_softmax


class DevF1:
    """Mean over languages of strict F1 on labelled held-out sentences.

    Args:
        model: Over the scheme's tags; in evaluation mode when called.
        corpus: The sentences, encoded for it.
        sentences: The same with their gold tags.
        scheme: The tags.
        batch: Padded size of a forward pass.
    """

    def __init__(self, model: nn.Module, corpus: EncodedCorpus, sentences: Sequence[Sentence], scheme: LabelScheme, batch: int) -> None:
        self.model, self.corpus, self.sentences, self.scheme, self.batch = model, corpus, sentences, scheme, batch

    def __call__(self) -> float:
        """Score the model as it is."""
        device = next(self.model.parameters()).device

        def run(tensors: dict[str, Tensor]) -> tuple[Tensor, ...]:
            return (self.model({name: tensor.to(device) for name, tensor in tensors.items()}).logits,)

        (logits,) = self.corpus.predict(run, self.batch)
        offsets = self.corpus.offsets
        tags = decode_tags(log_softmax(logits), offsets, self.scheme)
        found = [self.scheme.decode(tags[start:stop]) for start, stop in pairwise(offsets)]
        return float(np.mean(list(f1_by_language(self.sentences, found).values())))


class HeldOutLoss:
    """Minus the stage's own loss on held-out transfer text.

    Args:
        model: In evaluation mode when called.
        terms: Terms with weights.
        corpus: Text with signals.
        batch: Padded size of a forward pass.
    """

    def __init__(self, model: nn.Module, terms: Sequence[tuple[LossTerm, float]], corpus: EncodedCorpus, batch: int) -> None:
        self.model, self.terms, self.corpus, self.batch = model, terms, corpus, batch

    def __call__(self) -> float:
        """Score the model as it is."""
        device = next(self.model.parameters()).device
        sums = torch.zeros(len(self.terms))
        counts = torch.zeros(len(self.terms))
        for items in self.corpus.batches(self.batch, rng=None):
            tensors = {name: tensor.to(device) for name, tensor in self.corpus.collate(items).items()}
            output = self.model(tensors)
            sums += torch.stack([weight * term(output, tensors) for term, weight in self.terms]).cpu()
            counts += torch.stack([term.count(tensors) for term, _ in self.terms]).cpu()
        return -float((sums / counts.clamp(min=1)).sum())
