"""The assistant: a student of the teacher that teaches the student, where a recipe asks for one.

It is made as the student is, by the same code from the same text, only with its own settings; its result is a bundle like any other. This
file says what those settings are and takes the network out of the bundle again.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_model
from tokenizers import Tokenizer

from nerdistill.config import RunConfig
from nerdistill.corpus.encoded import Encoder
from nerdistill.errors import ConfigError
from nerdistill.losses.base import LOSSES, Widths
from nerdistill.runtime.bundle import INFO, TOKENIZER, WEIGHTS, read_info
from nerdistill.steps.build import outline
from nerdistill.steps.context import Context
from nerdistill.students.base import Shape, Student, build_student
from nerdistill.teachers.live import heard_layers
from nerdistill.text.encoder import WordTable
from nerdistill.training.stage import Stage


@dataclass(frozen=True)
class Assistant:
    """A finished assistant.

    Attributes:
        bundle: Its folder.
        identity: Fingerprint of all that led to it.
        hand_down: As in `AssistantConfig`.
    """

    bundle: Path
    identity: str
    hand_down: tuple[str, ...] = ()

    def open(self) -> tuple[Student, Encoder]:
        """Its network with the learnt weights, and how it reads words."""
        info = read_info((self.bundle / INFO).read_bytes(), str(self.bundle))
        made = info.student
        network = build_student(made["kind"], made["options"], Shape(made["pieces"], 2 * len(info.types) + 1), None, 0)
        load_model(network, str(self.bundle / WEIGHTS))
        tokenizer = Tokenizer.from_file(str(self.bundle / TOKENIZER))
        table = WordTable(tokenizer, info.unk_id, info.pad_id, info.max_pieces, capacity=1 << 62)
        return network, Encoder(table, info.bos_id, info.eos_id, info.window)


def is_asked_for(config: RunConfig, plan: Sequence[Stage]) -> bool:
    """Whether a plan takes an assistant: a stage hears it, or the student begins with weights of it."""
    return any(stage.teacher == "assistant" for stage in plan) or bool(config.assistant and config.assistant.hand_down)


def assistant_run(config: RunConfig) -> RunConfig:
    """The run whose student is this run's assistant; none of its layers begins as one of the teacher's.

    Raises:
        ConfigError: There is none.
    """
    wanted = config.assistant
    if wanted is None:
        raise ConfigError(
            f"recipe '{config.recipe.name}' learns from an assistant, and there is none; add a section [assistant], or let it learn from "
            'the teacher itself (recipe.options.teacher = "live")'
        )
    settings = {"kind": wanted.kind, "options": wanted.options, "pieces": wanted.pieces or config.student.pieces}
    settings |= {"layers_from": "random", "taken_layers": ()}
    student = config.student.model_copy(update=settings)
    return config.model_copy(update={"student": student, "recipe": wanted.recipe, "assistant": None})


def assistant_context(context: Context) -> Context:
    """The same run folder and text with the assistant's settings."""
    context.words_digest  # noqa: B018  (text is read and counted once for both)
    other = copy.copy(context)
    other.config = assistant_run(context.config)
    return other


def hand_down(names: Sequence[str], assistant: Student, student: Student) -> None:
    """Give the student the assistant's weights in some groups.

    Raises:
        ConfigError: One of the two has no such group, or their shapes differ.
    """
    theirs, mine = ({group.name: group.module for group in network.groups()} for network in (assistant, student))
    for name in names:
        if name not in theirs or name not in mine:
            raise ConfigError(
                f"assistant.hand_down: '{name}' is no parameter group of both: {list(theirs)} and, the student's, {list(mine)}"
            )
        try:
            mine[name].load_state_dict(theirs[name].state_dict())
        except RuntimeError as error:
            raise ConfigError(
                f"assistant.hand_down: '{name}' is not alike in assistant and student ({' '.join(str(error).split())}); give them the same "
                "options there"
            ) from error


def check(config: RunConfig) -> Student:
    """The assistant's outline, after a look at whether it can hand down what it is to.

    Raises:
        ConfigError: It cannot, its settings are wrong, or there is none.
    """
    assistant, wanted = outline(assistant_run(config)), config.assistant
    if wanted is not None and wanted.hand_down:
        if wanted.pieces not in (None, config.student.pieces):
            raise ConfigError(
                f"assistant.hand_down needs one vocabulary, but assistant.pieces = {wanted.pieces} and student.pieces = "
                f"{config.student.pieces}; leave assistant.pieces out"
            )
        hand_down(wanted.hand_down, assistant, outline(config))
    return assistant


def check_terms(plan: Sequence[Stage], student: Student, assistant: Student) -> None:
    """See that what the student is to learn of the assistant, the assistant has.

    Raises:
        ConfigError: A loss finds no such layer, or other heads.
    """
    widths = Widths(student.state_widths, assistant.state_widths[-1], heard_layers(assistant), student.heads, assistant.heads)
    for term in [term for stage in plan if stage.teacher == "assistant" for term in stage.terms]:
        kind = LOSSES.get(term.loss)
        kind.build(kind.options.model_validate(term.options), widths)
