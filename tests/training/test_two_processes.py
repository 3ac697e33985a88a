"""Two processes that learn together take the steps that one takes, decide alike, write once, and continue where they were."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from tests.toy_run import write_toy_run
from tests.training import two_processes
from tests.training.two_processes import NO_CHANCE, learn, read_vocabulary, whole_run

ROUNDING = 1e-3
"""Of a loss. Sums in another order, after up to a hundred steps of an optimiser that divides by the size of the gradient."""


@dataclass(frozen=True)
class Both:
    """The same work done by one process and by two.

    Attributes:
        config: Of the run.
        one: Folder of what one process did: ``stage`` and ``whole``.
        two: Of what two did; ``broken`` too.
        weights: That one process learnt in the stage.
        told: What each of the two says at the end.
    """

    config: Path
    one: Path
    two: Path
    weights: Mapping[str, Tensor]
    told: tuple[dict[str, Any], dict[str, Any]]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Both:
    """One launch for all tests here: most of its time goes into loading torch twice."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("processes")
    config = write_toy_run(root, tokenizer)
    settings = root / "teacher" / "config.json"
    network = json.loads(settings.read_text()) | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    settings.write_text(json.dumps(network))
    one, two = root / "one", root / "two"
    two.mkdir()
    command = [sys.executable, two_processes.__file__, str(config), str(two)]
    started = [
        subprocess.Popen(command, env=launched(rank, port), stderr=subprocess.PIPE, text=True)
        for port in [free_port()]
        for rank in range(2)
    ]
    try:
        weights = learn(read_vocabulary(config), one / "stage", Accelerator(cpu=True))
        whole_run(config, one / "whole")
        errors = [process.communicate(timeout=480)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], "\n\n".join(errors)[-4000:]
    first, second = (json.loads((two / f"process-{rank}.json").read_text()) for rank in range(2))
    return Both(config, one, two, weights, (first, second))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def launched(rank: int, port: int) -> dict[str, str]:
    """What a launcher tells a process."""
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    paths = {"PYTHONPATH": str(Path(__file__).parents[2]), "MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    return {**os.environ, **{name: str(value) for name, value in told.items()}, **paths, "OMP_NUM_THREADS": "1"}


def events(folder: Path, *kinds: str) -> dict[tuple[str, ...], dict[str, Any]]:
    """What the log tells, by what it is of; the same event twice is an error."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    keys = [tuple(str(line.get(key)) for key in ("event", "run", "stage", "step", "words")) for line in lines]
    assert not [key for key, number in Counter(keys).items() if number > 1], "told twice"
    return {key: line for key, line in zip(keys, lines, strict=True) if line["event"] in kinds}


def curve(folder: Path) -> dict[tuple[str, ...], float]:
    """Losses and scores at their steps."""
    told = events(folder, "step", "eval", "stage_end")
    values = {key: next((line[name] for name in ("loss", "dev_f1", "held_out_loss", "best") if line.get(name) is not None), 0.0)
              for key, line in told.items()}  # fmt: skip
    assert values
    return values


def folders(run: Path) -> set[str]:
    """Names of everything that a run keeps under a fingerprint."""
    return {str(path.relative_to(run)) for path in [*run.glob("*-????????"), *run.glob("stages/*")]}


def test_shares_of_a_batch_add_up_to_the_batch(both: Both) -> None:
    """A mean over processes of means over their words, a share that is left out, or gradients summed at every pass: other losses."""
    assert curve(both.two / "stage") == pytest.approx(curve(both.one / "stage"), rel=1e-4)
    first, second = (told["weights"] for told in both.told)
    assert first == second
    assert first.keys() == both.weights.keys()
    for name, weight in both.weights.items():
        torch.testing.assert_close(torch.tensor(first[name]), weight.detach(), rtol=1e-2, atol=1e-3)


def test_the_whole_way_is_that_of_one_process(both: Both) -> None:
    """Another learning rate, another text in a step, or a decision that each process takes by itself: another run under the same name."""
    one, two = both.one / "whole", both.two / "whole"
    assert folders(one) == folders(two)
    assert curve(two) == pytest.approx(curve(one), rel=ROUNDING, abs=2e-5)
    ours, theirs = (load_file(run / "bundle" / "model.safetensors") for run in (one, two))
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        torch.testing.assert_close(theirs[name], weight, rtol=0.05, atol=0.01)
    scores = [
        {row["system"]: row["f1_by_language"] for row in json.loads((run / "results.json").read_text())["rows"]} for run in (one, two)
    ]
    for system, by_language in scores[0].items():
        assert scores[1][system] == pytest.approx(by_language, abs=0.1), system  # one word of a toy test set may fall the other way


def test_one_process_writes_and_all_know_the_result(both: Both) -> None:
    """Two writers mix their lines in the log and delete each other's folders; helpers that go on alone would score a half-made student."""
    run = both.two / "whole"
    assert both.told[0]["rows"] == both.told[1]["rows"] == json.loads((run / "results.json").read_text())["rows"]
    ends = events(run, "stage_end")
    assert len(ends) == len(list((run / "stages").iterdir())) + 1, "a stage, or the teacher, has no end of its own"
    assert len(list((run / "dist").glob("*.whl"))) == 1
    left = [str(path.relative_to(run)) for path in run.rglob("*") if path.name.endswith((".part", ".old", "-checkpoint"))]
    assert left == []
    assert json.loads((run / "results.json").read_text())["machine"]["processes"] == 2
    assert "processes" not in json.loads((both.one / "whole" / "results.json").read_text())["machine"]


def test_broken_off_and_continued_is_the_same_run(both: Both) -> None:
    """A helper that begins anew while the main process continues, or a checkpoint that only one of them reads."""
    whole, broken = both.two / "whole", both.two / "broken"
    assert curve(broken) == curve(whole)
    files = ["bundle/model.safetensors", *(str(path.relative_to(whole)) for path in whole.glob("stages/*/model.safetensors"))]
    for file in files:
        one, other = load_file(whole / file), load_file(broken / file)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one), file


@pytest.mark.slow
def test_killed_under_a_launcher_and_started_again(both: Both, tmp_path: Path) -> None:
    """A lock, a waiting process or a half-made folder that a killed launch leaves would end or spoil the next one."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "nerdistill"),
        *("run", str(both.config), "--out", str(tmp_path), "--set", NO_CHANCE, "--cpu", "--threads", "1"),
    ]
    variables = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    killed = subprocess.Popen(command, env=variables, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    log, until = tmp_path / "metrics.jsonl", time.monotonic() + 200
    while not (log.is_file() and "logits-head" in log.read_text()):
        assert killed.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < until
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    final = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=240, check=False)
    assert final.returncode == 0, final.stderr[-4000:]
    assert folders(tmp_path) == folders(both.two / "whole")
    one, other = (load_file(run / "bundle" / "model.safetensors") for run in (tmp_path, both.two / "whole"))
    assert all(torch.equal(one[name], other[name]) for name in one)
