"""Sessions: what they tell of a network, how faults are named, how many images a run takes, and forks."""

from __future__ import annotations

import gc
import os
import re
import signal
import warnings

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("PIL")
import numpy as np
from tiny_networks import build, pictures

from pyhash.errors import GraphError
from pyhash.networks.session import Session, Sessions, batch_sizes, check_providers, onnxruntime


def test_a_session_tells_what_a_network_takes_and_gives() -> None:
    session = Session(build(outputs=("logits", "map")))
    assert [str(value) for value in session.inputs] == ["'images' uint8 (n, 8, 8, 3)"]
    assert [str(value) for value in session.outputs] == ["'logits' float (n, 24)", "'map' float (n, 6, 8, 8)"]
    assert session.properties["pyhash.name"] == "tiny"
    feeds = {"images": np.zeros((2, 8, 8, 3), np.uint8)}
    assert [output.shape for output in session.run(None, feeds)] == [(2, 24), (2, 6, 8, 8)]
    assert [output.shape for output in session.run(["map"], feeds)] == [(2, 6, 8, 8)]


def test_faults_are_named_in_the_runtimes_words() -> None:
    with pytest.raises(GraphError, match="not an ONNX model, or one that is cut short"):
        Session(b"no model")
    with pytest.raises(GraphError, match=r"ONNX Runtime cannot run the network: .*images"):
        Session(build()).run(None, {"images": np.zeros((2, 9, 9, 3), np.uint8)})


@pytest.mark.parametrize(
    ("height", "width", "fixed", "expected"),
    [
        (224, 224, None, (4, 1)),  # 16 x 224 x 224 pixels are more than 2^19
        (128, 128, None, (16, 4, 1)),
        (1000, 1000, None, (1,)),
        (32, 48, 7, (7,)),
    ],
)
def test_batches(height: int, width: int, fixed: int | None, expected: tuple[int, ...]) -> None:
    assert batch_sizes(height, width, fixed) == expected


def test_a_session_is_opened_once_for_each_number_of_threads() -> None:
    sessions = Sessions(build())
    assert sessions.get() is sessions.get(1)
    assert sessions.get(2) is not sessions.get(1)
    assert sessions.get(2) is sessions.get(2)
    with pytest.raises(GraphError, match="not an ONNX model"):
        Sessions(b"no model").get()


def test_providers_are_named_in_full_or_in_short_by_argument_or_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    available = onnxruntime().get_available_providers()
    cpu = ("CPUExecutionProvider", {})
    assert check_providers(None) == [cpu]
    assert check_providers(["CPUExecutionProvider"]) == check_providers(["cpu"]) == [cpu]
    assert check_providers([("cpu", {"use_arena": "0"})]) == [("CPUExecutionProvider", {"use_arena": "0"})]
    monkeypatch.setenv("PYHASH_PROVIDERS", f"{available[0]}, cpu")
    assert check_providers(None) == [(available[0], {}), cpu]
    assert check_providers(["cpu"]) == [cpu]
    feeds = {"images": np.zeros((1, 8, 8, 3), np.uint8)}
    assert Session(build(), providers=["cpu"]).run(None, feeds)[0].shape == (1, 24)
    for given, message in [
        (["warp"], f"providers must be among those that are available, {', '.join(available)}, got 'warp'"),
        ([], "providers must be a list of names of execution providers, got []"),
        ("cpu", "providers must be a list of names"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            check_providers(given)
    monkeypatch.setenv("PYHASH_PROVIDERS", "warp")
    with pytest.raises(ValueError, match="PYHASH_PROVIDERS must be among those that are available"):
        Session(build())


def test_a_provider_that_does_not_start_is_no_silent_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime(), "get_available_providers", lambda: names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ONNX Runtime, which goes on with the CPU
        with pytest.raises(GraphError, match="cannot start the provider CUDAExecutionProvider on this machine"):
            Session(build(), providers=["cuda", "cpu"])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_opens_its_own_and_frees_none_that_has_threads() -> None:
    sessions = Sessions(build(("n", 128, 128, 3)))
    feeds = {"images": np.stack([np.resize(picture, (128, 128, 3)) for picture in pictures(2)])}
    before = {threads: sessions.get(threads) for threads in (1, 4)}
    expected = before[4].run(None, feeds)[0]
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # it would wait for the parent's threads for ever
        opened = sessions.get(4)
        same = np.allclose(opened.run(None, feeds)[0], expected)
        fresh = opened is not before[4]
        before.clear()
        gc.collect()
        os._exit(0 if same and fresh else 3)
    assert os.waitpid(child, 0)[1] == 0
