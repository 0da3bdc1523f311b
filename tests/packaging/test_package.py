"""The package as a whole: what importing it costs, what a missing extra says, what is public."""

import importlib
import os
import pkgutil
import re
import subprocess
import sys
from importlib.metadata import version

import pytest

import pyhash


def run(code, **environment):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_pyhash_imports_no_optional_package_and_starts_no_thread():
    out = run(
        "import sys, threading, pyhash; pyhash.Index, pyhash.Levels, pyhash.pack, pyhash.Encoder, pyhash.Gallery\n"
        "print(sorted({m.split('.')[0] for m in sys.modules}), threading.active_count())"
    )
    for name in ("numba", "onnxruntime", "onnx", "PIL", "click", "rich", "jinja2", "scipy", "matplotlib"):
        assert f"'{name}'" not in out
    assert out.strip().endswith(" 1")


def test_what_works_on_arrays_loads_neither_files_nor_networks():
    out = run(
        "import sys, pyhash; pyhash.Index, pyhash.neighbourhoods, pyhash.rescore, pyhash.ranking.k_reciprocal\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} | {m for m in sys.modules if m.startswith('pyhash.')}))"
    )
    for name in ("sqlite3", "onnxruntime", "PIL", "pyhash.images", "pyhash.networks", "pyhash.gallery"):
        assert f"'{name}'" not in out


def test_importing_pyhash_alone_does_not_even_import_its_own_modules():
    assert run("import sys, pyhash; print([m for m in sys.modules if m.startswith('pyhash.')])").strip() == "[]"


@pytest.mark.parametrize(
    ("module", "use", "extra"),
    [
        ("onnxruntime", "pyhash.Encoder()", "encoder"),
        ("PIL", "pyhash.Encoder().encode(b'x')", "encoder"),
        ("click", "sys.stderr = sys.stdout; from pyhash.__main__ import main; main()", "cli"),
        ("numba", "pyhash.use('numba')", "numba"),
    ],
)
def test_a_missing_package_is_named_with_the_command_that_brings_it(module, use, extra):
    code = f"""
import importlib.util, sys, pyhash
sys.modules[{module!r}] = None
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == {module!r} else find(name, *rest)
try:
    {use}
except (ImportError, ValueError, SystemExit) as error:
    print(error)
"""
    assert f"pip install 'pyhash-retrieval[{extra}]'" in run(code)


def test_everything_public_is_there_and_documented():
    for name in pyhash.__all__:
        assert getattr(pyhash, name).__doc__, name
    assert set(pyhash.__all__) <= set(dir(pyhash))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        pyhash.nothing  # noqa: B018


PACKAGES = [found.name for found in pkgutil.iter_modules(pyhash.__path__, "pyhash.") if found.ispkg]


@pytest.mark.parametrize("name", [name for name in PACKAGES if name != "pyhash.models"])
def test_the_face_of_a_package_is_its_list(name):
    if name == "pyhash.serve":
        for package in ("fastapi", "prometheus_client", "python_multipart", "uvicorn"):
            pytest.importorskip(package, reason="the service needs the extra serve")
    face = importlib.import_module(name)
    assert dir(face) == sorted(face.__all__)
    assert len(set(face.__all__)) == len(face.__all__)
    assert not [public for public in face.__all__ if public.startswith("_") or not hasattr(face, public)]


def test_version_is_the_distributions():
    assert pyhash.__version__ == version("pyhash-retrieval")
    assert re.fullmatch(r"\d+\.\d+\.\d+", pyhash.__version__)
