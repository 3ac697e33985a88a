"""First embeddings learnt from the teacher's: the vectors, through a linear map that is dropped, are to give the teacher's own rows.

A table that is read as it is has the best such beginning in closed form, the principal directions of the teacher's table
(`nerdistill.students.parts.reduction`), and so has one behind a linear map. A `Define` unit has none; its table begins there, and table and
unit then learn together.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nerdistill.students.parts.piece_table import PAD, PieceTable

BATCH = 1024
"""Pieces of a step, drawn with replacement. With the default unit and 30,000 pieces a step takes some 40 ms of one core."""

STEPS = 1000
"""Enough for tables of some ten thousand pieces."""

LEARNING_RATE = 1e-2
"""At the first step, of Adam; falls linearly to 0."""

_AT_ONCE = 8192


def fit_to_table(embedding: PieceTable, target: Tensor, frequencies: Tensor, steps: int, seed: int) -> float:
    """Train table and map of an embedding, in place, on the squared distance to the teacher's rows.

    The distance is weighted by a piece's share of the text to the power of 1/2: frequent pieces count more, but not all. Pieces are drawn
    with that probability, which is the same in the mean and wastes no step on pieces that hardly count. A piece of frequency 0 is never
    drawn, though the unit changes under its row; add 1 to all counts where such pieces matter. Padding is left out.

    Afterwards the vectors are scaled by one number to the mean square that they had before, which the linear map that is dropped had freed
    them from and whatever reads them was made for.

    Args:
        embedding: The student's part, in its place or alone; the positions of a `PositionedEmbedding` stay as they are.
        target: ``[V, d]``, the teacher's rows in the order of the student's pieces.
        frequencies: ``[V]``, how often each piece occurs; at least 0.
        steps: How many batches of `BATCH` pieces.
        seed: Equal arguments and an equal seed give equal weights; the global generator is left as it was.

    Returns:
        The weighted squared error that is left over all pieces, as a share of the teacher rows' weighted variance: 1 for nothing learnt.

    Raises:
        ValueError: The shapes do not match the table, a frequency is negative or not a number, or none but the padding's is above 0.
    """
    n_pieces = embedding.table.num_embeddings
    if target.shape[0] != n_pieces or frequencies.shape != (n_pieces,):
        found = f"target {tuple(target.shape)} and frequencies {tuple(frequencies.shape)}"
        raise ValueError(f"{found}: expected a row for each of {n_pieces} pieces")
    weights = frequencies.to(torch.float32).sqrt()
    weights[PAD] = 0.0
    if not bool((weights >= 0).all()) or not bool(weights.any()):
        raise ValueError("frequencies must be numbers of at least 0, and not all 0 but for padding")
    weights /= weights.sum()
    centred = target.detach().to(torch.float32) - weights @ target.detach().to(torch.float32)
    rows = centred / (weights @ centred.square().mean(dim=1)).sqrt()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        back = nn.Linear(embedding.all_vectors(torch.arange(1)).shape[1], rows.shape[1])
        size = _size(embedding)
        _train(embedding, back, rows, weights, steps)
    error = _error(embedding, back, rows, weights)
    last = embedding.define.layers[-1] if embedding.define is not None else embedding.widen or embedding.table
    with torch.no_grad():
        last.get_parameter("weight").mul_(size / _size(embedding))
    return error


def _size(embedding: PieceTable) -> Tensor:
    return embedding.folded().table.weight.detach().square().mean().sqrt()


def _train(embedding: PieceTable, back: nn.Linear, rows: Tensor, weights: Tensor, steps: int) -> None:
    modules = [module for module in (embedding.table, embedding.widen, embedding.define, back) if module is not None]
    optimiser = torch.optim.Adam([weight for module in modules for weight in module.parameters()], LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, steps)
    for _ in range(steps):
        ids = torch.multinomial(weights, BATCH, replacement=True)
        loss = (back(embedding.vectors(ids)) - rows[ids]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


@torch.no_grad()
def _error(embedding: PieceTable, back: nn.Linear, rows: Tensor, weights: Tensor) -> float:
    parts = [(back(embedding.all_vectors(ids)) - rows[ids]).square().mean(dim=1) for ids in torch.split(torch.arange(len(rows)), _AT_ONCE)]
    return float(weights @ torch.cat(parts))
