"""What an encoder reads of its model: the embedding, the bits and their levels, and the part that one level needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..codes import MAX_BITS, Levels, pack
from ..errors import EncoderError
from ..networks import EMBEDDING, Metadata, Model, Providers, select_levels

__all__ = ["Finish", "Reading"]

Finish: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.uint8]]
"""What makes codes of logits."""


class Reading:
    """A model and what is read of it.

    Parameters
    ----------
    model : Model
    source : str or bytes
        Where it was opened, or its bytes.
    levels : mapping of str to int, optional
        As `Encoder` takes them.
    providers
        As `Encoder` takes them, for the parts that are cut out.

    Attributes
    ----------
    model : Model
    levels : Levels
    embedding : str or None
        The output that is the embedding; None where there is none.

    Raises
    ------
    EncoderError
        When the levels do not fit the model.
    """

    def __init__(
        self, model: Model, source: str | bytes, levels: Mapping[str, int] | None, providers: Providers | None
    ) -> None:
        self.model = model
        self.levels = self._choose_levels(levels)
        self.embedding = self._choose_embedding()
        self._source = source
        self._providers = providers
        self._parts: dict[str, Model] = {}

    def at(self, level: str | None, *, whole: bool = False) -> tuple[Model, Finish]:
        """Return what is run for a level, or for all of them, and what makes codes of its logits.

        Parameters
        ----------
        level : str or None
        whole : bool
            Whether the whole model is run, even where a part is enough for the level.
        """
        if level is None:
            return self.model, pack
        if level not in self.levels:
            raise ValueError(f"level must be one of {', '.join(self.levels)}, got {level!r}")
        if level not in self._parts and not whole:
            self._parts[level] = self._cut(level)  # twice if two threads ask at once, which does no harm
        model = self.model if whole else self._parts[level]
        bits = self.levels.bit_range(level) if model is self.model else slice(None)

        def finish(logits: NDArray[np.float32]) -> NDArray[np.uint8]:
            codes = np.zeros((len(logits), self.levels.n_bytes), np.uint8)
            codes[:, self.levels.byte_range(level)] = pack(logits[:, bits])
            return codes

        return model, finish

    def embedding_output(self) -> str:
        """Return the name of the output that is the embedding; EncoderError when there is none."""
        if self.embedding is None:
            raise self.error(
                f"gives codes alone, it has no output {EMBEDDING!r}; its outputs are {', '.join(self.model.outputs)}. "
                "Make it again with this version of pyhash (`pyhash build`)"
            )
        return self.embedding

    def error(self, text: str) -> EncoderError:
        """Return the error that says this of the encoder."""
        return EncoderError(f"encoder {self.model.name!r}: {text}")

    def _choose_levels(self, given: Mapping[str, int] | None) -> Levels:
        """Return the levels that the model's metadata names, or those given; one of all bits where neither does."""
        metadata, bits = self.model.metadata, self.model.width
        if metadata != Metadata():
            if given is not None:
                raise self.error("this encoder stores its own levels: levels must be None")
            lacking = [f"pyhash.{key}" for key in ("schema", "levels") if getattr(metadata, key) is None]
            if lacking:
                raise self.error(f"its metadata lacks {', '.join(lacking)}")
            given = metadata.levels
        if not 1 <= bits <= MAX_BITS:
            raise self.error(f"expected an output of 1 to {MAX_BITS} bits, found {bits}")
        try:
            levels = Levels.single(bits) if given is None else Levels(given)
        except (TypeError, ValueError) as error:
            raise self.error(str(error)) from error
        if levels.bits != bits:
            raise self.error(f"levels must have {bits} bits together, as the output has, got {levels.bits}")
        return levels

    def _choose_embedding(self) -> str | None:
        """Return the output that is the embedding: of a network not made here the one that is read."""
        if EMBEDDING in self.model.outputs:
            return EMBEDDING
        return self.model.output if self.model.metadata == Metadata() else None

    def _cut(self, level: str) -> Model:
        """Return the part of the network that a level needs; the whole where there is no such part."""
        if f"{self.model.output}_{level}" not in self.model.outputs:
            return self.model
        try:
            part = select_levels(self._source, [level]).SerializeToString()
        except ImportError:  # without onnx it is slower, not wrong
            return self.model
        return Model(part, self.model.name, providers=self._providers)
