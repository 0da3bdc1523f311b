"""Choose and reduce the photographs that ``pyhash demo`` shows, of the Clothing dataset (CC0).

    python training/demo_photographs.py --data DIR --out pyhash/models/photographs

``DIR`` holds ``clothing/{train,validation}/CLASS/*.jpg``. Of each class twelve photographs, evenly over the sorted list
of the training part; of three classes that the built-in model tells
well (others it tells worse), the middle one of the validation part, to search with. Some 3 kB each, without metadata.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from pyhash.images import load

OF_A_CLASS = 12
QUERIES = ("pants", "shirt", "shoes")
LONGEST, QUALITY = 144, 70


def main(argv: list[str] | None = None) -> None:
    """Read the command line and write the photographs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", required=True, type=Path, help="folder with the set clothing")
    parser.add_argument("--out", required=True, type=Path, help="folder to write to")
    args = parser.parse_args(argv)
    chosen = {}
    for folder in sorted((args.data / "clothing" / "train").iterdir()):
        files = sorted(folder.glob("*.jpg"))
        numbers = np.linspace(0, len(files) - 1, OF_A_CLASS).round().astype(int)
        for place, number in enumerate(numbers, start=1):
            chosen[Path("collection", folder.name, f"{folder.name}-{place:02}.jpg")] = files[number]
    for name in QUERIES:
        files = sorted((args.data / "clothing" / "validation" / name).glob("*.jpg"))
        chosen[Path("queries", f"{name}.jpg")] = files[len(files) // 2]
    for target, source in chosen.items():
        (args.out / target).parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(load(source, longest=LONGEST, resize="lanczos"))
        image.save(args.out / target, "JPEG", quality=QUALITY, optimize=True)
    print(f"{len(chosen)} photographs, {sum((args.out / target).stat().st_size for target in chosen) / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
