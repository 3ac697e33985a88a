"""The errors a user can meet.

Every message says what was found, what was expected, where (file:line when there is one) and what to do. The command line prints
them on one line and leaves with the exit code of their class; a traceback means a bug in nerdistill.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class NerdistillError(Exception):
    """Base of every error that nerdistill raises on purpose."""

    exit_code = 1


class ConfigError(NerdistillError):
    """The configuration, a command-line option or a combination of parts is not usable."""

    exit_code = 2


class DataError(NerdistillError):
    """An input file is malformed, or its content contradicts the configuration."""

    exit_code = 3


class BundleError(NerdistillError):
    """A student folder is damaged, unsafe, or of a format this version does not read."""

    exit_code = 5


class MissingExtraError(ConfigError):
    """A part was used whose optional dependencies are not installed.

    Args:
        what: The part that was asked for.
        extra: The extra of the distribution that brings it.
        module: The module that could not be imported.
    """

    def __init__(self, what: str, extra: str, module: str) -> None:
        super().__init__(f"{what} needs the module '{module}', which is not installed: pip install 'nerdistill[{extra}]'")


def faults_of(error: ValidationError, section: str = "") -> list[str]:
    """Every fault that pydantic found, each as ``key: what is wrong``.

    Args:
        error: What it raised.
        section: Where the keys begin, such as ``student.options``.
    """
    keys = (".".join([*filter(None, [section]), *map(str, fault["loc"])]) for fault in error.errors())
    return [f"{key or 'top level'}: {fault['msg']}" for key, fault in zip(keys, error.errors(), strict=True)]
