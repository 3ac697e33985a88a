"""A bidirectional LSTM that never reads padding and never packs."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BidirectionalLSTM(nn.Module):
    """One LSTM over the words, one over the words from last to first.

    Padding stands behind the words in both: the backward direction reads each sentence turned round within its own length. So no real word
    depends on padding, and both are plain padded LSTMs, for which CPUs have fast kernels; packed sequences, the usual way, are read
    several times slower there.

    Args:
        width: Of the input.
        hidden: Units of each direction.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.forwards = nn.LSTM(width, hidden, batch_first=True)
        self.backwards = nn.LSTM(width, hidden, batch_first=True)
        for lstm in (self.forwards, self.backwards):
            _initialise(lstm)

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        """``[B, W, width]`` and ``lengths`` ``[B]`` to ``[B, W, 2 hidden]``, forward direction first; padding yields anything."""
        positions = torch.arange(words.shape[1], device=words.device)
        turned = (lengths[:, None] - 1 - positions).clamp(min=0)[..., None]
        forth: Tensor = self.forwards(words)[0]
        back: Tensor = self.backwards(words.gather(1, turned.expand(-1, -1, words.shape[2])))[0]
        return torch.cat([forth, back.gather(1, turned.expand(-1, -1, self.hidden))], dim=-1)

    def onnx_weights(self) -> dict[str, Tensor]:
        """Weights ``W R B`` of the ONNX operator, whose gates stand in the order input, output, forget, cell."""
        sides = [dict(lstm.named_parameters()) for lstm in (self.forwards, self.backwards)]
        return {
            "w": torch.stack([_reorder(side["weight_ih_l0"]) for side in sides]),
            "r": torch.stack([_reorder(side["weight_hh_l0"]) for side in sides]),
            "b": torch.stack([torch.cat([_reorder(side[f"bias_{kind}_l0"]) for kind in ("ih", "hh")]) for side in sides]),
        }


def _reorder(weight: Tensor) -> Tensor:
    gate_in, gate_forget, gate_cell, gate_out = weight.detach().chunk(4)
    return torch.cat([gate_in, gate_out, gate_forget, gate_cell])


def _initialise(lstm: nn.LSTM) -> None:
    """Glorot for inputs, orthogonal for the recurrence of each gate, forget gate open: nearly the defaults of the paper's framework."""
    for name, weight in lstm.named_parameters():
        if "weight_ih" in name:
            nn.init.xavier_uniform_(weight)
        elif "weight_hh" in name:
            for gate in weight.chunk(4):
                nn.init.orthogonal_(gate)
        else:
            nn.init.zeros_(weight)
            if "bias_ih" in name:
                with torch.no_grad():
                    weight.chunk(4)[1].fill_(1.0)
