"""Find the images of a test set that are in its training set, too, and what a figure owes to them.

    python examples/leaks.py TRAIN TEST [--galleries DIR] [--list leaks.txt]

TRAIN and TEST are folders of images; their first subfolders are taken for the classes. Needs ``pip install
pyhash-retrieval[encoder]``. Nothing is written into the folders; with ``--galleries`` what was computed is kept there,
and a second run is short. ``pyhash dedupe TRAIN --against TEST`` gives the same report, of folders that were indexed.

What is printed: how many images of each side have a copy on the other, by class; and how often the nearest training
image of a test image is of its class, over all test images and over those that are no copies.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

from pyhash import Gallery
from pyhash.copies import Overlap, inside_of, overlap


def class_of(path: str, folder: str) -> str:
    """Return the name of the first folder that an image lies in, inside its set."""
    return Path(inside_of(path, [folder])[1]).parts[0]


def print_report(name: str, counted: Overlap) -> None:
    """Print how many images of a set have a copy in the other."""
    print(f"{name}: {counted.whole.copies:,} of {counted.whole.images:,} ({counted.whole.share:.2%})")
    for label, share in sorted(counted.by_class.items(), key=lambda item: -item[1].share):
        if share.copies:
            print(f"  {label or '(in no subfolder)'}: {share.copies:,} of {share.images:,} ({share.share:.2%})")


def right(train: Gallery, test: Gallery) -> dict[str, bool]:
    """Return for each test image whether the nearest training image is of its class."""
    paths = [*test]
    nearest = train.search(paths, 1)
    return {
        path: class_of(path, test.folder) == class_of(match.path, train.folder)
        for path, (match,) in zip(paths, nearest, strict=True)
    }


def main(argv: list[str] | None = None) -> None:
    """Report on two folders."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", help="folder of training images")
    parser.add_argument("test", help="folder of test images")
    parser.add_argument("--galleries", type=Path, help="folder in which codes are kept; by default they are not")
    parser.add_argument("--list", type=Path, help="file to write the paths of test images to that are in TRAIN, too")
    options = parser.parse_args(argv)
    with ExitStack() as stack:
        kept = options.galleries or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        kept.mkdir(parents=True, exist_ok=True)
        train = stack.enter_context(Gallery(options.train, file=kept / "train.sqlite"))
        test = stack.enter_context(Gallery(options.test, file=kept / "test.sqlite"))
        for gallery in (train, test):
            gallery.update()
        found = test.duplicates(against=train)
        leaked = overlap(found.groups, test, test.folders)
        print_report("test images with a copy in train", leaked)
        print_report("train images with a copy in test", overlap(found.groups, train, train.folders, reference=True))
        hits = right(train, test)
        clean = [hit for path, hit in hits.items() if path not in leaked.paths]
        print(f"the nearest is of the same class: {sum(hits.values()) / len(hits):.4f}", end="")
        print(f", without the copies {sum(clean) / max(1, len(clean)):.4f}")
        if options.list:
            options.list.write_text("".join(f"{path}\n" for path in leaked.paths), encoding="utf-8")


if __name__ == "__main__":
    main()
