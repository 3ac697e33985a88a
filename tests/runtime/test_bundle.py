"""Tests of `nerdistill.runtime.bundle`: what is whole opens, what is damaged or hostile is refused and named."""

from __future__ import annotations

import io
import json
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nerdistill.errors import BundleError
from nerdistill.runtime.bundle import CARD, FORMAT, INFO, TOKENIZER, VARIANTS, Bundle, bundle_from_bytes, open_bundle
from nerdistill.runtime.tagger import Tagger
from nerdistill.text.splitter import NAME


def edit(path: Path, **changes: Any) -> None:
    """Change fields of the description; None takes one out."""
    content = json.loads((path / INFO).read_text()) | changes
    (path / INFO).write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def flip(file: Path, at: int = -1) -> None:
    """Flip one bit of a file."""
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


def refusal(path: Path, **arguments: Any) -> str:
    """What is said of a bundle that is refused."""
    with pytest.raises(BundleError) as caught:
        open_bundle(path, **arguments)
    assert caught.value.exit_code == 5
    return str(caught.value)


@pytest.mark.parametrize("name", [TOKENIZER, VARIANTS["fp32"], CARD])
class TestFiles:
    def test_missing(self, bundle_path: Path, name: str) -> None:
        """Prevents a bundle from being half loaded where a copy was incomplete."""
        (bundle_path / name).unlink()
        assert refusal(bundle_path, variant="fp32") == f"{bundle_path / name}: missing, but {INFO} lists it; copy the whole folder"

    @pytest.mark.parametrize("at", [0, 40, -1])
    def test_one_bit_flipped(self, bundle_path: Path, name: str, at: int) -> None:
        """Prevents wrong tags from weights that a disk or a download changed."""
        expected = json.loads((bundle_path / INFO).read_text())["digests"][name][:12]
        flip(bundle_path / name, at)
        text = refusal(bundle_path, variant="fp32")
        assert text.startswith(f"{bundle_path / name}: damaged (sha256 ")
        assert f"expected {expected}" in text

    def test_truncated(self, bundle_path: Path, name: str) -> None:
        """Prevents the same for a full disk."""
        content = (bundle_path / name).read_bytes()
        (bundle_path / name).write_bytes(content[: len(content) // 2])
        assert "damaged" in refusal(bundle_path, variant="fp32")

    def test_symbolic_link(self, bundle_path: Path, name: str, tmp_path: Path) -> None:
        """Prevents a bundle from reaching for files outside its folder, even for ones of the right content."""
        (bundle_path / name).rename(tmp_path / "outside")
        (bundle_path / name).symlink_to(tmp_path / "outside")
        assert refusal(bundle_path, variant="fp32").startswith(f"{bundle_path / name}: found a symbolic link, expected a plain file")

    def test_folder_in_its_place(self, bundle_path: Path, name: str) -> None:
        """Prevents a traceback for what is no file."""
        (bundle_path / name).unlink()
        (bundle_path / name).mkdir()
        assert str(bundle_path / name) in refusal(bundle_path, variant="fp32")

    def test_not_listed(self, bundle_path: Path, name: str) -> None:
        """Prevents a file without a digest, which could be anything, from being read; only the card may be left out."""
        digests = json.loads((bundle_path / INFO).read_text())["digests"]
        edit(bundle_path, digests={key: value for key, value in digests.items() if key != name})
        if name == CARD:
            assert CARD not in open_bundle(bundle_path).files
        else:
            assert str(bundle_path) in refusal(bundle_path, variant="fp32")


class TestDescription:
    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"format": FORMAT + 1}, [f"bundle format {FORMAT + 1}, this version reads format {FORMAT}"]),
            ({"format": "1"}, ["bundle format 1"]),
            ({"format": None}, ["not a bundle description", "format"]),
            ({"splitter": "unicode-9"}, ["the word splitter 'unicode-9'", f"this version has '{NAME}'"]),
            ({"auto_map": {"model": "evil.py"}}, ["'auto_map'", "Extra inputs"]),
            ({"types": []}, ["'types'"]),
            ({"types": ["PER", "PER"]}, ["'types'", "distinct"]),
            ({"types": [""]}, ["'types'"]),
            ({"types": ["T"] * 5000}, ["'types'"]),
            ({"name": "../../evil"}, ["'name'"]),
            ({"version": "1"}, ["'version'"]),
            ({"inputs": "sentences"}, ["'inputs'"]),
            ({"window": 1 << 40}, ["'window'"]),
            ({"window": 0}, ["'window'"]),
            ({"max_pieces": 1 << 30}, ["'max_pieces'"]),
            ({"unk_id": -1}, ["'unk_id'"]),
            ({"pad_id": 1 << 40}, ["'pad_id'"]),
            ({"bos_id": -5}, ["'bos_id'"]),
            ({"variant": "int4"}, ["'variant'"]),
            ({"digests": None}, ["'digests'", "required"]),
            ({"digests": {TOKENIZER: 3}}, ["'digests.tokenizer.json'"]),
        ],
    )
    def test_fields(self, bundle_path: Path, changes: dict[str, Any], says: list[str]) -> None:
        """Prevents a newer, foreign or hostile description from being half understood; the message names file, found and expected."""
        edit(bundle_path, **changes)
        text = refusal(bundle_path)
        assert text.startswith(str(bundle_path / INFO))
        for part in says:
            assert part in text

    @pytest.mark.parametrize(
        "content", [b"", b"[]", b"null", b'"format"', b'{"format": 1', b"\xff\xfe", b"[" * 200_000, b'{"format":' * 100_000, b"1" * 5000]
    )
    def test_no_description(self, bundle_path: Path, content: bytes) -> None:
        """Prevents a traceback over what is not JSON, is another value, or is nested to exhaust the stack."""
        (bundle_path / INFO).write_bytes(content)
        assert refusal(bundle_path).startswith(f"{bundle_path / INFO}: not a bundle description")

    def test_symbolic_link(self, bundle_path: Path, tmp_path: Path) -> None:
        """Prevents the description, which all digests are in, from standing elsewhere."""
        (bundle_path / INFO).rename(tmp_path / "outside")
        (bundle_path / INFO).symlink_to(tmp_path / "outside")
        assert "symbolic link" in refusal(bundle_path)

    def test_names_in_it_are_no_paths(self, bundle_path: Path, tmp_path: Path) -> None:
        """Prevents a description from having files outside the folder read."""
        (tmp_path / "secret").write_text("secret")
        digests = json.loads((bundle_path / INFO).read_text())["digests"]
        edit(bundle_path, digests=digests | {"../secret": "00", "/etc/passwd": "00"})
        assert set(open_bundle(bundle_path, "fp32").files) == {TOKENIZER, CARD, VARIANTS["fp32"]}


