"""One place that imports optional packages, so that a missing one says how to get it."""

from __future__ import annotations

import importlib
from typing import Any

DISTRIBUTION = "pyhash-retrieval"


def require(module: str, extra: str) -> Any:
    """Import an optional package.

    Parameters
    ----------
    module : str
        The module's full name, for example ``"onnxruntime"``.
    extra : str
        The extra of this distribution that brings it, for example ``"encoder"``.

    Returns
    -------
    module
        The imported module.

    Raises
    ------
    ImportError
        When it is not installed; the message is the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != module.split(".")[0]:
            raise
        raise ImportError(
            f"this needs the package {module.split('.')[0]!r}: pip install '{DISTRIBUTION}[{extra}]'", name=error.name
        ) from error
