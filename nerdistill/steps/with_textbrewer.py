"""The training benchmark's rival: TextBrewer's `GeneralDistiller` (Yang et al. 2020, ACL demos), used as its documentation has it.

Teacher and student are the library's own token classifiers, text is tokenised beforehand, a `DataLoader` pads each batch to its longest
sentence, adaptors name what is learnt: logits at first pieces by cross-entropy at a temperature, states through linear projections by
squared distance. That makes its loss equal to ours but for the entropy of the teacher, a constant.

What TextBrewer would do beside steps is left out, as it is of ours: it writes the student's weights at the end of an epoch.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from nerdistill.errors import ConfigError
from nerdistill.steps.training_ground import TEMPERATURE, Ground, build_terms
from nerdistill.teachers.huggingface import TeacherModel
from nerdistill.teachers.reconcile import merge_logits
from nerdistill.training.stage import Optimisation

VERSION = "0.2.1"
STATES = {"output_hidden_states": True}
"""What teacher and student are asked for beside logits."""


def textbrewer() -> Any:
    """The library.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        return importlib.import_module("textbrewer")
    except ImportError as error:
        raise ConfigError(
            f"the comparison needs TextBrewer, and the module '{error.name}' is not installed: pip install textbrewer=={VERSION}"
        ) from error


class TextBrewerSide:
    """One contestant.

    Args:
        ground: What all share.
        batches: Sentence numbers of each batch of an epoch.
        plan: Rate, and the largest norm of the gradient; of the rest of a plan TextBrewer has no notion.
        folder: TextBrewer wants one; nothing is left in it.

    Attributes:
        student: The network that learns, to be scored as ours is.
        loader: The batches.
    """

    def __init__(self, ground: Ground, batches: Sequence[Sequence[int]], plan: Optimisation, folder: Path) -> None:
        self.ground, self.plan, self.folder = ground, plan, folder
        self.device = ground.context.accelerator.device
        self.student: TeacherModel = ground.make_network().to(self.device)
        self.first = copy.deepcopy(self.student.state_dict())
        dataset: Any = _tokenised(ground)  # torch takes any sequence, and says it wants classes of its own
        sampler: Any = [list(batch) for batch in batches]
        self.loader: DataLoader[Any] = DataLoader(dataset, batch_sampler=sampler, collate_fn=_Collate(ground))

    def train(self) -> None:
        """One epoch from the first weights."""
        self.student.load_state_dict(self.first)
        torch.manual_seed(self.ground.context.config.seed)
        weights = self.student.network.parameters()
        optimizer = torch.optim.AdamW(weights, lr=self.plan.learning_rate, eps=1e-8, weight_decay=self.plan.weight_decay, fused=True)
        distiller = self.distiller()
        with contextlib.redirect_stderr(io.StringIO()), distiller:  # its progress bar
            distiller.train(optimizer, self.loader, num_epochs=1, max_grad_norm=self.plan.clip, **STATES)

    def distiller(self) -> Any:
        """A `GeneralDistiller`, its projections as ours are drawn, before ours are fitted (`StatePair.begin`)."""
        library, ground = textbrewer(), self.ground
        widths = ground.live_widths(ground.make_student())
        matches = [
            {
                "layer_S": state, "layer_T": layer, "feature": "hidden", "loss": "hidden_mse", "weight": 1,
                "proj": ["linear", widths.student[state], widths.teacher],
            }
            for state, layer in ground.layers
        ]  # fmt: skip
        losses = library.DistillationConfig(
            temperature=TEMPERATURE, kd_loss_type="ce", kd_loss_weight=TEMPERATURE**2, intermediate_matches=matches
        )
        settings = library.TrainingConfig(output_dir=str(self.folder), device=self.device)
        teacher = _AtWords(ground.teacher.model.network).eval()  # or TextBrewer would leave it with dropout behind itself
        made = library.GeneralDistiller(settings, losses, teacher, _AtWords(self.student.network), self._of_teacher, _of_student)
        ours = [term for term, _ in build_terms(ground.terms, widths)][1:]
        for projection, term in zip(made.projs, ours, strict=True):
            projection.load_state_dict(term.get_submodule("pair.adapter").state_dict())
        made.save_and_callback = lambda *_: None
        return made

    def _of_teacher(self, batch: dict[str, Tensor], output: Any) -> dict[str, Any]:
        """TextBrewer's adaptor, in the data's tags where the teacher has others."""
        said = _of_student(batch, output)
        targets, n_tags = self.ground.teacher.targets, len(self.ground.teacher.scheme.tags)
        if targets != tuple(range(n_tags)):
            said["logits"] = merge_logits(output.logits, targets, n_tags)
        return said


class _AtWords(nn.Module):
    """A token classifier that is given which pieces begin a word, which its adaptor reads, and does not look at it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor, attention_mask: Tensor, first: Tensor, **options: Any) -> Any:
        return self.network(input_ids=input_ids, attention_mask=attention_mask, **options)


def _of_student(batch: dict[str, Tensor], output: Any) -> dict[str, Any]:
    """TextBrewer's adaptor: what is learnt, and at which pieces."""
    return {"logits": output.logits, "logits_mask": batch["first"], "hidden": output.hidden_states, "inputs_mask": batch["first"]}


def _tokenised(ground: Ground) -> list[dict[str, Tensor]]:
    """Pieces of each sentence for teacher and student, and which begin a word."""
    pairs = [(encoder, ground.text(encoder)) for encoder in (ground.teacher.encoder, ground.encoder)]
    made = []
    for number in range(len(ground.sentences)):
        arrays = [encoder.collate([text.rows[text.offsets[number] : text.offsets[number + 1]]]) for encoder, text in pairs]
        teacher, student = (torch.from_numpy(part["input_ids"][0]) for part in arrays)
        first = torch.zeros(len(teacher), dtype=torch.bool)
        first[torch.from_numpy(arrays[0]["first_piece"][0])] = True
        made.append({"teacher": teacher, "student": student, "first": first})
    return made


class _Collate:
    """Pads a batch to its longest sentence."""

    def __init__(self, ground: Ground) -> None:
        self.pads = {"teacher": ground.teacher.encoder.table.pad_id, "student": ground.encoder.table.pad_id}

    def __call__(self, items: Sequence[dict[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
        first = pad_sequence([item["first"] for item in items], batch_first=True)
        mask = pad_sequence([torch.ones_like(item["teacher"]) for item in items], batch_first=True)
        return {
            who: {
                "input_ids": pad_sequence([item[who] for item in items], batch_first=True, padding_value=pad),
                "attention_mask": mask,
                "first": first,
            }
            for who, pad in self.pads.items()
        }
