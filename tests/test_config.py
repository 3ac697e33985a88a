"""Tests of `nerdistill.config`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nerdistill.config import load_config
from nerdistill.errors import ConfigError

GOOD = """
name = "run"
[data]
languages = ["no", "de"]
types = ["PER"]
[[data.labelled]]
train = "{lang}/train.conll"
[teacher]
model = "some/model"
[evaluation]
test = "{lang}/test.conll"
"""

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a configuration and give its path."""

    def make(content: str) -> Path:
        path = tmp_path / "configs" / "run.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")
        return path

    return make


def faults(path: Path, *overrides: str) -> str:
    """What is said of a configuration that is refused."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_norwegian_is_no_falsehood(write: Write) -> None:
    """Prevents the language code ``no`` from becoming False, in the file and on the command line."""
    assert load_config(write(GOOD)).data.languages == ("no", "de")
    assert load_config(write(GOOD), ["package.language=no"]).package.language == "no"
    assert load_config(write(GOOD), ['data.languages=["no"]']).data.languages == ("no",)


@pytest.mark.parametrize(
    ("line", "key"),
    [("[teecher]\nmodel = 'x'", "teecher"), ("[student]\npices = 3", "student.pices"), ("[data.swap]\ncopy = 1", "data.swap.copy")],
)
def test_unknown_keys_are_refused(write: Write, line: str, key: str) -> None:
    """Prevents a misspelt setting from being ignored for a whole training."""
    assert f"{key}: Extra inputs are not permitted" in faults(write(f"{GOOD}\n{line}\n"))


def test_unknown_key_in_a_source(write: Write) -> None:
    """Prevents the same in a list of sources; the message says in which."""
    text = faults(write(GOOD.replace("[teacher]", "trian_limit = 3\n[teacher]")))
    assert "data.labelled.0.trian_limit" in text


def test_all_faults_at_once(write: Write) -> None:
    """Prevents a user from finding faults one run at a time."""
    bad = GOOD.replace('name = "run"', 'name = "../run"').replace(
        "[teacher]", "train_limit = -1\n[teacher]\nepochs = 0\nprecision = 'half'"
    )
    text = faults(write(bad), "signals.width=5000", "student.kind=3")
    assert "faults\n" in text
    for key in ("name", "data.labelled.0.train_limit", "teacher.epochs", "teacher.precision", "signals.width", "student.kind"):
        assert f"\n  {key}: " in text


def test_an_empty_file_says_what_is_missing(write: Write) -> None:
    """Prevents a first user from guessing which sections a run needs."""
    text = faults(write(""))
    for key in ("name", "data.languages", "data.types", "data.labelled", "teacher", "evaluation"):
        assert f"\n  {key}: Field required" in text


def test_bad_toml_names_the_place(write: Write) -> None:
    """Prevents a traceback of the parser."""
    text = faults(write("name = 'a'\nseed = = 2"))
    assert "run.toml: not valid TOML" in text
    assert "line 2" in text


def test_what_is_no_text_or_no_file(write: Write, tmp_path: Path) -> None:
    """Prevents a traceback where the file is missing, is a folder, or is not UTF-8."""
    assert "cannot be read" in faults(tmp_path / "nowhere.toml")
    assert "cannot be read" in faults(tmp_path)
    path = write(GOOD)
    path.write_bytes(b"name = 'a\xff'")
    assert "not valid TOML" in faults(path)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("data.languages=['de', 'de']", "languages repeats an entry"),
        ("data.types=['PER', 'PER']", "types repeats an entry"),
        ("data.languages=[]", "data.languages"),
        ("data.alpha=1.5", "data.alpha"),
        ("teacher.learning_rate=inf", "teacher.learning_rate: Input should be a finite number"),
        ("data.alpha=nan", "data.alpha"),
        ("data.root=3", "data.root: Input should be a valid string"),
        ("data=3", "data: "),
    ],
)
def test_values_that_cannot_be_meant(write: Write, line: str, says: str) -> None:
    """Prevents a run that fails late, or learns from a language twice."""
    assert says in faults(write(GOOD), line)


def test_several_languages_need_a_placeholder(write: Write) -> None:
    """Prevents every language from reading the same file."""
    fixed = GOOD.replace('"{lang}/train.conll"', '"de/train.conll"')
    assert "every path needs {lang} in it, found ['de/train.conll']" in faults(write(fixed))
    assert load_config(write(fixed), ["data.languages=['de']"]).data.labelled[0].train == "de/train.conll"


class TestOverrides:
    def test_later_ones_win(self, write: Write) -> None:
        """Prevents a command line that seems to be ignored."""
        assert load_config(write(GOOD), ["teacher.epochs=2", "teacher.epochs = 5"]).teacher.epochs == 5

    def test_values_are_toml(self, write: Write) -> None:
        """Prevents a number or a list from arriving as a string, and a bare word from needing quotes inside quotes."""
        config = load_config(
            write(GOOD), ["seed=3", "teacher.model=bert-base", "student.options={hidden_width = 8}", "student.options.x=true"]
        )
        assert (config.seed, config.teacher.model, config.student.options) == (3, "bert-base", {"hidden_width": 8, "x": True})

    def test_a_value_may_hold_an_equals_sign(self, write: Write) -> None:
        """Prevents a path with ``=`` from being cut."""
        assert load_config(write(GOOD), ["evaluation.test=a=b/{lang}"]).evaluation.test == "a=b/{lang}"

    @pytest.mark.parametrize("text", ["teacher.epochs", "=3", "name.x=1", "data.labelled.train=x", "seed.a.b=1"])
    def test_what_is_no_setting(self, write: Write, text: str) -> None:
        """Prevents a malformed option from being dropped, or from ending in a traceback."""
        path = write("seed = 1\n" + GOOD)
        assert text in faults(path, text)

    def test_unknown_keys_are_refused_here_too(self, write: Write) -> None:
        """Prevents a misspelt option from making a section that nobody reads."""
        assert "teecher" in faults(write(GOOD), "teecher.epochs=3")


class TestDataRoot:
    def test_is_relative_to_the_file(self, write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Prevents data from being looked for where the command happens to be started."""
        monkeypatch.chdir("/")
        assert load_config(write(GOOD)).data.root == str(tmp_path / "configs")
        assert load_config(write(GOOD), ["data.root=../corpora"]).data.root == str(tmp_path / "corpora")

    def test_an_absolute_one_stays(self, write: Write, tmp_path: Path) -> None:
        """Prevents an absolute path from being joined to the file's folder."""
        assert load_config(write(GOOD), [f"data.root={tmp_path / 'far'}"]).data.root == str(tmp_path / "far")

    def test_the_option_wins_and_is_relative_to_here(self, write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Prevents ``--data-root here`` from meaning a folder beside the configuration."""
        monkeypatch.chdir(tmp_path)
        found = load_config(write(GOOD), ["data.root=other"], Path("here"))
        assert found.data.root == str(tmp_path / "here")


def test_a_configuration_cannot_change(write: Write) -> None:
    """Prevents a step from running with other settings than its fingerprint says."""
    config = load_config(write(GOOD))
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 2  # type: ignore[misc]
