"""A folder of labelled pictures that a random network can tell apart: colours are groups, patterns are classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

GROUPS = {
    "warm": {"stripes": (230, 60, 20), "dots": (230, 160, 30), "plain": (240, 120, 120)},
    "cold": {"waves": (20, 60, 230), "grid": (30, 180, 200), "blank": (90, 90, 250)},
}


def draw(root: Path, per_class: int = 14, side: int = 40, seed: int = 0) -> Path:
    """Write GROUP/CLASS/NUMBER.png; return `root`."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side]
    for group, classes in GROUPS.items():
        for number, (name, colour) in enumerate(classes.items()):
            (root / group / name).mkdir(parents=True, exist_ok=True)
            for picture in range(per_class):
                phase = rng.uniform(0, 6)
                pattern = [np.sin(x / 2 + phase), np.sin(x / 3 + phase) * np.sin(y / 3), np.zeros_like(x)][number]
                pixels = np.array(colour) * (0.8 + 0.2 * pattern[..., None]) + rng.normal(0, 25, (side, side, 3))
                Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(
                    root / group / name / f"{picture:02}.png"
                )
    return root