class TestFolder:
    def test_a_pickle_is_not_opened(self, tmp_path: Path) -> None:
        """Prevents code in a pickle from running; the message says what to do instead."""

        class Evil:
            def __reduce__(self) -> tuple[Callable[..., Any], tuple[Path]]:
                return Path.touch, (tmp_path / "ran",)

        (tmp_path / "model").mkdir()
        for name in ("pytorch_model.bin", "model.pt", "model.pkl"):
            (tmp_path / "model" / name).write_bytes(pickle.dumps(Evil()))
            assert "a pickle is never opened; export the student" in refusal(tmp_path / "model")
            assert not (tmp_path / "ran").exists()
            (tmp_path / "model" / name).unlink()

    @pytest.mark.parametrize("what", ["nothing", "empty", "file"])
    def test_no_bundle(self, tmp_path: Path, what: str) -> None:
        """Prevents a traceback for a misspelt path."""
        path = tmp_path / "bundel"
        if what == "empty":
            path.mkdir()
        if what == "file":
            path.write_text("{}")
        assert refusal(path).startswith(f"{path}: no {INFO} in it; expected a folder written by nerdistill")

    def test_a_variant_that_is_not_there(self, bundle_path: Path) -> None:
        """Prevents float32 from being served where 8 bits were asked for, without a word."""
        digests = json.loads((bundle_path / INFO).read_text())["digests"]
        del digests[VARIANTS["int8"]]
        edit(bundle_path, digests=digests, variant="fp32")
        assert "has no int8 network; it offers fp32" in refusal(bundle_path, variant="int8")

    def test_what_is_not_needed_may_be_gone(self, bundle_path: Path) -> None:
        """Prevents serving from needing the weights for training, or the other network."""
        (bundle_path / "model.safetensors").unlink()
        (bundle_path / VARIANTS["int8"]).unlink()
        assert Tagger(open_bundle(bundle_path, "fp32"))("Anna")

    @pytest.mark.parametrize("variant", ["fp32", "int8", None])
    def test_round_trips(self, bundle_path: Path, tmp_path: Path, variant: Any) -> None:
        """Prevents a bundle from changing on its way through another folder or bytes; only one network goes along."""
        bundle = open_bundle(bundle_path, variant)
        bundle.to_disk(tmp_path / "copy")
        for copy in (open_bundle(tmp_path / "copy"), bundle_from_bytes(bundle.to_bytes())):
            assert copy.files == bundle.files
            assert copy.variant == copy.info.variant == bundle.variant == (variant or bundle.info.variant)
            assert copy.info.model_dump(exclude={"digests", "variant"}) == bundle.info.model_dump(exclude={"digests", "variant"})
        assert len([name for name in bundle.files if name in VARIANTS.values()]) == 1
        assert bundle.to_bytes() == bundle_from_bytes(bundle.to_bytes()).to_bytes()


