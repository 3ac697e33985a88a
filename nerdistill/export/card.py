"""The model card: what a stranger needs to know of a bundle, with the front matter that model hubs read."""

from __future__ import annotations

import json

from nerdistill.runtime.bundle import BundleInfo


def model_card(info: BundleInfo) -> str:
    """The card as Markdown."""
    scores = info.metrics.get("f1_by_language", {})
    front = [
        "---",
        f"language: {json.dumps(list(info.languages))}",
        f"license: {json.dumps(info.provenance.get('licence', 'other'))}",
        "library_name: nerdistill",
        "pipeline_tag: token-classification",
        "tags: [spacy, named-entity-recognition, distillation]",
        f"base_model: {json.dumps(info.provenance.get('teacher', 'unknown'))}",
        "---",
    ]
    body = [
        f"# {info.name} {info.version}",
        "",
        f"Finds {', '.join(info.types)} in {len(info.languages)} languages: {', '.join(info.languages)}.",
        f"{info.parameters:,} parameters ({info.student.get('kind', 'student')}), distilled from "
        f"`{info.provenance.get('teacher', 'unknown')}`.",
        "",
        "```python",
        "import nerdistill",
        'tagger = nerdistill.load("path/to/this/folder")',
        'tagger("...")',
        "```",
        "",
        f"Raw text is split into words by the rule `{info.splitter}`. The score of an entity is the geometric mean of its words' tag "
        "probabilities; it ranks, and is not calibrated.",
        "",
    ]
    if scores:
        body += ["## Test scores (strict entity F1)", "", "| language | F1 |", "|---|---:|"]
        body += [f"| {language} | {100 * value:.1f} |" for language, value in sorted(scores.items())]
        body.append("")
    if info.gate:
        verdict = "passed" if info.gate["passed"] else "refused"
        body += [
            f"8-bit network: {verdict}; the largest loss against float32 on held-out text is "
            f"{100 * info.gate['worst_loss']:.2f} points ({info.gate['worst_language']}), allowed {100 * info.gate['tolerance']:.2f}.",
            "",
        ]
    body += ["## Made from", "", "```json", json.dumps(info.provenance, indent=2, ensure_ascii=False, sort_keys=True), "```", ""]
    return "\n".join([*front, "", *body])
