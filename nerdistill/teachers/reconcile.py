"""A teacher's tags and the data's tags: one explicit map between them, or a refusal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from nerdistill.errors import ConfigError
from nerdistill.labels import OUTSIDE, LabelScheme


def reconcile(teacher_tags: Sequence[str], scheme: LabelScheme, label_map: Mapping[str, str] | None) -> tuple[int, ...]:
    """For each tag of the teacher, the id of the data's tag that it stands for.

    Tags are matched by name, so their order does not matter. Types that differ must be mapped, and the map must say something of every
    type of the teacher.

    Args:
        teacher_tags: In logit order; ``O``, ``B-X``, ``I-X``.
        scheme: Of the data.
        label_map: Teacher type to data type, or to ``O`` to drop it.

    Raises:
        ConfigError: A tag of another form, a type without a counterpart, or a data type that no teacher type reaches.
    """
    types = sorted({tag[2:] for tag in teacher_tags if tag != OUTSIDE})
    odd = [tag for tag in teacher_tags if tag != OUTSIDE and tag[:2] not in ("B-", "I-")]
    if odd or OUTSIDE not in teacher_tags:
        raise ConfigError(f"the teacher's tags are {list(teacher_tags)}; expected O and B-/I- tags")
    known = {name: name for name in types if name in scheme.types} if label_map is None else dict(label_map)
    unmapped = [name for name in types if name not in known]
    wrong = sorted({target for target in known.values() if target != OUTSIDE and target not in scheme.types})
    unreached = [name for name in scheme.types if name not in {known[name] for name in types if name in known}]
    if unmapped or wrong or unreached:
        raise ConfigError(
            f"the teacher's types {types} and the data's types {list(scheme.types)} do not meet"
            + (f"; the teacher's {unmapped} are not mapped" if unmapped else "")
            + (f"; the map names {wrong}, which the data have not" if wrong else "")
            + (f"; nothing leads to {unreached}" if unreached else "")
            + ". Give teacher.label_map a line for every teacher type, such as PERSON = 'PER' or MISC = 'O'"
        )

    def target(tag: str) -> int:
        name = OUTSIDE if tag == OUTSIDE else known[tag[2:]]
        return 0 if name == OUTSIDE else scheme.ids[f"{tag[:2]}{name}"]

    return tuple(target(tag) for tag in teacher_tags)


def merge_logits(logits: Tensor, targets: Sequence[int], n_tags: int) -> Tensor:
    """The teacher's logits over the data's tags: tags that map to one are added as probabilities.

    Args:
        logits: ``[..., K']``.
        targets: From `reconcile`, K' of them.
        n_tags: K.

    Returns:
        ``[..., K]``.
    """
    columns = []
    for tag in range(n_tags):
        sources = [i for i, target in enumerate(targets) if target == tag]
        part = logits[..., sources]
        columns.append(part.logsumexp(dim=-1) if sources else torch.full_like(logits[..., 0], -30.0))
    return torch.stack(columns, dim=-1)
