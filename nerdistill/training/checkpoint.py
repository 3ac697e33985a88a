"""Checkpoints inside a stage: atomic, without pickle, holding only what the stage changes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from nerdistill.files import DONE, folder_beside, read_json

log = logging.getLogger(__name__)


@dataclass
class Progress:
    """Where a stage stands.

    Attributes:
        step: Optimiser steps done.
        best_score: Best value of the selection score so far; higher is better.
        best_step: Its step.
        stale: Evaluations since.
        stopped: Whether the stage has ended early.
        bad_steps: Steps that were skipped because their gradient was not finite.
        seconds: Time spent in steps and evaluations so far.
    """

    step: int = 0
    best_score: float = -torch.inf
    best_step: int = 0
    stale: int = 0
    stopped: bool = False
    bad_steps: int = 0
    seconds: float = 0.0


def save_checkpoint(
    folder: Path,
    identity: str,
    progress: Progress,
    weights: Mapping[str, Tensor],
    best: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Replace the checkpoint of a stage.

    Args:
        folder: Its folder.
        identity: Fingerprint of the stage and everything before it.
        progress: Where it stands.
        weights: Trainable tensors.
        best: The same at the best evaluation; empty if there was none.
        optimizer: Its state is flattened to tensors.
    """
    state = {
        f"{number}.{key}": torch.as_tensor(value) for number, slot in optimizer.state_dict()["state"].items() for key, value in slot.items()
    }
    with folder_beside(folder, {"identity": identity, **asdict(progress)}) as target:
        for name, tensors in (("weights", weights), ("best", best), ("optimizer", state)):
            save_file({key: value.detach().contiguous() for key, value in tensors.items()}, target / f"{name}.safetensors")


def load_checkpoint(
    folder: Path, identity: str, optimizer: torch.optim.Optimizer
) -> tuple[Progress, dict[str, Tensor], dict[str, Tensor]] | None:
    """The checkpoint of a stage if a complete and readable one of the same identity is there.

    Returns:
        Progress, trainable tensors, best tensors; the optimizer's state is put back in place.
    """
    if not (folder / DONE).is_file():
        return None
    try:
        marker = read_json(folder / DONE)
        if marker.pop("identity", None) != identity:
            return None
        tensors = {name: load_file(folder / f"{name}.safetensors") for name in ("weights", "best", "optimizer")}
    except (OSError, ValueError, SafetensorError) as error:
        log.warning("%s: the checkpoint cannot be read (%s); the stage starts anew", folder, error)
        return None
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors["optimizer"].items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return Progress(**marker), tensors["weights"], tensors["best"]
