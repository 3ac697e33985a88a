"""What a teacher's settings show not to fit, said before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence

from nerdistill.config import RunConfig
from nerdistill.errors import ConfigError
from nerdistill.losses.base import LOSSES, Widths
from nerdistill.steps.teach import DO_WITHOUT_PIECES, LEARNS_PIECES, teacher_settings
from nerdistill.students.base import Student, student_options
from nerdistill.teachers.as_transformer import check_layers
from nerdistill.teachers.huggingface import no_masked_lm
from nerdistill.teachers.masked import learns_pieces
from nerdistill.training.stage import Stage

_MASKED_LM = ("MaskedLM", "PreTraining")


def check_teacher(config: RunConfig, plan: Sequence[Stage], student: Student) -> None:
    """Look whether a plan's losses and the student's first weights fit the teacher; where it is not there to be asked, nothing is said.

    Args:
        config: The run.
        plan: Its stages.
        student: The student's outline.

    Raises:
        ConfigError: The student cannot begin with the teacher's layers, a loss finds states of the wrong width or other heads in a teacher
            that reads along, or pieces are to be learnt from one that is no masked language model.
    """
    if any(map(learns_pieces, plan)) and student.inputs != "pieces":
        raise ConfigError(
            f"recipe '{config.recipe.name}' learns pieces, which a student of kind '{config.student.kind}' does not read; take "
            "student.kind = 'transformer'"
        )
    teacher = teacher_settings(config)
    if teacher is None:
        return
    if config.student.layers_from != "random":
        check_layers(
            config.student.kind, student_options(config.student.kind, config.student.options), teacher, config.student.taken_layers
        )
    layers = tuple(range(teacher.num_hidden_layers + 1))
    widths = Widths(student.state_widths, teacher.hidden_size, layers, student.heads, teacher.num_attention_heads)
    for stage in plan:
        for term in stage.terms if stage.teacher in ("live", "general") else ():
            kind = LOSSES.get(term.loss)
            kind.build(kind.options.model_validate(term.options), widths)
        named = teacher.architectures or ()
        if learns_pieces(stage) and named and not any(part in name for name in named for part in _MASKED_LM):
            raise no_masked_lm(config.teacher.model, LEARNS_PIECES, f"its config.json names {', '.join(named)}", DO_WITHOUT_PIECES)
