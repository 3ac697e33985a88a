"""The spaCy component: a distilled student as an ordinary pipe that carries its own weights.

It reads the tokens of a doc as they are, so every entity aligns by construction; it needs no sentence boundaries, and text of any length
is windowed inside. It is not trainable here: students are trained by nerdistill.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any, Self

from spacy.pipeline import Pipe
from spacy.pipeline.span_ruler import prioritize_existing_ents_filter
from spacy.tokens import Doc, Span, SpanGroup

from nerdistill.errors import BundleError, ConfigError
from nerdistill.pipeline.transport import remember_codecs
from nerdistill.records import WordSpan
from nerdistill.runtime.backends import Backend, check_backend, open_for
from nerdistill.runtime.bundle import VARIANTS, Bundle, Variant, bundle_from_bytes
from nerdistill.runtime.tagger import Tagger

Filter = Callable[[Iterable[Span], Iterable[Span]], Iterable[Span]]

_TEXT = attrgetter("text")

WEIGHTS = "bundle"
"""What the weights are called on disk and in ``exclude``."""


class NerDistill(Pipe):
    """Finds entities and writes ``doc.ents``, ``doc.spans[spans_key]`` with scores, and through it ``span._.score``.

    Args:
        name: Name in the pipeline.
        bundle: A bundle folder to take weights from. If it does not exist, weights must come from `from_disk` or `from_bytes`.
        threads: Threads of the network; None takes one in a worker process and every core elsewhere.
        variant: ``fp32`` or ``int8``; None takes the bundle's own choice, and ``fp32`` for OpenVINO.
        backend: What runs the network; see `nerdistill.runtime.backends`.
        threshold: Entities with a score below it are left out.
        spans_key: Group of ``doc.spans`` for everything found, also what `ents_filter` kept out of ``doc.ents``.
        ents_filter: Chooses between the entities that a doc has (first argument) and those found (second).
        scorer: What `score` calls.

    Raises:
        ConfigError: A setting is out of range.
        BundleError: There is a folder at `bundle`, but it holds no sound bundle.
    """

    def __init__(
        self,
        name: str = "nerdistill",
        *,
        bundle: str | Path | None = None,
        threads: int | None = None,
        variant: Variant | None = None,
        backend: Backend = "onnxruntime",
        threshold: float = 0.0,
        spans_key: str = "nerdistill",
        ents_filter: Filter = prioritize_existing_ents_filter,
        scorer: Callable[..., Any] | None = None,
    ) -> None:
        _check(name, threads, variant, backend, threshold)
        self.name = name
        self.threads = threads
        self.variant = variant
        self.backend = backend
        self.threshold = threshold
        self.spans_key = spans_key
        self.ents_filter = ents_filter
        self.scorer = scorer
        self._source = None if bundle is None else str(bundle)
        self._bundle: Bundle | None = None
        self._tagger: Tagger | None = None
        _prepare_spacy()
        if bundle is not None and Path(bundle).is_dir():
            self.bundle = open_for(Path(bundle), variant, backend)

    @property
    def bundle(self) -> Bundle:
        """The weights.

        Raises:
            ConfigError: There are none yet.
        """
        if self._bundle is None:
            found = f"there is no bundle at '{self._source}'" if self._source else "no 'bundle' is set in its config"
            raise ConfigError(f"component '{self.name}' has no weights: {found}; name a bundle folder there, or load a saved pipeline")
        return self._bundle

    @bundle.setter
    def bundle(self, bundle: Bundle) -> None:
        if self.variant not in (None, bundle.variant):
            raise BundleError(f"component '{self.name}': the weights are {bundle.variant}, its config asks for {self.variant}")
        _check_backend(self.name, self.backend, bundle.variant)
        self._bundle = bundle
        self._tagger = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Entity types that it can find; none before it has weights."""
        return self._bundle.info.types if self._bundle else ()

    @property
    def label_data(self) -> list[str]:
        """The same as a list."""
        return list(self.labels)

    @property
    def cfg(self) -> dict[str, Any]:
        """The settings that are plain values."""
        names = ("threads", "variant", "backend", "threshold", "spans_key")
        return {name: getattr(self, name) for name in names}

    def __call__(self, doc: Doc) -> Doc:
        """Tag one doc; ``nlp(text)`` hands an error to the error handler itself."""
        self.set_annotations([doc], self.predict([doc]))
        return doc

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 128) -> Iterator[Doc]:
        """Tag a stream of docs, in order.

        Where a batch fails, its docs are tried one by one, and only those that fail go to the error handler.

        Args:
            stream: The docs.
            batch_size: Docs read ahead, so that those of like length share a call of the network.

        Raises:
            ConfigError: There are no weights.
        """
        self._tagging()  # missing or damaged weights are no fault of a doc
        handler = self.get_error_handler()
        ahead = iter(stream)
        while batch := list(islice(ahead, batch_size)):
            for doc, found in zip(batch, self._attempt(batch), strict=True):
                try:
                    if isinstance(found, Exception):
                        raise found
                    self.set_annotations([doc], [found])
                except Exception as error:
                    handler(self.name, self, [doc], error)
                else:
                    yield doc

    def _attempt(self, batch: list[Doc]) -> list[list[WordSpan] | Exception]:
        try:
            return [*self.predict(batch)]
        except Exception as error:
            if len(batch) == 1:
                return [error]
        return [result for doc in batch for result in self._attempt([doc])]

    def predict(self, docs: Iterable[Doc]) -> list[list[WordSpan]]:
        """Find entities without changing anything.

        Returns:
            For each doc, spans over its tokens, in order, not overlapping. White-space tokens are not shown to the model, so no span
            begins or ends on one.
        """
        words = [[*map(_TEXT, doc)] for doc in docs]
        places = {number: _visible(texts) for number, texts in enumerate(words) if any(map(str.isspace, texts))}
        for number, at in places.items():
            words[number] = [words[number][i] for i in at]
        found = self._tagging().tag_words(words)
        for number, at in places.items():
            found[number] = [WordSpan(at[span.start], at[span.stop - 1] + 1, span.label, span.score) for span in found[number]]
        return [[span for span in spans if span.score >= self.threshold] for spans in found] if self.threshold else found

    def set_annotations(self, docs: Iterable[Doc], found: Iterable[list[WordSpan]]) -> None:
        """Write what `predict` found; tokens that are blocked for entities stay so.

        Labels stay in the vocabulary when a memory zone ends, as those of spaCy's own components do: a doc that was made before the zone
        outlives it.
        """
        for doc, spans in zip(docs, found, strict=True):
            add = partial(doc.vocab.strings.add, allow_transient=False)  # type: ignore[call-arg]  # spaCy's stub lacks it
            group = [Span(doc, span.start, span.stop, label=add(span.label)) for span in spans]
            if doc.has_annotation("ENT_IOB"):
                self._set_beside(doc, group)
            else:  # nothing stands there yet and nothing found overlaps, so the usual filter would keep all
                usual = self.ents_filter is prioritize_existing_ents_filter
                doc.set_ents(group if usual else list(self.ents_filter((), group)), default="outside")
            attributes = {"scores": [float(span.score) for span in spans], "source": "nerdistill"}
            doc.spans[self.spans_key] = SpanGroup(doc, name=self.spans_key, attrs=attributes, spans=group)

    def _set_beside(self, doc: Doc, group: list[Span]) -> None:
        """Write entities into a doc that has some, or has tokens that are blocked for them."""
        blocked = [token.i for token in doc if token.ent_iob == 3 and not token.ent_type]
        free = [span for span in group if not any(span.start <= at < span.end for at in blocked)] if blocked else group
        doc.set_ents(list(self.ents_filter(doc.ents, free)), blocked=[doc[at : at + 1] for at in blocked], default="outside")

    def to_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> None:
        """Write the weights as a bundle under ``path/bundle``, unless ``bundle`` is excluded; settings are in the pipeline's config.

        Raises:
            ConfigError: There are no weights.
        """
        if WEIGHTS in exclude:
            return
        folder = Path(path) / WEIGHTS
        self.bundle.to_disk(folder)
        for name in set(VARIANTS.values()) - self.bundle.files.keys():
            (folder / name).unlink(missing_ok=True)  # of a pipeline that was saved there before

    def from_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> Self:
        """Read what `to_disk` wrote.

        Raises:
            BundleError: It is missing or damaged.
        """
        if WEIGHTS not in exclude:
            self.bundle = open_for(Path(path) / WEIGHTS, self.variant, self.backend)
        return self

    def to_bytes(self, *, exclude: Iterable[str] = ()) -> bytes:
        """What `to_disk` writes, as bytes."""
        return b"" if WEIGHTS in exclude else self.bundle.to_bytes()

    def from_bytes(self, raw: bytes, *, exclude: Iterable[str] = ()) -> Self:
        """The inverse of `to_bytes`.

        Raises:
            BundleError: They are not such bytes.
        """
        if raw and WEIGHTS not in exclude:
            self.bundle = bundle_from_bytes(raw)
        return self

    def __reduce__(self) -> tuple[Callable[..., NerDistill], tuple[type[NerDistill], str, dict[str, Any]]]:
        """Pickle settings and weights; the copy opens its own network, so it may go to a worker process."""
        state = {key: value for key, value in self.__dict__.items() if key not in ("name", "_tagger")}
        return _restore, (type(self), self.name, state)

    def _tagging(self) -> Tagger:
        """The open network; opened at first use, so that a worker opens its own."""
        if self._tagger is None:
            self._tagger = Tagger(self.bundle, self.threads, self.backend)
        return self._tagger


