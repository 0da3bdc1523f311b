"""On what kind of disk a folder lies, told from folders that look like a system's."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pyhash.support import disks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what Linux tells of its disks")

PCI = "sys/devices/pci0000:00/0000:00:14.0"
DEVICES = {
    "8:1": f"{PCI}/ata1/host0/block/sda/sda1",
    "8:17": f"{PCI}/usb2/2-1/2-1:1.0/host6/block/sdb/sdb1",
    "8:33": f"{PCI}/ata2/host1/block/sdc/sdc1",
    "179:1": f"{PCI}/mmc_host/mmc0/mmc0:0001/block/mmcblk0/mmcblk0p1",
    "179:9": f"{PCI}/mmc_host/mmc1/mmc1:0001/block/mmcblk1/mmcblk1p1",
    "253:0": "sys/devices/virtual/block/dm-0",
    "253:1": "sys/devices/virtual/block/dm-1",
}
MOUNTS = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:5 / /proc rw - proc proc rw
40 22 8:17 / /media/ann/USB\040STICK rw shared:7 - vfat /dev/sdb1 rw
41 22 8:33 / /media/card rw - exfat /dev/sdc1 rw
42 22 179:1 / /media/sd rw - vfat /dev/mmcblk0p1 rw
43 22 179:9 / /data rw - ext4 /dev/mmcblk1p1 rw
44 22 0:44 / /nas rw - nfs4 nas:/photos rw
45 22 0:45 / /home/ann/remote rw - fuse.sshfs ann@host: rw
46 22 253:0 / /vault rw - ext4 /dev/mapper/vault rw
47 22 253:1 / /inner rw - ext4 /dev/mapper/inner rw
48 22 0:48 /@ /pool rw - btrfs /dev/sdb1 rw
49 22 0:49 / /tmp rw - tmpfs tmpfs rw
50 22 8:17 / /over rw - vfat /dev/sdb1 rw
51 22 8:1 / /over rw - ext4 /dev/sda1 rw
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A system's files, with a disk, a stick, a card in a reader, a card, fixed memory, and disks made of others."""
    for number, place in DEVICES.items():
        device = tmp_path / place
        device.mkdir(parents=True)
        for by, name in (("dev", number), ("class", device.name)):
            link = tmp_path / "sys" / by / "block" / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(device)
    for disk, said, text in (
        ("8:1", "removable", "0"),
        ("8:33", "removable", "1"),
        ("179:1", "device/type", "SD"),
        ("179:9", "device/type", "MMC"),
    ):
        path = (tmp_path / DEVICES[disk]).parent / said
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{text}\n")
    for made, of in (("253:0", "8:17"), ("253:1", "8:1")):
        slaves = tmp_path / DEVICES[made] / "slaves"
        slaves.mkdir()
        (slaves / Path(DEVICES[of]).name).symlink_to(tmp_path / DEVICES[of])
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text(MOUNTS.lstrip())
    return tmp_path


@pytest.mark.parametrize(
    ("folder", "comes_and_goes"),
    [
        ("/home/ann/Pictures", False),
        ("/", False),
        ("/media/ann/USB STICK", True),
        ("/media/ann/USB STICK/a/b", True),
        ("/media/ann/USB STICKS", False),  # beside it
        ("/media/ann", False),
        ("/media/card/DCIM", True),
        ("/media/sd", True),
        ("/data/photos", False),
        ("/nas/2024", True),
        ("/home/ann/remote", True),
        ("/home/ann/remoter", False),
        ("/vault/x", True),  # encrypted, on the stick
        ("/inner/x", False),
        ("/pool/x", True),  # of a number of its own
        ("/tmp/x", False),
        ("/over/x", False),  # what was mounted last
    ],
)
def test_what_can_be_unplugged_or_is_elsewhere(root: Path, folder: str, comes_and_goes: bool) -> None:
    assert disks.comes_and_goes(folder, root) is comes_and_goes


def test_a_system_that_tells_nothing(tmp_path: Path) -> None:
    assert not disks.comes_and_goes("/media/stick", tmp_path)


def test_here(tmp_path: Path) -> None:
    """Whatever it is, it is told."""
    assert disks.comes_and_goes(tmp_path) in (True, False)
