"""The first step: read, map and clean all text that may be learnt from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nerdistill.config import RunConfig, SourceFormat, TransferSource
from nerdistill.corpus.augment import Names, names_in, read_names, swap_entities
from nerdistill.corpus.labelmap import LabelMap
from nerdistill.corpus.language_id import ANY, Dropped, FastText, Screen, accepted_codes, confusions
from nerdistill.corpus.readers import ReadOptions, read
from nerdistill.corpus.replace import Candidates, MaskedModel, masked_words, neighbours, replace_words, words_outside
from nerdistill.corpus.splits import digests, distinct, evenly, split_by_content, without
from nerdistill.errors import ConfigError, DataError
from nerdistill.labels import LabelScheme, spans_of
from nerdistill.records import Sentence, labelled
from nerdistill.text.encoder import WordTable

DEV_FRACTION = 0.1

Keep = Callable[[Iterable[Sentence]], list[Sentence]]
"""Chooses from the sentences of a file."""


@dataclass(frozen=True)
class RunData:
    """What a run learns from. There is no test set here.

    Attributes:
        scheme: Tags.
        train: Labelled sentences.
        dev: Held-out labelled sentences, which choose between weights.
        transfer: Unlabelled sentences.
        counts: What was read, made and dropped, for the report.
        dropped: Unlabelled sentences that language identification left out.
    """

    scheme: LabelScheme
    train: tuple[Sentence, ...]
    dev: tuple[Sentence, ...]
    transfer: tuple[Sentence, ...]
    counts: dict[str, int] = field(default_factory=dict)
    dropped: tuple[Dropped, ...] = ()

    @property
    def dropped_by_language(self) -> dict[str, dict[str, int]]:
        """How many of these there are: expected language to found code to number."""
        return confusions(self.dropped)


def prepare(config: RunConfig) -> RunData:
    """Read everything but the test set, and drop from it every sentence that a held-out set also has.

    Raises:
        DataError: A file is missing or malformed.
        ConfigError: The types do not fit the files, language identification knows nothing of a language, or a masked language model is
            asked for and the named one is none.
        MissingExtraError: Language identification is asked for and not installed.
    """
    scheme = LabelScheme(config.data.types)
    train, dev = _labelled(config)
    test = digests(read_test(config, labelled=False))
    held_out = test | digests(dev)
    kept = without(train, held_out)
    screen = _screen(config)
    replaced = _replaced(config, kept)
    transfer = [*_transfer(config, screen), *_swapped(config, kept), *replaced]
    clean = without(distinct(transfer), held_out)
    if not kept or not dev:
        raise DataError(f"{len(kept)} training and {len(dev)} dev sentences are left; both are needed")
    counts = {
        "train_sentences": len(kept),
        "train_words": sum(len(sentence.words) for sentence in kept),
        "train_dropped_as_held_out": len(train) - len(kept),
        "dev_sentences": len(dev),
        "transfer_sentences": len(clean),
        "transfer_words": sum(len(sentence.words) for sentence in clean),
        "transfer_dropped_as_repeated_or_held_out": len(transfer) - len(clean),
        "transfer_dropped_by_language_id": len(screen.dropped),
        "transfer_too_short_for_language_id": screen.unjudged,
        "transfer_replaced": len(replaced),
    }
    return RunData(scheme, tuple(kept), tuple(dev), tuple(clean), counts, tuple(screen.dropped))


def read_test(config: RunConfig, labelled: bool = True) -> list[Sentence]:
    """The test set, for scoring; `prepare` takes only its words, to keep them out of training."""
    source = config.data.labelled[0].model_copy(update={"languages": ()})
    return _read_all(config, source, config.evaluation.test, config.evaluation.limit, labelled)


def _labelled(config: RunConfig) -> tuple[list[Sentence], list[Sentence]]:
    train: list[Sentence] = []
    dev: list[Sentence] = []
    for source in config.data.labelled:
        found = _read_all(config, source, source.train, source.train_limit, True)
        if source.dev:
            held = _read_all(config, source, source.dev, source.dev_limit, True)
        else:
            found, held = split_by_content(found, DEV_FRACTION, "dev")
        train += found
        dev += held
    return train, dev


def _screen(config: RunConfig) -> Screen:
    settings = config.data.language_id
    identifier = FastText(Path(config.data.root) / settings.model if settings.model else None)
    return Screen(identifier, accepted_codes(config.data.languages, settings.also), settings.min_probability)


def _transfer(config: RunConfig, screen: Screen) -> list[Sentence]:
    sentences: list[Sentence] = []
    for source in config.data.transfer:
        if source.language_id == "route":
            sentences += _routed(config, source, screen)
        else:
            keep = screen.filter if source.language_id == "filter" else None
            sentences += _read_all(config, source, source.path, source.limit, False, keep)
    return sentences


def _routed(config: RunConfig, source: TransferSource, screen: Screen) -> list[Sentence]:
    languages = _languages(config, source, source.path)
    found = screen.route(_read(config, source, source.path, ANY, False), languages)
    parts = ([sentence for sentence in found if sentence.language == language] for language in languages)
    return [sentence for part in parts for sentence in evenly(part, source.limit)]


def _swapped(config: RunConfig, train: Sequence[Sentence]) -> list[Sentence]:
    copies = config.data.swap.copies
    return swap_entities(train, _names(config, train), copies, config.seed) if copies else []


def _names(config: RunConfig, train: Sequence[Sentence]) -> Names:
    names, path = names_in(train), config.data.swap.names
    for language in config.data.languages if path else ():
        for key, more in read_names(_path(config, path, language), language, config.data.types).items():
            names[key] = list(dict.fromkeys([*names.get(key, []), *more]))
    return names


def _replaced(config: RunConfig, train: Sequence[Sentence]) -> list[Sentence]:
    """Without tags, the entities of those that have any swapped once if entities are swapped at all."""
    settings = config.data.replace
    if not settings.copies:
        return []
    made = replace_words(train, _candidates(config, train), settings.copies, settings.probability, config.seed)
    swapped: list[Sentence] = []
    if config.data.swap.copies:
        swapped = swap_entities(made, _names(config, train), 1, config.seed + 1)  # other names than those of `_swapped`
        made = [sentence for sentence, tags in labelled(made) if not spans_of(tags)]
    return [*(replace(sentence, tags=None) for sentence in made), *swapped]


def _candidates(config: RunConfig, train: Sequence[Sentence]) -> Candidates:
    # Only here: most runs read their data without a model.
    from nerdistill.teachers.huggingface import load_masked_lm, load_pieces, load_table, resolve

    settings = config.data.replace
    model, revision = (settings.model, None) if settings.model else (config.teacher.model, config.teacher.revision)
    source, words = resolve(model), words_outside(train)
    pieces = load_pieces(source, revision)
    table = WordTable(pieces.tokenizer, pieces.unk_id, pieces.pad_id)
    if settings.source == "masked_lm":
        remedy = "name one in data.replace.model, such as 'bert-base-multilingual-cased', or set source = 'neighbours'"
        masked = load_masked_lm(source, "data.replace.source = 'masked_lm'", remedy, revision)
        reader = MaskedModel(masked.network, table, pieces.bos_id, pieces.eos_id, masked.mask_id, pieces.limit)
        return masked_words(words, reader, settings.candidates)
    return neighbours(words, table, load_table(source, revision).numpy(), settings.candidates)


def _path(config: RunConfig, template: str, language: str) -> Path:
    return Path(config.data.root) / template.replace("{lang}", language)


def _read_all(
    config: RunConfig, source: SourceFormat, template: str, limit: int, labelled: bool, keep: Keep | None = None
) -> list[Sentence]:
    label_map = LabelMap(config.data.types, source.label_map, source.unannotated)
    sentences: list[Sentence] = []
    for language in _languages(config, source, template):
        found = _read(config, source, template, language, labelled)
        part = evenly(keep(found) if keep else found, limit)
        sentences += _mapped(part, label_map.apply) if labelled else part
    return sentences


def _languages(config: RunConfig, source: SourceFormat, template: str) -> tuple[str, ...]:
    languages = source.languages or config.data.languages
    strangers = [language for language in languages if language not in config.data.languages]
    if strangers:
        raise ConfigError(f"'{template}' has the languages {strangers}, which data.languages does not name")
    return languages


def _read(config: RunConfig, source: SourceFormat, template: str, language: str, labelled: bool) -> list[Sentence]:
    options = ReadOptions(
        language=language,
        columns=source.columns,
        encoding=source.encoding,
        scheme=source.scheme,
        tag_names=source.tag_names,
        labelled=labelled,
    )
    place = template.replace("{lang}", language) if source.format == "hub" else _path(config, template, language)
    return read(place, source.format, options)


def _mapped(sentences: Iterable[Sentence], apply: Callable[[Sentence], Sentence]) -> list[Sentence]:
    return [apply(sentence) for sentence in sentences]
