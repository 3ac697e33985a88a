"""The teacher's signals over the transfer text."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nerdistill.config import SignalsConfig
from nerdistill.errors import DataError
from nerdistill.files import DONE, read_json
from nerdistill.steps.context import Context
from nerdistill.steps.teach import Taught, open_teacher, teach
from nerdistill.teachers.annotate import Write, annotate, write_here
from nerdistill.teachers.on_ray import write_on_ray
from nerdistill.teachers.store import SignalStore, store_ready
from nerdistill.training.processes import of_main, only_one


@dataclass(frozen=True)
class Signals:
    """A finished store.

    Attributes:
        folder: Where it is.
        identity: Fingerprint of teacher, text and settings.
    """

    folder: Path
    identity: str

    @property
    def seconds(self) -> float:
        """Time that the teacher took."""
        taken: float = read_json(self.folder / DONE)["seconds"]
        return taken

    def open(self) -> SignalStore:
        """Map it into memory."""
        return SignalStore(self.folder, self.identity)


def _writer(config: SignalsConfig) -> Write:
    if not config.ray_actors:
        return write_here
    only_one("annotation by Ray's actors")
    return partial(write_on_ray, actors=config.ray_actors, cpus=config.actor_cpus, gpus=config.actor_gpus)


def annotate_transfer(context: Context, taught: Taught | None = None) -> Signals:
    """Make the run's signals, or find them made; teaches first if need be."""
    taught = taught or teach(context)
    config, text = context.config, context.data.transfer
    if not text:
        raise DataError("there is no transfer text: name some under [[data.transfer]], or set data.swap.copies")
    settings: dict[str, Any] = {"layers": config.signals.layers, "width": config.signals.width, "window": config.teacher.max_pieces}
    if config.signals.engine != "torch":
        settings["engine"] = config.signals.engine
    precision = config.teacher.precision
    label_map = config.teacher.label_map if not config.teacher.fine_tune else None
    identity = context.identity("annotate", taught.identity, context.transfer_digest, settings, precision, label_map, config.data.types)
    folder = context.step_folder("signals", identity)
    with context.making(folder):
        if not of_main(context.accelerator, store_ready(folder, identity)):
            context.log.say("signals: the teacher reads the transfer text")
            annotator = open_teacher(context, taught, config.signals.layers, config.signals.width, config.signals.engine)
            log = context.log.named("signals", identity)
            annotate(annotator, text, folder, identity, log, _writer(config.signals), context.accelerator)
    return Signals(folder, identity)
