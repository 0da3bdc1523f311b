"""Build the compiled modules; when that fails, install the pure Python package on the Numba backend."""

import contextlib
import os
import sys
from pathlib import Path

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension
from pybind11.setup_helpers import build_ext as _build_ext
from setuptools import Extension, setup

REQUIRED = os.environ.get("PYHASH_REQUIRE_NATIVE") == "1"
WITHOUT = {
    "pyhash._native": "searches run on the slower Numba backend (pip install 'pyhash-retrieval[numba]')",
    "pyhash.bench._probes": "`pyhash bench` does not know the limits of this machine",
    "pyhash.codes._pack": "packing runs on NumPy, slower",
}


class build_ext(_build_ext):
    """Compile each extension; a failure is a loud warning, or fatal where PYHASH_REQUIRE_NATIVE is 1."""

    def build_extension(self, ext: Extension) -> None:
        """Build one extension module."""
        try:
            super().build_extension(ext)
        except Exception as error:
            if REQUIRED:
                raise
            warning = (
                f"WARNING: pyhash is installed without {ext.name}, which could not be compiled: {WITHOUT[ext.name]}. "
                f"`pyhash info` tells what is in use. What went wrong: {type(error).__name__}: {error}"
            )
            self.warn(warning)
            with contextlib.suppress(OSError), open("/dev/tty", "w") as terminal:
                terminal.write(f"\n{warning}\n")  # pip shows what a build says only when the build fails, or with -v


def cpp(name: str, *sources: str) -> Extension:
    """Describe an extension of these C++ sources."""
    headers = sorted(str(path) for ending in ("h", "inl") for path in Path("csrc").rglob(f"*.{ending}"))
    flags = [] if sys.platform == "win32" else ["-O3"]
    return Pybind11Extension(
        name, sorted(sources), depends=headers, include_dirs=["csrc"], cxx_std=17, extra_compile_args=flags
    )


PROBES = ("csrc/bindings/probes.cpp", "csrc/hamming/probes/probes.cpp")
PACK = ("csrc/hamming/cpu/cpu.cpp", *map(str, Path("csrc/hamming/pack").glob("*.cpp")))
core = [str(path) for folder in ("bindings", "hamming") for path in Path("csrc", folder).rglob("*.cpp")]
extensions = [
    cpp("pyhash._native", *(set(core) - set(PROBES) - set(PACK[1:]))),
    cpp("pyhash.bench._probes", *PROBES),
    cpp("pyhash.codes._pack", "pyhash/codes/_pack.pyx", *PACK),
]
for extension in extensions:
    extension.optional = not REQUIRED  # setuptools then copies and records only what was built

ParallelCompile("PYHASH_BUILD_JOBS").install()  # as many at once as there are CPUs, or as this variable says
setup(ext_modules=extensions, cmdclass={"build_ext": build_ext})
