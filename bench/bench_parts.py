"""Products on larger images: how many are found by the whole, by tiles, and by boxes; turned copies with and without.

    python bench/bench_parts.py --data DIR

DIR holds the folders ``grocery`` (products) and ``photos`` (scenes, and images without a product). Each product is
pasted into a photograph, 0.3 to 0.55 of its height, and its own image is the query. Boxes are where it was pasted, each
edge off by up to 5 % of the product's longest side, as a detector's may be.
"""

from __future__ import annotations

import argparse
import csv
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image

from pyhash import Gallery

WIDTH, HEIGHT = 640, 480
TURNS = ("FLIP_LEFT_RIGHT", "ROTATE_90", "ROTATE_180", "TRANSPOSE")
WISHES: dict[str, dict[str, Any]] = {
    "wholes": {},
    "tiles 2x2": {"tiles": (2, 2)},
    "tiles 3x3": {"tiles": (3, 3)},
    "boxes": {"tiles": ()},
    "turned": {"turned": True},
}


def write(data: Path, root: Path, n_scenes: int, n_others: int) -> None:
    """Write scenes and others to index, products and turned copies to search with, and the file of boxes."""
    draw = random.Random(7)
    products = draw.sample(sorted((data / "grocery").rglob("*.jpg")), n_scenes)
    photos = draw.sample(sorted((data / "photos").rglob("*.jpg")), n_scenes + n_others)
    for name in ("shop/scenes", "shop/others", "products", "turned"):
        (root / name).mkdir(parents=True)
    with open(root / "boxes.csv", "w", newline="") as file:
        boxes = csv.writer(file)
        boxes.writerow(["path", "x0", "y0", "x1", "y1", "name"])
        for number, (product, photo) in enumerate(zip(products, photos, strict=False)):
            scene = Image.open(photo).convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
            image = Image.open(product).convert("RGB")
            image.save(root / "products" / f"{number:03}.jpg", quality=90)
            side = draw.uniform(0.3, 0.55) * HEIGHT
            image = image.resize(
                (round(image.width * side / max(image.size)), round(image.height * side / max(image.size)))
            )
            left, top = draw.randint(0, WIDTH - image.width), draw.randint(0, HEIGHT - image.height)
            scene.paste(image, (left, top))
            scene.save(root / "shop" / "scenes" / f"{number:03}.jpg", quality=85)
            off = [draw.uniform(-0.05, 0.05) * side for _ in range(4)]
            edges = (left, top, left + image.width, top + image.height)
            limits = (WIDTH, HEIGHT, WIDTH, HEIGHT)
            box = [min(most, max(0, edge + by)) for edge, by, most in zip(edges, off, limits, strict=True)]
            boxes.writerow([f"scenes/{number:03}.jpg", *(f"{edge:.1f}" for edge in box), "product"])
    for number, photo in enumerate(photos[n_scenes:]):
        image = Image.open(photo).convert("RGB")
        image.save(root / "shop" / "others" / photo.name, quality=90)
        if number < 15 * len(TURNS):
            turned = image.transpose(Image.Transpose[TURNS[number % len(TURNS)]])
            turned.save(root / "turned" / photo.name, quality=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--others", type=int, default=300)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(given.data, root, given.scenes, given.others)
        products, copies = sorted((root / "products").iterdir()), sorted((root / "turned").iterdir())
        print("wished     parts  seconds  product@1  product@10  turned@1  their similarity")
        for label, wishes in WISHES.items():
            with Gallery(root / "shop", **wishes) as gallery:
                start = time.perf_counter()
                boxes = {"boxes": root / "boxes.csv", "turned": {}}.get(label)
                changes = gallery.update(boxes=boxes)
                seconds = time.perf_counter() - start
                found = [[Path(match.path) for match in answer] for answer in gallery.search(products, 10)]
                ranks = [
                    next((n for n, path in enumerate(paths) if path.parts[-2:] == ("scenes", product.name)), 99)
                    for paths, product in zip(found, products, strict=True)
                ]
                first = [answer[0] for answer in gallery.search(copies, 1)]
                right = [Path(match.path).name == copy.name for match, copy in zip(first, copies, strict=True)]
            alike = sum(match.similarity or 0 for match in first) / len(first)
            at = [sum(rank < k for rank in ranks) / len(ranks) for k in (1, 10)]
            print(
                f"{label:10} {changes.parts:5} {seconds:8.1f} {at[0]:10.3f} {at[1]:11.3f} "
                f"{sum(right) / len(right):9.3f} {alike:17.3f}"
            )


if __name__ == "__main__":
    main()