def _visible(texts: Sequence[str]) -> list[int]:
    """Indices of the texts that are more than white space."""
    return [at for at, text in enumerate(texts) if not text.isspace()]


def span_score(span: Span) -> float | None:
    """Getter of ``span._.score``: the score of an entity that the component found, None of any other span.

    The score is the geometric mean of the probabilities of its words' tags. It ranks, and is not calibrated.
    """
    for group in span.doc.spans.values():
        if group.attrs.get("source") == "nerdistill":
            at = bisect_left(group, span.start, key=lambda other: other.start)
            if at < len(group) and (group[at].start, group[at].end, group[at].label) == (span.start, span.end, span.label):
                return float(group.attrs["scores"][at])
    return None


def _prepare_spacy() -> None:
    """What the component needs once in a process, whichever way it came there."""
    remember_codecs()
    if not Span.has_extension("score"):
        Span.set_extension("score", getter=span_score)


def _restore(kind: type[NerDistill], name: str, state: dict[str, Any]) -> NerDistill:
    component = kind.__new__(kind)
    component.name = name
    component.__dict__.update(state, _tagger=None)
    _prepare_spacy()
    return component


def _check_backend(name: str, backend: str, variant: Variant | None) -> None:
    try:
        check_backend(backend, variant)
    except ConfigError as error:
        raise ConfigError(f"component '{name}': {error}") from None


def _check(name: str, threads: int | None, variant: Variant | None, backend: str, threshold: float) -> None:
    if threads is not None and threads < 1:
        raise ConfigError(f"component '{name}': threads = {threads}, expected 1 or more, or null")
    if variant is not None and variant not in VARIANTS:
        raise ConfigError(f"component '{name}': variant = '{variant}', expected one of {', '.join(VARIANTS)}, or null")
    _check_backend(name, backend, variant)
    if not 0 <= threshold <= 1:
        raise ConfigError(f"component '{name}': threshold = {threshold}, expected a number from 0 to 1")
