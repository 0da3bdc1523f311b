"""A network as it is run: pixels in, rows of floats out, and what it tells about itself."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import EncoderError, GraphError
from .company import needs_to_be_alone, probes
from .digest import digest, digest_of_part
from .front import contradiction
from .metadata import Metadata
from .preparation import Preparation
from .session import INPUT_TYPES, Providers, Session, Sessions, Value, batch_sizes, check_providers
from .skeleton import skeleton_of

__all__ = ["Model", "all_patches"]

_T = TypeVar("_T")
_OUTPUT_TYPES = ("float16", "float", "double")

_LOGITS = "logits"
_TOKENS = "last_hidden_state"
_EMBEDDINGS = ("image_embeds", "pooler_output")
"""What exporters call a vector that stands for an image, best first."""


class Model:
    """An ONNX model, the preparation that it wants, and its sessions.

    Parameters
    ----------
    source : str or bytes
        Path of the file, or its bytes.
    name : str
        What to call it, unless its metadata does.
    output, preprocess, providers
        As `Encoder` takes them.
    lean : bool
        Whether to take less memory, and more time, as `Session` does.
    beside : mapping, optional
        How it wants its images, as the files beside it say; for a model without metadata.
    revision : str
        Which one of the hub's it is; part of its digests.

    Attributes
    ----------
    name : str
    metadata : Metadata
        Of a model that was not made here nothing is known.
    digest : str
        SHA-256 of the model, including the files where it keeps weights outside.
    outputs : tuple of str
        Names of all outputs.
    output : str
        Name of the one that is read.
    width : int
        Columns of that output.
    preparation : Preparation
    asked : Preparation or None
        The same before it was fitted to the network; None where the model's metadata say it.
    batch_sizes : tuple of int
        What is run at once, largest first.

    Raises
    ------
    EncoderError
        When the model does not fit: what was expected, and what was found.
    """

    def __init__(
        self,
        source: str | bytes,
        name: str,
        output: str | None = None,
        preprocess: str | os.PathLike[str] | Mapping[str, Any] | Preparation | None = None,
        *,
        beside: Mapping[str, Any] | None = None,
        revision: str = "",
        providers: Providers | None = None,
        lean: bool = False,
    ) -> None:
        self.name = name
        self._source = source
        self._revision = revision
        self._sessions = Sessions(source, check_providers(providers), lean=lean)
        self.asked: Preparation | None = None
        session = self._session(1)
        self.digest = self._of_revision(digest(source))
        self.metadata = self._checked(lambda: Metadata.parse(session.properties))
        self.name = self.metadata.name or name
        if self.metadata == Metadata():
            wanted = Preparation.parse(preprocess, beside)
            self.asked = wanted
        elif preprocess is not None:
            raise self._error("this encoder stores its own preparation: preprocess must be None")
        else:
            wanted = self._checked(lambda: self.metadata.preparation)
        self._input = self._choose_input(session.inputs)
        self._outputs = {value.name: value for value in session.outputs}
        self.outputs = tuple(self._outputs)
        self.output = self._choose_output(output)
        self._dtype = INPUT_TYPES[self._input.type]
        self.preparation = self._fit(wanted)
        if self._dtype is np.uint8 and not self.preparation.plain:
            raise self._error(
                f"input {self._input} takes uint8 pixels, so they cannot be normalised outside; use preprocess='raw'"
            )
        batch = self._input.shape[0]
        self.batch_sizes = batch_sizes(*self.preparation.shape, batch if isinstance(batch, int) else None)
        self._alone = self._settled = False
        self._widths: dict[str, int] = {}
        self.width = self.width_of(self.output)

    def width_of(self, output: str) -> int:
        """Return the columns of an output; EncoderError when it is none of floats, (n, columns)."""
        if output not in self._widths:
            self._widths[output] = self._count_columns(self._checked_output(output))
        return self._widths[output]

    def digest_of(self, output: str, after: str | None = None) -> str:
        """Return the SHA-256 of what an output is made of, but for what `after` is made of; see `digest_of_part`."""
        try:
            part = digest_of_part(self._source, output, after)
            return self._of_revision(part) if after is None else part
        except (IndexError, ValueError):  # a model in ONNX Runtime's own format is of one piece
            return self.digest if after is None else ""

    def _of_revision(self, found: str) -> str:
        return hashlib.sha256(f"{found}@{self._revision}".encode()).hexdigest() if self._revision else found

    def run(
        self, pixels: NDArray[np.uint8], threads: int = 1, outputs: Sequence[str] | None = None
    ) -> list[NDArray[np.float32]]:
        """Run the network.

        Parameters
        ----------
        pixels : numpy.ndarray
            uint8 RGB, shape (n, height, width, 3).
        threads : int
            Threads that work on one image. Several callers can run at once.
        outputs : sequence of str, optional
            Which to give; only the one that the model was opened for unless given.

        Returns
        -------
        list of numpy.ndarray
            For each output float32, shape (n, columns). Whether they are numbers is not looked at.
        """
        names = [self.output] if outputs is None else list(outputs)
        self.settle()
        session = self._session(threads)
        rows = [np.empty((len(pixels), self.width_of(name)), np.float32) for name in names]
        start = 0
        while start < len(pixels):
            n_left = len(pixels) - start
            size = next((n for n in self.batch_sizes if n <= n_left), self.batch_sizes[-1])
            n = 1 if self._alone else min(size, n_left)
            # A model that takes batches of one size only gets the last image several times.
            batch = pixels[start + np.minimum(np.arange(size), n - 1)] if n < size else pixels[start : start + size]
            for part, found in zip(rows, self._run_batch(session, batch, names), strict=True):
                if found.shape != (size, part.shape[1]):
                    raise self._error(f"output must be {(size, part.shape[1])} for {size} images, got {found.shape}")
                part[start : start + n] = found[:n]
            start += n
        return rows

    def settle(self) -> None:
        """Find out, once, whether images can be run together; `run` does so too.

        An encoder that was made here was found out before, unless it takes a fixed number of images.

        Raises
        ------
        EncoderError
            When an image does not always give the same; the message names the node.
        """
        if self._settled:
            return
        n = self.batch_sizes[0]
        fixed = len(self.batch_sizes) == 1
        if self.metadata.schema is None or (fixed and n > 1):
            session = self._session(1)

            def run(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
                (rows,) = self._run_batch(session, pixels, [self.output])
                return np.asarray(rows, np.float32)

            images, graph = probes(*self.preparation.shape), skeleton_of(self._source)
            if graph is not None and self.asked is not None:
                self._tell(contradiction(graph, self._input.name, self.preparation))
            batch, copies = (n, n) if fixed else (min(n, len(images)), 1)
            reason = self._checked(lambda: needs_to_be_alone(run, images, batch, graph, copies=copies))
            if reason is not None:
                self._alone = True
                self.batch_sizes = self.batch_sizes[-1:]
                self._tell(f"{reason}; images are run one at a time, which takes longer")
        self._settled = True

    def _tell(self, text: str | None) -> None:
        if text is not None:
            warnings.warn(f"encoder {self.name!r}: {text}", RuntimeWarning, stacklevel=4)

    def _session(self, threads: int) -> Session:
        return self._checked(lambda: self._sessions.get(threads))

    def _run_batch(self, session: Session, batch: NDArray[np.uint8], names: list[str]) -> list[NDArray[Any]]:
        feeds = {self._input.name: self.preparation.apply(batch, self._dtype)}
        found = map(np.asarray, self._checked(lambda: session.run(names, feeds)))
        return [self._rows(output.reshape(_without_trailing_ones(output.shape))) for output in found]

    def _rows(self, output: NDArray[Any]) -> NDArray[Any]:
        """Return a vector an image: of tokens the first, CLS, or their mean where all are parts of the image."""
        if output.ndim != 3:
            return output
        return output.mean(axis=1) if all_patches(output.shape[1], self.preparation.shape) else output[:, 0]

    def _checked(self, function: Callable[[], _T]) -> _T:
        """Call a function; what it says of the model gets the model's name."""
        try:
            return function()
        except (EncoderError, GraphError) as error:
            raise self._error(str(error)) from error

    def _error(self, text: str) -> EncoderError:
        return EncoderError(f"encoder {self.name!r}: {text}")

    def _choose_input(self, inputs: Sequence[Value]) -> Value:
        if len(inputs) != 1 or inputs[0].type not in INPUT_TYPES or len(inputs[0].shape) != 4:
            raise self._error(
                "expected one input of uint8 or floats, (n, 3, height, width) or (n, height, width, 3); "
                f"found {_listed(inputs)}"
            )
        return inputs[0]

    def _choose_output(self, name: str | None) -> str:
        if name is None:
            known = (_LOGITS,) if self.metadata != Metadata() else (*_EMBEDDINGS, _LOGITS)
            known = (*known, *(self.outputs if len(self.outputs) == 1 else ()), _TOKENS)
            name = next((one for one in known if one in self._outputs), None)
            if name is None:
                raise self._error(f"output must name one of several: {_listed(self._outputs.values())}")
        return self._checked_output(name).name

    def _checked_output(self, name: str) -> Value:
        if name not in self._outputs:
            raise self._error(f"expected an output {name!r}, found {_listed(self._outputs.values())}")
        chosen = self._outputs[name]
        # An exporter that does not know a shape leaves it empty; the first run shows it.
        rank = len(_without_trailing_ones(chosen.shape))
        fits = rank in (0, 2) or (rank == 3 and name == _TOKENS)
        if chosen.type not in _OUTPUT_TYPES or not fits:
            raise self._error(
                f"expected an output of floats, (n, bits), found {chosen}; "
                f"the outputs there are: {_listed(self._outputs.values())}"
            )
        return chosen

    def _count_columns(self, output: Value) -> int:
        columns = output.shape[-1] if len(output.shape) == 3 else output.shape[1] if output.shape else None
        if not isinstance(columns, int):
            black = np.zeros((self.batch_sizes[-1], *self.preparation.shape, 3), np.uint8)
            (found,) = self._run_batch(self._session(1), black, [output.name])
            if found.ndim != 2:
                raise self._error(f"expected an output (n, bits), found {found.shape} for {len(black)} images")
            columns = found.shape[1]
        return columns

    def _fit(self, wanted: Preparation) -> Preparation:
        """Fit a preparation to the input."""
        shape = self._input.shape
        layout = wanted.layout
        if layout is None:
            first, last = (shape[axis] in (3, "num_channels", "channels", "channel") for axis in (1, 3))
            if first == last:
                raise self._error(
                    f"expected the input to have 3 channels, (n, 3, height, width) or (n, height, width, 3), "
                    f"found {self._input}; if it has, say which: preprocess={{..., 'layout': 'nchw'}} (or 'nhwc')"
                )
            layout = "nchw" if first else "nhwc"
        channels, sides = (shape[1], shape[2:]) if layout == "nchw" else (shape[3], shape[1:3])
        if isinstance(channels, int) and channels != 3:
            raise self._error(f"expected 3 channels as {layout}, found {channels}: {self._input}")
        if wanted.size is None:
            if not all(isinstance(side, int) for side in sides):
                raise self._error(
                    f"input {self._input} leaves the size open, so preprocess must tell it: "
                    "preprocess={'preset': 'imagenet', 'size': 224}"
                )
            return wanted.fitted(cast(tuple[int, int], tuple(sides)), layout)
        if any(isinstance(side, int) and side != given for side, given in zip(sides, wanted.shape, strict=True)):
            raise self._error(f"expected images of size {wanted.size} as the preparation says, found {self._input}")
        return wanted.fitted(wanted.shape, layout)


def all_patches(n_tokens: int, shape: tuple[int, int]) -> bool:
    """Whether so many tokens can be the parts of an image of this height and width, and nothing else."""
    height, width = shape
    return any(n_tokens == height // side * (width // side) for side in range(1, min(height, width) + 1))


def _listed(values: Any) -> str:
    return ", ".join(map(str, values)) or "none"


def _without_trailing_ones(shape: Sequence[Any]) -> tuple[Any, ...]:
    """Return a shape without what global pooling leaves behind: (n, bits, 1, 1) is (n, bits)."""
    n_kept = len(shape)
    while n_kept > 2 and shape[n_kept - 1] == 1:
        n_kept -= 1
    return tuple(shape[:n_kept])
