"""IB-BERT (MobileBERT, Sun et al. 2020, section 3.1): the teacher that a `nerdistill.students.mobilebert` student is taught by.

Between its blocks it has the student's width, so its feature maps can be the student's targets as they are; inside them it is wide. It is
the same network as MobileBERT with other defaults: one big feed-forward network a block, attention over the block's input, layer
normalisation and GELU. Its number of blocks should be the student's. In a run it is the *assistant*: a student of the run's teacher,
and the student's teacher (`nerdistill.config.AssistantConfig`).

The defaults fit those of the MobileBERT student, as the published pair fit each other. The published shape is in
`nerdistill.students.mobilebert`.

Deviation: it is distilled from a teacher that there is; the published one is trained from nothing on BERT's text.
"""

from __future__ import annotations

from pydantic import Field

from nerdistill.students.base import STUDENTS, StudentKind
from nerdistill.students.mobilebert import MobileBert, MobileBertOptions
from nerdistill.students.parts.bottleneck import AttentionInput
from nerdistill.students.parts.norm import Norm
from nerdistill.students.parts.transformer_layer import Activation


class InvertedBottleneckOptions(MobileBertOptions):
    """As `MobileBertOptions`, with the defaults of the wide teacher."""

    inner_width: int = Field(default=512, ge=1, le=4096)
    ffn: int = Field(default=2048, ge=1, le=16384)
    ffns: int = Field(default=1, ge=1, le=16)
    attention: AttentionInput = "block"
    norm: Norm = "layer"
    activation: Activation = "gelu"
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)


STUDENTS.register("inverted_bottleneck")(
    StudentKind(
        InvertedBottleneckOptions, MobileBert, lambda options: options.columns, "wide blocks between narrow states (IB-BERT), an assistant"
    )
)
