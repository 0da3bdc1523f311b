"""On what kind of disk a folder lies: one that may be taken away, or lies in another machine, is not always there."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["comes_and_goes"]

_ROOT = Path("/")
# fmt: off
_REMOTE = frozenset({
    "9p", "afpfs", "afs", "auristorfs", "beegfs", "ceph", "cifs", "coda", "davfs", "fuse.ceph", "fuse.davfs2",
    "fuse.gcsfuse", "fuse.glusterfs", "fuse.gvfsd-fuse", "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "glusterfs",
    "lustre", "ncpfs", "nfs", "nfs4", "orangefs", "pvfs2", "smb3", "smbfs",
})
# fmt: on
"""Linux's names of file systems of other machines."""
_BUSES = re.compile(r"/(usb|firewire|thunderbolt)\d*[/.-]")
"""In the place of a device in Linux's tree: where it can be unplugged."""
_WINDOWS_REMOVABLE, _WINDOWS_REMOTE, _WINDOWS_DISC = 2, 4, 5  # as GetDriveTypeW tells


def comes_and_goes(folder: str | os.PathLike[str], root: Path = _ROOT) -> bool:
    """Return whether the disk of a folder can be unplugged or is another machine's, as far as the system tells.

    Parameters
    ----------
    folder : path
    root : Path
        Where Linux's ``proc`` and ``sys`` lie.
    """
    path = os.path.realpath(folder)
    if sys.platform == "win32":
        return _on_windows(path)
    if sys.platform == "darwin":
        return _mount_point(path).startswith("/Volumes/")
    mount = _mount_of(path, root)
    if mount is None:
        return False
    return mount.kind in _REMOTE or any(_can_be_unplugged(device) for device in _devices(mount, root))


class _Mount(NamedTuple):
    device: str
    """As 8:17."""
    kind: str
    source: str


def _mount_of(path: str, root: Path) -> _Mount | None:
    """The mount that a path lies on: the last of those with the longest place."""
    try:
        lines = (root / "proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    best, found = "", None
    for line in lines:
        fields, _, rest = line.partition(" - ")
        _, _, device, _, place, *_ = fields.split()
        kind, source, *_ = rest.split()
        place = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), place)
        if os.path.join(path, "").startswith(os.path.join(place, "")) and len(place) >= len(best):
            best, found = place, _Mount(device, kind, source)
    return found


def _devices(mount: _Mount, root: Path) -> list[Path]:
    """The devices that a mount is on, in Linux's tree; below one that is encrypted or joined those that it is made of.

    A file system may have a number of its own; then its source's name tells.
    """
    by_number, by_name = root / "sys/dev/block" / mount.device, root / "sys/class/block" / Path(mount.source).name
    todo = [by_number if by_number.exists() else by_name]
    found = []
    while todo:
        device = Path(os.path.realpath(todo.pop()))
        found.append(device)
        todo += (device / "slaves").glob("*")
    return found


def _can_be_unplugged(device: Path) -> bool:
    if _BUSES.search(f"{device}/"):
        return True
    disks = (device, device.parent)  # what is said of a disk is not said of its partitions
    return any(_read(disk / "removable") == "1" or _read(disk / "device/type") == "SD" for disk in disks)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _mount_point(path: str) -> str:
    while not os.path.ismount(path):
        path = os.path.dirname(path)
    return path


def _on_windows(path: str) -> bool:
    import ctypes

    drive = os.path.splitdrive(path)[0]
    if drive.startswith("\\\\"):  # \\server\share
        return True
    windows: Any = ctypes
    kind = windows.windll.kernel32.GetDriveTypeW(f"{drive}\\")
    return kind in (_WINDOWS_REMOVABLE, _WINDOWS_REMOTE, _WINDOWS_DISC)
