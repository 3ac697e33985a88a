"""Makes the component known to spaCy under the name ``nerdistill``.

spaCy imports this module whenever anyone in this environment creates any pipeline, so it imports nothing heavy: the component itself
comes with the first use. The annotations are real objects, not strings, because spaCy builds its configuration schema from them.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal

from spacy.language import Language

DEFAULTS: dict[str, Any] = {
    "bundle": None,
    "threads": None,
    "variant": None,
    "backend": "onnxruntime",
    "threshold": 0.0,
    "spans_key": "nerdistill",
    "ents_filter": {"@misc": "spacy.prioritize_existing_ents_filter.v1"},
    "scorer": {"@scorers": "spacy.ner_scorer.v1"},
}


@Language.factory(
    "nerdistill",
    default_config=DEFAULTS,
    assigns=["doc.ents", "doc.spans", "token.ent_iob", "token.ent_type", "span._.score"],
    default_score_weights={"ents_f": 1.0, "ents_p": 0.0, "ents_r": 0.0, "ents_per_type": None},
)
def make_component(
    nlp: Language,
    name: str,
    bundle: str | None,
    threads: int | None,
    variant: Literal["fp32", "int8"] | None,
    backend: Literal["onnxruntime", "onnxruntime-cuda", "openvino", "openvino-bf16"],
    threshold: float,
    spans_key: str,
    ents_filter: Callable[[Iterable[Any], Iterable[Any]], Iterable[Any]],
    scorer: Callable[..., Any] | None,
) -> Any:
    """Make the component; the pipeline itself is not touched.

    Args:
        nlp: The pipeline that asks for it.
        name: Name of the component in that pipeline.
        bundle: Folder of a bundle to take weights from. A saved pipeline carries its weights, so this path need not exist where it is
            loaded; give it only where the component is first made, since it is written into the pipeline's config.
        threads: Threads of the network; None takes one in a worker process and every core elsewhere.
        variant: The network to take from a bundle; None takes the bundle's own choice, and ``fp32`` for OpenVINO.
        backend: What runs the network; see `nerdistill.runtime.backends`.
        threshold: Entities with a score below it are left out.
        spans_key: Name of the group in ``doc.spans`` that holds what was found, with ``attrs["scores"]``.
        ents_filter: Takes the entities that a doc has already and those that were found, and chooses; from spaCy's ``misc`` registry.
        scorer: From spaCy's ``scorers`` registry.

    Raises:
        ConfigError: A setting is out of range.
        BundleError: There is a folder at `bundle`, but it holds no sound bundle.
    """
    from nerdistill.pipeline.component import NerDistill

    return NerDistill(
        name,
        bundle=bundle,
        threads=threads,
        variant=variant,
        backend=backend,
        threshold=threshold,
        spans_key=spans_key,
        ents_filter=ents_filter,
        scorer=scorer,
    )
