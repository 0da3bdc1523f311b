"""Models of the Hugging Face hub: one of its ONNX files, the weights beside it, and how it wants its images.

All that is fetched lies in the hub's own cache, under the revision that it came from; offline, the cache is all there
is. What decides that, and where the cache lies, is the business of the package huggingface_hub (HF_HUB_OFFLINE,
HF_HOME, HF_ENDPOINT and the like).
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from ..errors import EncoderError
from ..support import require
from .digest import external_files
from .processors import PROCESSOR_FILES, is_timm, read_processor

__all__ = ["HUB", "HubModel", "fetch", "is_hub"]

HUB = "hf://"
_FORM = "hf://owner/repo[@revision][/file.onnx]"

_MODELS = ("onnx/vision_model", "visual/model", "onnx/model", "model")
"""What image networks are called there, without their ending, best first: `onnx/model` can want words as well."""
_VARIANTS = ("", "_fp16")
"""Endings of such names that are taken unasked; all others have lost something, and are to be named."""


class Reference(NamedTuple):
    """What a name of a model says."""

    repo: str
    revision: str | None
    file: str | None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read ``hf://owner/repo[@revision][/file]``; a slash in a revision is written ``%2F``."""
        owner, _, rest = text.removeprefix(HUB).partition("/")
        first, _, file = rest.partition("/")
        repo, marked, revision = first.partition("@")
        pulls = re.match(r"(pr|convert)/[^/]+", file) if revision == "refs" else None
        if pulls:  # refs/pr/3, as the hub's pages write it
            revision, file = f"refs/{pulls[0]}", file[len(pulls[0]) + 1 :]
        named = re.compile(r"[\w][\w.-]*", re.ASCII)
        if not named.fullmatch(owner) or not named.fullmatch(repo) or (marked and not revision):
            raise EncoderError(f"a model of the hub must be named {_FORM}, got {text!r}")
        return cls(f"{owner}/{repo}", unquote(revision) or None, file or None)


@dataclass(frozen=True)
class HubModel:
    """A model that was fetched.

    Attributes
    ----------
    path : str
        Where it lies, in the hub's cache.
    reference : str
        Its name with the revision and the file that were taken, by which exactly it is found again.
    revision : str
        The commit.
    title : str
        What people call it.
    preprocess : dict or None
        What the repository says of how it wants its images, as ``preprocess=`` takes it.
    """

    path: str
    reference: str
    revision: str
    title: str
    preprocess: dict[str, Any] | None


def is_hub(model: Any) -> bool:
    """Whether this names a model of the hub."""
    return isinstance(model, str) and model.startswith(HUB)


def fetch(name: str, *, ask: bool = True) -> HubModel:
    """Fetch a model of the hub, or find it in the cache.

    Parameters
    ----------
    name : str
        ``hf://owner/repo[@revision][/file]``.
    ask : bool
        Whether to look for what the repository says of how it wants its images.

    Raises
    ------
    EncoderError
        When there is no such model, or it cannot be fetched; the message says what there is, and what to do.
    ImportError
        When huggingface_hub is not installed.
    """
    wanted = Reference.parse(name)
    listed = (None if ask else _cached(wanted)) or _listed(name, wanted)
    file = wanted.file or _choose(name, wanted.repo, listed.names)
    if file not in listed.names:
        raise EncoderError(f"{name}: there is no file {file!r}; ONNX models there are {_shown(_onnx(listed.names))}")
    path = Path(listed.get(file))
    for beside in sorted(external_files(str(path))):
        inside = posixpath.normpath(posixpath.join(posixpath.dirname(file), beside))
        if inside.startswith(("..", "/")):
            raise EncoderError(f"{name}: its weights lie outside the repository, in {beside!r}")
        listed.get(inside)
    revision = _commit(path, file)
    return HubModel(
        path=str(path),
        reference=f"{HUB}{wanted.repo}@{revision}/{file}",
        revision=revision,
        title=wanted.repo.split("/")[1],
        preprocess=_preprocess(file, listed.names, listed.get) if ask else None,
    )


class _Listed(NamedTuple):
    """The files of a repository, and what fetches one."""

    names: list[str]
    get: Callable[[str], str]


def _cached(wanted: Reference) -> _Listed | None:
    """Return the cache's files of a commit, where the model is among them: it cannot change, so nobody is asked."""
    if wanted.revision is None or not re.fullmatch("[0-9a-f]{40}", wanted.revision):
        return None
    folder = _snapshot(wanted)
    names = _files_in(folder) if folder is not None else []
    return _Listed(names, _getter(wanted, offline=False)) if wanted.file in names else None


