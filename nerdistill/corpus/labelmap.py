"""The map from the entity types of one source to the types that a student learns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from nerdistill.errors import ConfigError, DataError
from nerdistill.labels import OUTSIDE, tag_type
from nerdistill.records import Sentence


@dataclass(frozen=True)
class LabelMap:
    """Which type of a source becomes which type of the student.

    A source type outside the map keeps its name where that is a target type. Any other type is refused: a type that is quietly taken
    for ``O`` teaches the student that such names are no names.

    Attributes:
        targets: The types that the student learns.
        mapping: Source type to target type; ``"O"`` drops a type.
        unannotated: Target types that this source does not mark.

    Raises:
        ConfigError: The map names a type that is no target, or produces a type that it calls unannotated.
    """

    targets: tuple[str, ...]
    mapping: Mapping[str, str] = field(default_factory=dict)
    unannotated: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Refuse a map that contradicts itself; keep a copy that nobody can change."""
        object.__setattr__(self, "mapping", MappingProxyType(dict(self.mapping)))
        object.__setattr__(self, "unannotated", frozenset(self.unannotated))
        targets = ", ".join(self.targets)
        if OUTSIDE in self.targets or OUTSIDE in self.mapping:
            raise ConfigError("the label map names 'O' as an entity type; 'O' can only stand on the right, where it drops a type")
        if strangers := sorted(set(self.mapping.values()) - {*self.targets, OUTSIDE}):
            raise ConfigError(f"the label map leads to {_quoted(strangers)}, expected 'O' or one of the types {targets}")
        if strangers := sorted(self.unannotated - set(self.targets)):
            raise ConfigError(f"unannotated names {_quoted(strangers)}, expected some of the types {targets}")
        if both := sorted(self.unannotated & set(self.mapping.values())):
            raise ConfigError(f"the label map leads to {_quoted(both)}, which unannotated says this source does not mark")

    def __hash__(self) -> int:
        """Equal maps have equal hashes."""
        return hash((self.targets, tuple(sorted(self.mapping.items())), self.unannotated))

    def apply(self, sentence: Sentence) -> Sentence:
        """The sentence with target types, and with the unannotated types noted on it.

        Raises:
            DataError: The sentence has types that the map does not know, or types that it calls unannotated.
        """
        unannotated = sentence.unannotated | self.unannotated
        if sentence.tags is None:
            return replace(sentence, unannotated=unannotated)
        kinds = {kind for tag in sentence.tags if (kind := tag_type(tag)) is not None}
        renamed = {kind: self.mapping.get(kind, kind) for kind in kinds}
        self._check(renamed, sentence.origin or "sentence")
        tags = tuple(_renamed(tag, renamed) for tag in sentence.tags)
        return replace(sentence, tags=tags, unannotated=unannotated)

    def _check(self, renamed: Mapping[str, str], origin: str) -> None:
        if unknown := sorted(kind for kind, target in renamed.items() if target not in (*self.targets, OUTSIDE)):
            example = ", ".join(f'{kind} = "O"' for kind in unknown)
            raise DataError(
                f"{origin}: found {_quoted(unknown)}, expected the types {', '.join(self.targets)}; "
                f"add them to the label map of this source: {example} drops them, a type in place of O renames them"
            )
        if hidden := sorted(kind for kind, target in renamed.items() if target in self.unannotated):
            example = ", ".join(f'{kind} = "O"' for kind in hidden)
            raise DataError(
                f"{origin}: found {_quoted(hidden)}, which this source is said not to annotate; "
                f"take them out of unannotated, or drop what is there with {example} in the label map"
            )


def _renamed(tag: str, renamed: Mapping[str, str]) -> str:
    kind = tag_type(tag)
    if kind is None or renamed[kind] == OUTSIDE:
        return OUTSIDE
    return f"{tag[:2]}{renamed[kind]}"


def _quoted(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
