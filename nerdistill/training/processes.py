"""The processes of one run, one a device: how they start, what they agree on, and how they learn together.

``accelerate launch`` or ``torchrun`` starts the same program several times. All processes read the same text in the same order; each learns
from its share of every batch, the gradients are summed, and so all hold the same weights at every step. The first one, the main process,
scores, decides and is the only one that writes; the others take its word. A run in one process passes through here untouched.

Sums, not means: losses come divided by what is counted in all processes (see `nerdistill.training.loop`), so a process with fewer words in
its share has the less to say.
"""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.utils import GradientAccumulationPlugin, broadcast
from accelerate.utils.environment import get_cpu_distributed_information
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nerdistill.errors import ConfigError
from nerdistill.fingerprint import fingerprint

PATIENCE = timedelta(days=7)
"""How long a process waits for another. A teacher may read for days while the others wait, where the backends would give up after minutes.
One that died is not waited for: the launcher ends the rest."""


def is_main() -> bool:
    """Whether this process is the one that writes, as the launcher's variables say: true without one."""
    told = get_cpu_distributed_information()
    return bool(told.world_size == 1 or told.rank == 0)


def start(cpu: bool = False) -> Accelerator:
    """Join the other processes of the run, if there are any, and take a device.

    What the launcher's configuration says of precision and accumulation is not heard: stages have settings of their own.

    Args:
        cpu: Stay off any accelerator.

    Raises:
        ConfigError: The launcher started several processes that do not find each other, or asks for more than a copy of the weights in
            each process.
    """
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision="no",
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
    )
    launched, found = get_cpu_distributed_information().world_size, accelerator.num_processes
    if launched != found:
        raise ConfigError(
            f"{launched} processes were started and this one found {found}, having no device of its own: start as many as there are GPUs, "
            "with 'accelerate launch --multi_gpu', or add --cpu"
        )
    if found > 1 and not accelerator.distributed_type.startswith("MULTI_"):
        raise ConfigError(
            f"the launcher asks for {accelerator.distributed_type.value}, which cuts a model into parts; each process here holds a whole "
            "one: use 'accelerate launch --multi_gpu'"
        )
    return accelerator


def only_one(what: str) -> None:
    """See that the program was started in one process.

    Args:
        what: The command that cannot share its work.

    Raises:
        ConfigError: It was started in several.
    """
    launched = get_cpu_distributed_information().world_size
    if launched > 1:
        raise ConfigError(f"{what} runs in one process, and {launched} were started: call it without a launcher")


def of_main(accelerator: Accelerator, value: float) -> float:
    """The main process's value, in every process: what is decided by it is decided alike."""
    if accelerator.num_processes == 1:
        return value
    told: Any = broadcast(torch.tensor(value, dtype=torch.float64, device=accelerator.device))
    return float(told)


def total(accelerator: Accelerator, mine: Tensor) -> Tensor:
    """The sum of what the processes have, in every process."""
    if accelerator.num_processes == 1:
        return mine
    summed: Tensor = accelerator.reduce(mine, reduction="sum")
    return summed


def check_alike(accelerator: Accelerator, identity: str, what: str) -> None:
    """See that all processes are about to do the same thing: they would wait for each other for ever, or average what has no common mean.

    Args:
        accelerator: Of the run.
        identity: Fingerprint of what this process is about to do.
        what: Its name.

    Raises:
        ConfigError: Another process is about to do something else; raised in all of them.
    """
    digits = int(fingerprint(identity)[:12], 16)  # exact in float64
    differs = torch.tensor(int(of_main(accelerator, digits) != digits), device=accelerator.device)
    if int(total(accelerator, differs)):
        raise ConfigError(
            f"{what}: the processes of this run do not have the same text, settings or files, this one has fingerprint {identity}; all "
            "machines need the same version of the program and one shared run folder"
        )


def in_parallel(accelerator: Accelerator, module: nn.Module) -> nn.Module:
    """A module that gives a loss, made so that its backward pass leaves the mean of all processes' gradients in each of them.

    Wrapped anew for every stage, when it is settled which weights learn: that set is fixed when DDP is made, and making it also gives every
    process the main one's weights. Within a stage some of them may get no gradient (a head while only states are learnt, a term that
    counts no word), in one process or in all, so DDP looks for those after each forward pass; one that gets none anywhere keeps none, as in
    one process, and the optimiser leaves it alone.

    Args:
        accelerator: Of the run.
        module: With every weight that learns, the terms' own among them.
    """
    if accelerator.num_processes == 1:
        return module
    device = accelerator.device
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # newer torch has another name for broadcast_buffers, which older does not know
        return DistributedDataParallel(
            module, device_ids=None if device.type == "cpu" else [device], broadcast_buffers=False, find_unused_parameters=True
        )


def without_sum(module: nn.Module) -> AbstractContextManager[None]:
    """Passes of a module of `in_parallel` keep their gradients to themselves in this block; the next one after it sums all."""
    made: AbstractContextManager[None] = module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()
    return made
