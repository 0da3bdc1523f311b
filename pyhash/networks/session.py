"""ONNX Runtime: the one place that imports it, opens sessions, and knows how many threads and images a run takes."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ..errors import GraphError
from ..support import locked, require

__all__ = [
    "INPUT_TYPES",
    "PROVIDERS",
    "Providers",
    "Session",
    "Sessions",
    "Value",
    "batch_sizes",
    "check_providers",
    "onnxruntime",
]

Providers: TypeAlias = "Sequence[str | tuple[str, Mapping[str, Any]]]"
"""Execution providers of ONNX Runtime, best first, each a name or a name with options."""

PROVIDERS = "PYHASH_PROVIDERS"
"""The environment variable that names them, with commas between, where nobody else does."""

_CPU = "CPUExecutionProvider"

INPUT_TYPES: dict[str, type[np.generic]] = {
    "uint8": np.uint8,
    "float16": np.float16,
    "float": np.float32,
    "double": np.float64,
}
"""Element types of an image input, as ONNX Runtime calls them, and what is fed for them."""

# Only these sizes are run, so that ONNX Runtime plans its memory once for each. Large batches help fully
# connected layers, whose weights are read once a run; for large images they are smaller, because every
# thread holds the activations of one.
_BATCH_SIZES = (16, 4, 1)
_BATCH_PIXELS = 1 << 19


def onnxruntime() -> Any:
    """Import ONNX Runtime.

    Its wheels for Linux and macOS, from 1.29 on, start a thread at import that uploads telemetry, and a
    forked child then hangs when it exits. ``ORT_DISABLE_TELEMETRY`` prevents both if it is set before; a
    user's own setting of it is kept.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return require("onnxruntime", "encoder")


def check_providers(given: Providers | None) -> list[tuple[str, dict[str, Any]]]:
    """Return the execution providers to use: those given, what PYHASH_PROVIDERS says, or the CPU.

    Parameters
    ----------
    given : sequence of str or (str, mapping), optional
        As ONNX Runtime takes them, such as ``"CUDAExecutionProvider"``, or short, such as ``"cuda"``.

    Raises
    ------
    ValueError
        When one is not available; the message lists those that are.
    """
    source = "providers"
    if given is None:
        said = os.environ.get(PROVIDERS, "")
        if not said.strip():
            return [(_CPU, {})]
        source, given = PROVIDERS, said.split(",")
    if isinstance(given, str) or not given:
        raise ValueError(f"{source} must be a list of names of execution providers, got {given!r}")
    available = onnxruntime().get_available_providers()
    by_name = {name.lower(): name for name in available}
    by_name |= {name.removesuffix("executionprovider"): full for name, full in by_name.items()}
    found = []
    for entry in given:
        name, options = (entry, {}) if isinstance(entry, str) else entry
        if str(name).strip().lower() not in by_name:
            raise ValueError(f"{source} must be among those that are available, {', '.join(available)}, got {name!r}")
        found.append((by_name[str(name).strip().lower()], dict(options)))
    return found


def batch_sizes(height: int, width: int, fixed: int | None = None) -> tuple[int, ...]:
    """Return how many images are run at once, largest first.

    Parameters
    ----------
    height, width : int
        Of the images, in pixels.
    fixed : int, optional
        The only batch that the network takes.
    """
    if fixed:
        return (fixed,)
    return tuple(n for n in _BATCH_SIZES if n == 1 or n * height * width <= _BATCH_PIXELS)


class Value(NamedTuple):
    """An input or output of a network."""

    name: str
    type: str
    """Of its elements, such as ``"float"`` or ``"uint8"``."""
    shape: tuple[int | str | None, ...]
    """A number, a name or None for each axis; empty where nothing is known."""

    def __str__(self) -> str:
        shape = ", ".join("?" if side is None else str(side) for side in self.shape)
        return f"{self.name!r} {self.type} ({shape})"


class Session:
    """A network, opened.

    Parameters
    ----------
    source : str or bytes
        Path of the model, or its bytes.
    threads : int
        Threads that work on one run. Several callers can run at once.
    optimize : bool
        Whether ONNX Runtime may rewrite the network, so that errors name other nodes.
    lean : bool
        Whether weights stay as they are, which takes less memory and more time: for a run or two.
    providers : sequence of str or (str, mapping), optional
        What runs it, as `check_providers` takes them.

    Attributes
    ----------
    inputs, outputs : tuple of Value
    properties : dict of str to str
        The model's own metadata.

    Raises
    ------
    GraphError
        When ONNX Runtime cannot load it; its own words name the node.
    """

    def __init__(
        self,
        source: str | bytes,
        threads: int = 1,
        *,
        optimize: bool = True,
        lean: bool = False,
        providers: Providers | None = None,
    ) -> None:
        runtime, wanted = onnxruntime(), check_providers(providers)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4  # what goes wrong is raised; it need not be printed too
        if lean:
            options.add_session_config_entry("session.disable_prepacking", "1")
            options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        if not optimize:
            options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            self._session = runtime.InferenceSession(source, options, providers=wanted)
        except Exception as error:  # ONNX Runtime's exceptions have no class in common
            if "INVALID_PROTOBUF" in str(error):
                raise GraphError("not an ONNX model, or one that is cut short") from error
            raise GraphError(f"ONNX Runtime cannot load the network: {error}") from error
        idle = [name for name, _ in wanted if name not in self._session.get_providers()]
        if idle:  # ONNX Runtime goes on without it, and says so in its log alone
            raise GraphError(f"ONNX Runtime cannot start the provider {idle[0]} on this machine")
        self.threads = threads
        self.inputs = tuple(map(_value, self._session.get_inputs()))
        self.outputs = tuple(map(_value, self._session.get_outputs()))
        self.properties: dict[str, str] = self._session.get_modelmeta().custom_metadata_map

    def run(self, outputs: Sequence[str] | None, feeds: Mapping[str, Any]) -> list[Any]:
        """Return the outputs of these names, or all; GraphError carries ONNX Runtime's words."""
        try:
            result: list[Any] = self._session.run(outputs, feeds)
        except Exception as error:  # as in opening
            raise GraphError(f"ONNX Runtime cannot run the network: {error}") from error
        return result

    def abandon(self) -> None:
        """Never free what ONNX Runtime holds, in a forked child: the session's threads are the parent's.

        Freeing it waits for them for ever, or ends the process; and so would freeing it when the child exits, which is
        why a reference in some module does not do.
        """
        if self.threads > 1:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session))


class Sessions:
    """The sessions of one model, one for each number of threads, each opened when it is first asked for.

    A forked child begins anew, without any.
    """

    def __init__(self, source: str | bytes, providers: Providers | None = None, *, lean: bool = False) -> None:
        self._source = source
        self._providers = providers
        self._lean = lean
        self._begin()
        _live.add(self)

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._opened: dict[int, Session] = {}

    def get(self, threads: int = 1) -> Session:
        """Return the session whose runs take so many threads."""
        return locked(self._lock, lambda: self._opened.get(threads) or self._open(threads))

    def _open(self, threads: int) -> Session:
        session = self._opened[threads] = Session(self._source, threads, lean=self._lean, providers=self._providers)
        return session

    def forget(self) -> None:
        """Begin anew, in a forked child."""
        for session in self._opened.values():
            session.abandon()
        self._begin()


def _value(value: Any) -> Value:
    return Value(value.name, value.type.removeprefix("tensor(").removesuffix(")"), tuple(value.shape))


_live: weakref.WeakSet[Sessions] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for sessions in list(_live):
        sessions.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
