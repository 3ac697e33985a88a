"""Numbered work through the actors of a Ray cluster.

What is ours is only what the work is. Where actors run, what happens when one dies or a machine goes, and what is tried again, is left to
Ray Data: an actor whose process dies is started anew and given the same item again. It is given it without end, so an actor has to notice
by itself that an item ends process after process.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from nerdistill.errors import ConfigError, MissingExtraError, NerdistillError
from nerdistill.tagging.unpacked import first_line


class RayError(NerdistillError):
    """Ray gave up."""


def ray_for(what: str) -> Any:
    """The module, with Ray Data in it.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        importlib.import_module("ray.data")
        return importlib.import_module("ray")
    except ImportError as error:
        raise MissingExtraError(what, "ray", "ray.data") from error


@contextmanager
def cluster(what: str) -> Iterator[Any]:
    """A connection to the cluster: the one of this process if it has one, else that of ``RAY_ADDRESS`` or of this machine, else a new one.

    Args:
        what: Asks for it, for messages.

    Yields:
        The module ``ray``. A connection that was made here is closed at the end, and with it a cluster that was begun here.

    Raises:
        ConfigError: No cluster can be reached or begun.
        MissingExtraError: Ray is not installed.
    """
    ray = ray_for(what)
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    if ray.is_initialized():
        yield ray
        return
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
    except (OSError, RuntimeError, ValueError, TimeoutError) as error:
        raise ConfigError(
            f"{what}: no Ray cluster can be reached or begun ({first_line(error)}); see RAY_ADDRESS, or 'ray status'"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def room_for(ray: Any, cpus: int, gpus: float = 0.0) -> int:
    """How many actors with so many cores and GPUs the cluster has room for, at least one."""
    there = ray.cluster_resources()
    rooms = [there.get("CPU", 0) // cpus, *([there.get("GPU", 0) // gpus] if gpus else [])]
    return max(1, int(min(rooms)))


def check_gpus(ray: Any, gpus: float) -> None:
    """Refuse a cluster that has not the GPUs for one actor; Ray would wait without end.

    Raises:
        ConfigError: See above.
    """
    there = ray.cluster_resources().get("GPU", 0)
    if gpus > there:
        raise ConfigError(f"--gpus {gpus:g}: the Ray cluster has {there:g} in all; ask for fewer, or start Ray where there are some")


def through_actors(
    ray: Any, actor: type, arguments: Sequence[Any], items: Sequence[int], actors: int, cpus: int = 1, gpus: float = 0.0
) -> Generator[dict[str, Any], None, None]:
    """Have items done, each by a task of its own.

    Args:
        ray: From `cluster`.
        actor: Made once in each process; called with ``{"item": number}``, returns a row of numbers and strings.
        arguments: Of the actor's making.
        items: What is to be done; at least one.
        actors: How many at a time.
        cpus: Of each.
        gpus: Of each.

    Yields:
        What was returned, in the order in which it was. To stop asking is to end the actors.

    Raises:
        RayError: Ray gave up, or an actor raised what is none of `NerdistillError`.
    """
    try:
        dataset = ray.data.from_items([{"item": item} for item in items], override_num_blocks=len(items))
        dataset.context.enable_progress_bars = False
        made = dataset.map(
            actor,
            fn_constructor_args=tuple(arguments),
            compute=ray.data.ActorPoolStrategy(size=min(actors, len(items))),
            num_cpus=cpus,
            num_gpus=gpus,
        )
        yield from made.iter_rows()
    except ray.exceptions.RayError as error:
        raise RayError(f"Ray gave up ({first_line(error)}); what is finished is kept, and the same command continues") from error
