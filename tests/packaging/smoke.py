"""A quick trial of an installed pyhash: `python smoke.py core` needs NumPy alone, `all` what the command needs too.

It is no test for pytest: it is copied out of the project and run where nothing but the package is installed.
"""

import json
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np

import pyhash


def exact_search() -> None:
    """Every kernel gives what plain NumPy gives."""
    rng = np.random.default_rng(0)
    for bits in (12, 64, 200):
        codes, queries = (pyhash.pack(rng.standard_normal((n, bits)), 0.0) for n in (3000, 20))
        distances = np.bitwise_count(queries[:, None] ^ codes).sum(2, dtype=np.int32)
        ids = np.argsort(distances, axis=1, kind="stable")[:, :10]
        for name in pyhash.kernels():
            with pyhash.use(name):
                index = pyhash.Index(bits=bits)
                index.add(codes)
                found = index.search(queries, k=10)
            np.testing.assert_array_equal(found[1], ids, name)
            np.testing.assert_array_equal(found[0], np.take_along_axis(distances, ids, 1), name)
    print(f"exact search: {', '.join(pyhash.kernels())} give what NumPy gives")


def missing_extras() -> None:
    """Whatever needs more than NumPy fails with the command that brings it."""
    for extra, use in {
        "encoder": "pyhash.Encoder()",
        "numba": "pyhash.use('numba')",
        "graph": "from pyhash import networks; networks.taps('network.onnx')",
        "cli": "from pyhash.__main__ import main; main()",
    }.items():
        done = subprocess.run([sys.executable, "-P", "-c", f"import pyhash; {use}"], stderr=subprocess.PIPE, text=True)
        assert done.returncode != 0, use
        assert f"pip install 'pyhash-retrieval[{extra}]'" in done.stderr, done.stderr
        print(done.stderr.splitlines()[-1])


def main_job() -> None:
    """A folder of pictures is indexed, and each query finds pictures of its kind first."""
    from pyhash.cli.photographs import copy_photographs

    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder, "pictures")
        queries = copy_photographs(pictures, Path(folder, "queries"))

        def command(*arguments: object) -> dict:
            done = subprocess.run(
                [sys.executable, "-m", "pyhash", *map(str, arguments), "--json"], stdout=subprocess.PIPE, check=True
            )
            return json.loads(done.stdout)

        command("index", pictures)
        results = command("search", pictures, *queries, "-k", 5)["results"]
    assert len(results) == len(queries) == 3
    for query, result in zip(queries, results, strict=True):
        first = result["matches"][0]
        assert f"{query.stem}-" in first["path"], result
        print(f"main job: nearest to {query.name} is {Path(first['path']).name}, distance {first['distance']}")


if __name__ == "__main__":
    assert pyhash.__version__ == version("pyhash-retrieval")
    assert Path(__file__).resolve().parent != Path(pyhash.__file__).resolve().parents[1], (
        "this is not an installed pyhash"
    )
    exact_search()
    if sys.argv[1] == "core":
        missing_extras()
    else:
        main_job()
