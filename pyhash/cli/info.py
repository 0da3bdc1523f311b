"""The command ``pyhash info``."""

# ruff: noqa: D301  (click wants a real \b before text that it must not wrap)

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import __version__, backend
from ..gallery import Gallery, is_gallery
from ..index import Index
from ..support import machine, many, size
from .errors import EncoderFailed, Exit
from .options import FolderType, encoder_options, gallery_option, json_option
from .output import print_facts, print_json

if TYPE_CHECKING:
    from ..encoder import Encoder


@click.command("info", short_help="Show what pyhash runs on, and what the gallery of FOLDER or an index file holds.")
@click.argument("folder", required=False, type=FolderType(any_file=True))
@gallery_option
@encoder_options
@json_option
def info_command(
    folder: str | None,
    file: str | None,
    load_encoder: Callable[[], Encoder],
    as_json: bool,
) -> int:
    """Show what pyhash runs on: version, search kernel, CPU, encoder, and the gallery of FOLDER.

    Of an index file in place of a folder, show what it holds. A gallery's file stands for its folders.

    \b
    Examples:
      pyhash info
      pyhash info ~/Pictures --json
      pyhash info codes.index
    """
    if folder is not None and os.path.isfile(folder) and not is_gallery(Path(folder)):
        return _show_header(folder, as_json)
    try:
        kernel = backend.kernel()
    except ImportError:  # neither compiled nor Numba: that is what this command is there to tell
        kernel = None
    facts: dict[str, Any] = {
        "version": __version__,
        "kernel": kernel,
        "kernels": backend.kernels(),
        "native": backend.why_no_native() is None,
        "why_no_native": backend.why_no_native(),
        "cpu_features": backend.cpu_features(),
        "threads": backend.threads() or machine.cpus(),
    }
    try:
        encoder = load_encoder()
    except (ImportError, EncoderFailed) as error:
        facts["encoder"] = {"error": str(error)}
    else:
        facts["encoder"] = {
            "name": encoder.name,
            "fingerprint": encoder.fingerprint,
            "fingerprints": encoder.fingerprints._asdict() if hasattr(encoder, "fingerprints") else None,
            "bits": encoder.bits,
            "levels": dict(encoder.levels),
        }
    if folder is not None or file is not None:
        with Gallery(folder or os.curdir, file=file, create=False) as gallery:
            facts["gallery"] = dataclasses.asdict(gallery.stats())
    if as_json:
        print_json(facts)
        return Exit.DONE
    lines: dict[str, Any] = {
        "version": facts["version"],
        "native code": "yes" if facts["native"] else f"no: {facts['why_no_native']}",
    }
    for name in ("kernel", "kernels", "cpu_features", "threads"):
        lines[name.replace("_", " ")] = facts[name]
    for name in ("encoder", "gallery"):
        lines |= {f"{name} {key}": value for key, value in facts.get(name, {}).items()}
    if "gallery" in facts:
        lines["gallery min size"] = size(facts["gallery"]["min_size"])
        del lines["gallery min_size"]
        lines["gallery forgotten"] = len(facts["gallery"]["forgotten"])
        del lines["gallery files"], lines["gallery folders"]
        lines |= {path: many(images, "image") for path, images in facts["gallery"]["folders"].items()}
        lines |= {path: size(n_bytes) for path, n_bytes in facts["gallery"]["files"].items()}
    print_facts(lines)
    return Exit.DONE


def _show_header(path: str, as_json: bool) -> int:
    header = Index.header(path)
    facts = {**vars(header), "bits": header.bits, "levels": dict(header.levels)}
    if as_json:
        print_json({"index": facts})
    else:
        print_facts(facts)
    return Exit.DONE