class TestBytes:
    @pytest.fixture
    def bundle(self, bundle_path: Path) -> Bundle:
        """A sound bundle."""
        return open_bundle(bundle_path, "fp32")

    @staticmethod
    def pack(members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
        """An archive of these members."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", compression) as archive:
            for name, content in members:
                archive.writestr(name, content)
        return buffer.getvalue()

    def members(self, bundle: Bundle) -> list[tuple[str, bytes]]:
        """Those of a sound archive."""
        with zipfile.ZipFile(io.BytesIO(bundle.to_bytes())) as archive:
            return [(name, archive.read(name)) for name in archive.namelist()]

    @pytest.mark.parametrize("name", ["../evil.json", "/etc/evil", "evil.pkl", "sub/model.onnx", "..\\evil"])
    def test_members_from_elsewhere(self, bundle: Bundle, name: str) -> None:
        """Prevents an archive from bringing along what does not belong to a bundle."""
        with pytest.raises(BundleError, match=r"packed bundle: found the members .*expected some of"):
            bundle_from_bytes(self.pack([*self.members(bundle), (name, b"evil")]))

    @pytest.mark.filterwarnings("ignore:Duplicate name")
    def test_two_members_of_one_name(self, bundle: Bundle) -> None:
        """Prevents two readers of one archive from seeing different weights."""
        members = self.members(bundle)
        with pytest.raises(BundleError, match="found the members"):
            bundle_from_bytes(self.pack([*members, members[-1]]))

    def test_compressed_members(self, bundle: Bundle) -> None:
        """Prevents a few kilobytes from unpacking to gigabytes."""
        with pytest.raises(BundleError, match="found compressed members"):
            bundle_from_bytes(self.pack([*self.members(bundle), (VARIANTS["int8"], bytes(1000))], zipfile.ZIP_DEFLATED))

    @pytest.mark.parametrize("missing", [INFO, TOKENIZER, VARIANTS["fp32"]])
    def test_missing_members(self, bundle: Bundle, missing: str) -> None:
        """Prevents half a bundle."""
        with pytest.raises(BundleError, match=missing.replace(".", r"\.")):
            bundle_from_bytes(self.pack([member for member in self.members(bundle) if member[0] != missing]))

    @pytest.mark.parametrize("raw", [b"", b"PK", b"\x80\x04N.", b"x" * 1000])
    def test_something_else(self, raw: bytes) -> None:
        """Prevents a traceback, or an unpickling, of other bytes."""
        with pytest.raises(BundleError, match=r"packed bundle: .*expected bytes made by to_bytes"):
            bundle_from_bytes(raw)

    def test_truncated_anywhere(self, bundle: Bundle) -> None:
        """Prevents half a download from opening, or from ending in a traceback."""
        raw = bundle.to_bytes()
        for stop in [*range(0, len(raw), len(raw) // 100), *range(len(raw) - 300, len(raw))]:
            with pytest.raises(BundleError):
                bundle_from_bytes(raw[:stop])

    def test_any_byte_changed(self, bundle: Bundle) -> None:
        """Prevents a changed byte from changing what is served, or from ending in a traceback: anywhere, the directory above all."""
        raw = bundle.to_bytes()
        expected = bundle_from_bytes(raw)
        choose = random.Random(1)
        heads = [at for at in range(len(raw)) if raw.startswith(b"PK\x03\x04", at)]
        places = [*range(len(raw) - 400, len(raw)), *(at + i for at in heads for i in range(50)), *choose.sample(range(len(raw)), 200)]
        for at in places:
            changed = bytearray(raw)
            changed[at] ^= choose.randint(1, 255)
            try:
                found = bundle_from_bytes(bytes(changed))
            except BundleError:
                continue
            assert found == expected
