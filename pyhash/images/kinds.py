"""What lies beside images: files of other kinds, told by how their names end."""

from __future__ import annotations

import os
from collections.abc import Collection

__all__ = ["KINDS", "PassedOver", "kind_of", "may_be_image"]

# fmt: off
_SUFFIXES = {
    "camera RAW": ".bay .cap .eip .k25 .mdc .pxn .r3d .raw .rwz",  # of no use to LibRaw, or of no certain kind
    "Photoshop": ".psb .psd",
    "SVG": ".svg .svgz",
    "other image": (
        ".afphoto .ai .bpg .cgm .dcm .dds .djvu .emf .eps .exr .fits .flif .hdr .icns .ico .jbig2 .jls .jph"
        " .jpm .jps .jxr .kra .ora .pam .pcx .pfm .pict .pxd .sgi .tga .thm .wbmp .wdp .wmf .xbm"
        " .xcf .xpm"
    ),
    "sidecar": ".aae .arp .cos .dop .nksc .on1 .pp3 .vrd .xmp",
    "video": (
        ".3g2 .3gp .amv .asf .avi .braw .divx .dv .f4v .flv .insv .lrv .m2t .m2ts .m2v .m4v .mkv .mov .mp4 .mpe .mpeg"
        " .mpg .mpv .mts .mxf .ogm .ogv .qt .rm .rmvb .vob .webm .wmv"
    ),
}
_NO_IMAGES = frozenset({
    ".7z", ".aac", ".bak", ".bat", ".bin", ".bz2", ".c", ".cache", ".cfg", ".conf", ".cpp", ".crdownload", ".css",
    ".csv", ".dat", ".db", ".dll", ".doc", ".docx", ".download", ".epub", ".exe", ".flac", ".gz", ".h", ".htm",
    ".html", ".ics", ".idx", ".ini", ".iso", ".jar", ".java", ".js", ".json", ".jsonl", ".key", ".lnk", ".lock",
    ".log", ".m3u", ".m4a", ".md", ".mid", ".mp3", ".npy", ".npz", ".odp", ".ods", ".odt", ".ogg", ".old", ".onnx",
    ".opus", ".orig", ".part", ".partial", ".pdf", ".pkl", ".ppt", ".pptx", ".pt", ".pth", ".py", ".pyc", ".rar",
    ".rtf", ".sh", ".so", ".sqlite", ".srt", ".sub", ".tar", ".tex", ".tgz", ".tmp", ".toml", ".ts", ".tsv", ".ttf",
    ".txt", ".url", ".vtt", ".wav", ".wma", ".xls", ".xlsx", ".xml", ".xz", ".yaml", ".yml", ".zip", ".zst",
})
"""What holds no image, or none that is meant to be found: these are not opened to look."""
# fmt: on
_KIND_OF = {suffix: kind for kind, suffixes in _SUFFIXES.items() for suffix in suffixes.split()}
_LIVE = "film of a live photograph"
_OTHER = "other"
_FILMS = frozenset({".mov", ".mp4"})
_PHOTOGRAPHS = frozenset({".heic", ".heif", ".jpeg", ".jpg"})

KINDS = (*_SUFFIXES, _LIVE, _OTHER)
"""Kinds of files that are passed over, in the order in which they are told."""


class PassedOver:
    """Counts the files of a walk that are passed over, by kind."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(KINDS, 0)

    def add(self, names: Collection[str], images: Collection[str]) -> None:
        """Count the files of one folder, beside its images."""
        stems = {stem.lower() for stem, suffix in map(_split, images) if suffix in _PHOTOGRAPHS} if names else set()
        for name in names:
            self._counts[kind_of(name, stems)] += 1

    def counts(self) -> dict[str, int]:
        """How many there are of each kind of which there are any."""
        return {kind: count for kind, count in self._counts.items() if count}


def kind_of(name: str, photographs: Collection[str] = ()) -> str:
    """Return what kind of file a name calls it; beside photographs of these names (small, without their ending)."""
    stem, suffix = _split(name)
    if suffix in _FILMS and stem.lower() in photographs:
        return _LIVE
    return _KIND_OF.get(suffix, _OTHER)


def may_be_image(name: str) -> bool:
    """Return whether a name says nothing of what the file holds: it has no ending, or one that nobody knows."""
    return kind_of(name) == _OTHER and _split(name)[1] not in _NO_IMAGES


def _split(name: str) -> tuple[str, str]:
    stem, suffix = os.path.splitext(name)
    return stem, suffix.lower()
