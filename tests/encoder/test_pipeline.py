"""From sources to rows: in order, in bounded memory, and neither company, threads nor processes change a code."""

import gc
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("PIL")
from PIL import Image
from tiny_networks import COLOUR, build, pictures, plain

from pyhash.encoder import Encoder
from pyhash.images import Part, Views
from pyhash.networks import Model


@pytest.fixture(scope="module")
def tiny():
    return Encoder(build(), threads=3)


@pytest.fixture
def files(tmp_path):
    """Five picture files, of which the second and the fourth cannot be read."""
    paths = [tmp_path / f"{at}.png" for at in range(5)]
    for path, picture in zip(paths, pictures(5), strict=True):
        Image.fromarray(picture).save(path)
    paths[1].write_bytes(b"")
    paths[3].unlink()
    return paths


@pytest.mark.parametrize("n_fixed", [1, 4])
def test_a_fixed_batch(n_fixed):
    free = Encoder(plain(), preprocess="unit")
    fixed = Encoder(plain((n_fixed, 3, 8, 8), declared=(n_fixed, 24)), preprocess="unit")
    for n in (1, 3, 4, 9):
        np.testing.assert_array_equal(fixed.encode(pictures(n)), free.encode(pictures(n)))


def test_only_a_few_batch_sizes_are_run(monkeypatch):
    subject = Encoder(build(), threads=2)
    sizes = set()
    run_batch = Model._run_batch

    def spy(self, session, batch, names):
        sizes.add(len(batch))
        return run_batch(self, session, batch, names)

    monkeypatch.setattr(Model, "_run_batch", spy)
    for n in range(1, 70, 3):
        assert len(subject.encode(pictures(n))) == n
    assert sizes == {1, 4, 16}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("batch_size", [None, 1, 2])
def test_stream_gives_codes_and_errors_in_order(files, threads, batch_size):
    subject = Encoder(build(), threads=threads)
    sources = files * 9
    results = list(subject.stream(iter(sources), batch_size=batch_size))
    assert [encoded.source for encoded in results] == sources
    good = {at: subject.encode(files[at]) for at in (0, 2, 4)}
    for at, encoded in enumerate(results):
        assert encoded.embedding is None
        if at % 5 in good:
            assert encoded.error is None
            np.testing.assert_array_equal(encoded.code, good[at % 5])
        else:
            assert encoded.code is None
            assert encoded.error.path == str(encoded.source)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_stream_takes_sources_only_a_little_ahead(threads):
    subject = Encoder(build(), threads=threads)
    before = set(threading.enumerate())  # a stream that another test forgot may be there still
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield COLOUR

    stream = subject.stream(endless(), batch_size=3)
    for given in range(1, 50):
        next(stream)
        assert taken <= given + 3 * (2 * threads + 2)
    stream.close()
    assert not [t for t in set(threading.enumerate()) - before if t.name.startswith("pyhash-encode")]


def test_a_forgotten_stream_leaves_no_threads(tiny):
    stream = tiny.stream(COLOUR for _ in range(1000))
    next(stream)
    del stream
    gc.collect()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pyhash-encode")]


def test_what_a_source_raises_comes_through(tiny):
    def broken():
        yield COLOUR
        raise KeyError("no more")

    with pytest.raises(KeyError, match="no more"):
        list(tiny.stream(broken()))


def test_wrong_batch_size(tiny):
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        tiny.stream([], batch_size=0)


def test_threads_do_not_change_codes():
    model = plain(("n", 3, 128, 128))  # so large that a picture alone is run on several threads
    sources = pictures(21, side=40)
    expected = Encoder(model, preprocess="unit", threads=1).encode(sources)
    for threads in (2, 5):
        subject = Encoder(model, preprocess="unit", threads=threads)
        np.testing.assert_array_equal(subject.encode(sources), expected)
        np.testing.assert_array_equal([subject.encode(source) for source in sources], expected)


def test_many_threads_can_encode_at_once(tiny):
    sources = pictures(40)
    expected = tiny.encode(sources)
    with ThreadPoolExecutor(8) as pool:
        alone = list(pool.map(tiny.encode, sources * 4))
        together = list(pool.map(lambda _: tiny.encode(sources), range(8)))
    np.testing.assert_array_equal(alone, np.tile(expected, (4, 1)))
    for codes in together:
        np.testing.assert_array_equal(codes, expected)


FORK = """
import os, signal, sys
import numpy as np
from pyhash.encoder import Encoder
from pyhash.images import Part, Views

subject = Encoder(sys.argv[1], preprocess="unit", threads=2)
pictures = list(np.random.default_rng(0).integers(0, 256, (9, 30, 30, 3), np.uint8))
before = [subject.encode(pictures), subject.encode(pictures[0])]
for use in (True, False):
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        if use:
            after = [subject.encode(pictures), subject.encode(pictures[0])]
            if not all(np.array_equal(a, b) for a, b in zip(before, after)):
                os._exit(3)
        sys.exit(0)
    status = os.waitpid(child, 0)[1]
    print(use, status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_encodes_alike_and_exits(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(plain(("n", 3, 128, 128)))
    command = [sys.executable, "-W", "ignore", "-c", FORK, os.fspath(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == ["True", "0", "False", "0"], done.stderr


@pytest.mark.parametrize("setting", [None, "0"])
def test_telemetry_is_off_unless_the_user_decides(setting):
    code = "import os; from pyhash.encoder import Encoder; Encoder(); print(os.environ['ORT_DISABLE_TELEMETRY'])"
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    if setting is not None:
        environment["ORT_DISABLE_TELEMETRY"] = setting
        code = code.replace(
            "Encoder();",
            "from pyhash.networks import session; session.require = lambda *_: None; session.onnxruntime();",
        )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == (setting or "1")


def test_parts_are_encoded_as_they_would_be_alone(tiny):
    """Many parts of one image, more than are computed on at once; and company changes no code."""
    large = [np.kron(picture, np.ones((5, 4, 1), np.uint8)) for picture in pictures(4)]
    boxes = [Part("box", (x, y, x + 9, y + 11), f"{x} {y}") for x in range(9) for y in range(7)]
    views = [Views(), Views(turned=True, tiles=(2, 2)), Views(boxes=boxes), Views()]
    found = [*tiny.stream(large, views=views)]
    assert [len(one.parts) for one in found] == [0, 12, len(boxes), 0]
    for image, one in zip(large, found, strict=True):
        np.testing.assert_array_equal(one.code, tiny.encode(image))
        for part in one.parts:
            if part.part.box is not None:
                left, top, right, bottom = part.part.box
                np.testing.assert_array_equal(part.code, tiny.encode(image[top:bottom, left:right]))
    turned = {part.part.name: part.code for part in found[1].parts if part.part.kind == "turned"}
    np.testing.assert_array_equal(turned["mirrored"], tiny.encode(np.ascontiguousarray(large[1][:, ::-1])))


def test_an_image_that_cannot_be_read_has_no_parts(tiny, files):
    found = [*tiny.stream(files, views=[Views(turned=True)] * 5)]
    assert [len(one.parts) for one in found] == [7, 0, 7, 0, 7]
    assert [one.error is None for one in found] == [True, False, True, False, True]
    with pytest.raises(ValueError, match="zip"):
        [*tiny.stream(files, views=[Views()] * 4)]