def _listed(name: str, wanted: Reference) -> _Listed:
    """Return what the hub says that there is; what the cache holds, where the hub is out of reach."""
    hub = require("huggingface_hub", "hub")
    errors = require("huggingface_hub.errors", "hub")
    try:
        info = hub.HfApi().model_info(wanted.repo, revision=wanted.revision)
        return _Listed([entry.rfilename for entry in info.siblings or ()], _getter(wanted, offline=False))
    except errors.GatedRepoError as error:
        raise EncoderError(f"{name}: its owner must let you in: log in (`hf auth login`) and ask there") from error
    except errors.RevisionNotFoundError as error:
        raise EncoderError(f"{name}: the hub has no revision {wanted.revision!r} of it") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise EncoderError(f"{name}: the hub has no such model, or you may not see it (`hf auth login`)") from error
    except Exception as error:  # offline by a switch, by a cable, by a fault there: each version has its own
        folder = _snapshot(wanted)
        if folder is None:
            raise EncoderError(
                f"{name}: the hub is out of reach ({_first_line(error)}), and its cache does not hold "
                f"{'this revision' if wanted.revision else 'this model'}; fetch it once online"
            ) from error
        return _Listed(_files_in(folder), _getter(wanted, offline=True))


def _getter(wanted: Reference, *, offline: bool) -> Callable[[str], str]:
    """Return what fetches a file; all after the first come from the commit of the first."""
    hub = require("huggingface_hub", "hub")
    commit: list[str] = []

    def get(file: str) -> str:
        revision = commit[0] if commit else wanted.revision
        try:
            path: str = hub.hf_hub_download(wanted.repo, file, revision=revision, local_files_only=offline)
        except Exception as error:
            raise EncoderError(f"{HUB}{wanted.repo}: {file} cannot be fetched: {_first_line(error)}") from error
        commit.append(_commit(Path(path), file))
        return path

    return get


def _snapshot(wanted: Reference) -> Path | None:
    """Return the folder in the cache that holds a revision's files, if it is there."""
    constants = require("huggingface_hub.constants", "hub")
    folder = Path(constants.HF_HUB_CACHE, f"models--{wanted.repo.replace('/', '--')}")
    revision = wanted.revision or "main"
    reference = folder / "refs" / revision
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    snapshot = folder / "snapshots" / commit
    return snapshot if snapshot.is_dir() else None


def _files_in(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def _commit(path: Path, file: str) -> str:
    """Return the commit that a fetched file is of: the name of its snapshot's folder."""
    return path.parents[len(file.split("/")) - 1].name


def _choose(name: str, repo: str, names: Iterable[str]) -> str:
    """Return the model to take where none is named."""
    there = _onnx(names)
    for stem in _MODELS:
        for variant in _VARIANTS:
            if f"{stem}{variant}.onnx" in there:
                return f"{stem}{variant}.onnx"
        others = [file for file in there if fnmatchcase(file, f"{stem}_*.onnx")]
        if len(others) == 1:
            return others[0]
        if others:
            raise EncoderError(f"{name}: name one of its models, as {HUB}{repo}/{others[0]}; they are {_shown(others)}")
    if not there:
        raise EncoderError(
            f"{name}: it holds no ONNX model; export it (`optimum-cli export onnx --model OWNER/REPO FOLDER`) and give "
            "the file"
        )
    raise EncoderError(f"{name}: name one of its models, as {HUB}{repo}/{there[0]}; they are {_shown(there)}")


def _onnx(names: Iterable[str]) -> list[str]:
    return [file for file in names if file.endswith(".onnx")]


def _shown(names: list[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "none"


def _processors(file: str, names: Iterable[str]) -> Iterator[str]:
    """Yield the files that can say how a model wants its images: beside it first, then up to the top."""
    there = set(names)
    folder = file
    while folder:
        folder = posixpath.dirname(folder)
        for known in PROCESSOR_FILES:
            if posixpath.join(folder, known) in there:
                yield posixpath.join(folder, known)


def _preprocess(file: str, names: Iterable[str], get: Callable[[str], str]) -> dict[str, Any] | None:
    for known in _processors(file, names):
        path = get(known)
        if posixpath.basename(known) != "config.json" or _is_timm(path):
            return read_processor(path)
    return None


def _is_timm(path: str) -> bool:
    config = json.loads(Path(path).read_text(encoding="utf-8"))
    return isinstance(config, Mapping) and is_timm(config)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
