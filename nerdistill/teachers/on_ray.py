"""The teacher's reading shared among the actors of a Ray cluster: shards as numbers, each written to the store by the actor that read it.

The teacher travels once, out of the driver's memory, so its checkpoint need not be where the actors are; but the store has to be a folder
that all machines see under the same path. Each actor reads on its GPU if it was given one, else on the CPU, in the precision that the
driver chose: with ``precision = "auto"`` a driver without a GPU chooses for a CPU, so name the precision where GPUs read for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from nerdistill.tagging.pool import MOST_DEATHS, WorkerError
from nerdistill.tagging.ray_actors import cluster, ray_for, through_actors
from nerdistill.tagging.worker import failure_of
from nerdistill.teachers.annotate import Annotator, Reduction, Shards, write_signals
from nerdistill.teachers.huggingface import TeacherModel
from nerdistill.teachers.onnx_engine import OnnxEngine
from nerdistill.teachers.store import shard_path


def write_on_ray(
    annotator: Annotator, shards: Shards, folder: Path, reduction: Reduction, actors: int, cpus: int = 1, gpus: float = 0.0
) -> Iterator[int]:
    """What `nerdistill.teachers.annotate.write_here` does, by several at a time.

    Args:
        annotator: The teacher; left on the CPU.
        shards: Numbers to text.
        folder: The store.
        reduction: How states are reduced.
        actors: How many read at a time, at most.
        cpus: Cores of each, which are its threads.
        gpus: GPUs of each.

    Yields:
        The number of each shard, when it is there.

    Raises:
        MissingExtraError: Ray is not installed.
        RayError: Ray gave up.
        WorkerError: An actor met an error.
    """
    if not shards:
        return
    with cluster("signals.ray_actors") as ray:
        texts = {number: ray.put(part) for number, part in shards.items()}
        int8 = annotator.engine.int8 if isinstance(annotator.engine, OnnxEngine) else None
        arguments = (ray.put(_made_anew(annotator)), int8, texts, folder.absolute(), reduction, cpus)
        with closing(through_actors(ray, SignalsActor, arguments, list(shards), actors, cpus, gpus)) as rows:
            for row in rows:
                if row["failure"]:
                    raise WorkerError(row["failure"], row["exit_code"])
                yield row["shard"]


def _made_anew(annotator: Annotator) -> Annotator:
    """The teacher with a network that was made here and has read nothing, and without an engine.

    That is asked for on both sides of a journey: the hooks that a network of transformers keeps from its first reading do not travel, and
    which states it can give is known only in a process in which one of its class was made.
    """
    model = annotator.model.to("cpu")
    network: Any = model.network
    copy = type(network)(network.config).to(network.dtype)
    copy.load_state_dict(network.state_dict())
    return replace(annotator, model=TeacherModel(copy, model.tags, model.precision), engine=None)


@contextmanager
def _counted(begun: Path) -> Iterator[None]:
    """Give up what ends process after process, of each of which a byte is left in a file.

    Raises:
        WorkerError: Enough have died.
    """
    try:
        deaths = begun.stat().st_size if begun.is_file() else 0
        if deaths >= MOST_DEATHS:
            raise WorkerError(
                f"{begun.with_suffix('')}: {deaths} processes ended in it; what is finished is kept, and the same command continues. "
                "If memory ran out, try fewer signals.ray_actors or a smaller signals.batch"
            )
        with begun.open("ab") as file:
            file.write(b".")
        yield
    finally:
        begun.unlink(missing_ok=True)


class SignalsActor:
    """Reads shards, one after the other, with a teacher of its own.

    Args:
        teacher: Where Ray keeps the `Annotator`.
        int8: Whether the teacher reads through ONNX in 8 bits; None if it does not read through ONNX.
        texts: Where Ray keeps the text of each shard.
        folder: The store.
        reduction: How states are reduced.
        cpus: Threads.
    """

    def __init__(self, teacher: Any, int8: bool | None, texts: dict[int, Any], folder: Path, reduction: Reduction, cpus: int) -> None:
        torch.set_num_threads(cpus)
        self.ray = ray_for("signals.ray_actors")
        self.texts = texts
        self.folder = folder
        self.reduction = reduction
        self.annotator = _made_anew(self.ray.get(teacher))
        if int8 is not None:
            self.annotator = replace(self.annotator, engine=OnnxEngine(self.annotator.model, self.annotator.layers, int8))
        self.annotator.model.to("cuda" if torch.cuda.is_available() else "cpu")  # Ray shows an actor the GPUs that are its own

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Read the shard with the number ``row["item"]``: ``shard``, and what went wrong: ``failure`` and its ``exit_code``."""
        number = row["item"]
        try:
            with _counted(shard_path(self.folder, number).with_suffix(".begun")):
                write_signals(self.annotator, self.ray.get(self.texts[number]), self.folder, number, self.reduction)
        except Exception as error:  # raised here it would be Ray's, with a traceback
            code, message = failure_of(error)
            return {"shard": number, "failure": message, "exit_code": code}
        return {"shard": number, "failure": "", "exit_code": 0}
