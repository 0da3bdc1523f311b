"""Draw a small gallery of pictures, so that everything can be tried offline."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._extras import require

WIDTH, HEIGHT = 320, 240
VARIANTS = 10
"""Pictures a family."""

_SCALE = 2  # drawn larger and reduced, for smooth edges
_W, _H = WIDTH * _SCALE, HEIGHT * _SCALE

_Random = np.random.Generator
_Colour = tuple[int, int, int]
_Pixels = NDArray[np.uint8]


def draw_gallery(pictures: str | os.PathLike[str], queries: str | os.PathLike[str]) -> list[Path]:
    """Draw families of pictures, one subfolder each, and a few more to search with.

    The same files come out every time, and a file that is there already is left alone.

    Parameters
    ----------
    pictures : path
        Folder for the gallery: `VARIANTS` pictures of each of a dozen families.
    queries : path
        Folder for further variants of three of the families.

    Returns
    -------
    list of Path
        The queries.

    Raises
    ------
    ImportError
        When Pillow is not installed.
    """
    for name, draw in _FAMILIES.items():
        for variant in range(VARIANTS):
            _save(Path(pictures) / name / f"{name}-{variant + 1:02}.jpg", draw, name, variant)
    drawn = []
    for name in ("sunset", "shirt", "flower"):
        path = Path(queries) / f"{name}.jpg"
        _save(path, _FAMILIES[name], name, VARIANTS)
        drawn.append(path)
    return drawn


def _save(path: Path, draw: Callable[[_Random], Any], name: str, variant: int) -> None:
    if path.exists():
        return
    image = draw(np.random.default_rng([*name.encode(), variant]))
    buffer = io.BytesIO()
    image.reduce(_SCALE).save(buffer, "JPEG", quality=88)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".tmp")
    scratch.write_bytes(buffer.getvalue())
    os.replace(scratch, path)


# Tools


def _image(pixels: NDArray[Any]) -> Any:
    return require("PIL.Image", "encoder").fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _pen(image: Any) -> Any:
    return require("PIL.ImageDraw", "encoder").Draw(image)


def _gradient(top: _Colour, bottom: _Colour) -> Any:
    t = np.linspace(0, 1, _H)[:, None, None]
    pixels = (1 - t) * np.array(top) + t * np.array(bottom)
    return _image(np.broadcast_to(pixels, (_H, _W, 3)))


def _noise(random: _Random, cells_x: int, cells_y: int) -> NDArray[np.float64]:
    """Smooth values in 0..1, about `cells_x` by `cells_y` bumps over the picture."""
    coarse = _image(random.integers(0, 256, (cells_y + 1, cells_x + 1)))
    return np.asarray(coarse.resize((_W, _H), 3), np.float64) / 255


def _pick(random: _Random, *colours: _Colour) -> _Colour:
    """One of some colours, slightly changed."""
    colour = np.array(colours[random.integers(len(colours))]) + random.integers(-12, 13, 3)
    r, g, b = np.clip(colour, 0, 255).tolist()
    return r, g, b


def _shade(colour: _Colour, factor: float) -> _Colour:
    r, g, b = (min(255, round(c * factor)) for c in colour)
    return r, g, b


def _disc(pen: Any, x: float, y: float, radius: float, colour: _Colour) -> None:
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _ridge(random: _Random, base: float, height: float, bumps: int) -> NDArray[np.float64]:
    """The outline of hills: a height in pixels for each column."""
    x = np.linspace(0, 1, _W)
    outline = np.zeros(_W)
    for octave in range(5):
        phase, count = random.uniform(0, 7), bumps * 2**octave
        outline += np.sin(2 * math.pi * count * x * random.uniform(0.8, 1.2) + phase) / 1.9**octave
    return base - height * outline


def _below(pen: Any, outline: NDArray[np.float64], colour: _Colour) -> None:
    points = list(zip(range(_W), outline.tolist(), strict=True))
    pen.polygon([*points, (_W, _H), (0, _H)], fill=colour)


# Families


def _sunset(random: _Random) -> Any:
    top = _pick(random, (70, 50, 110), (110, 50, 90), (50, 60, 120))
    glow = _pick(random, (255, 150, 60), (255, 120, 70), (255, 180, 90))
    image = _gradient(top, glow)
    horizon = round(_H * random.uniform(0.55, 0.7))
    sun_x, sun_y, radius = (
        random.uniform(0.2, 0.8) * _W,
        horizon - random.uniform(10, 70),
        random.uniform(38, 60),
    )
    pen = _pen(image)
    _disc(pen, sun_x, sun_y, radius * 1.5, _shade(glow, 1.12))
    _disc(pen, sun_x, sun_y, radius, (255, 238, 170))
    sea = _shade(top, 0.75)
    pen.rectangle((0, horizon, _W, _H), fill=sea)
    for y in range(horizon + 4, _H, 9):
        spread = radius * (1 + (y - horizon) / 90)
        for _ in range(3):
            x = sun_x + random.normal(0, spread * 0.5)
            length = random.uniform(0.2, 0.9) * spread
            pen.rectangle((x - length / 2, y, x + length / 2, y + 4), fill=_shade(glow, random.uniform(0.8, 1.1)))
    return image


def _mountains(random: _Random) -> Any:
    image = _gradient(_pick(random, (90, 150, 220), (120, 170, 225)), (225, 235, 245))
    pen = _pen(image)
    for layer, (base, height) in enumerate([(0.5, 60), (0.66, 45), (0.82, 30)]):
        tone = 190 - 55 * layer
        outline = _ridge(random, base * _H, height, 2 + layer)
        if layer == 0:
            _below(pen, outline - 16, (248, 250, 255))
        _below(pen, outline + (10 if layer == 0 else 0), (tone - 60, tone - 30, tone))
    _below(pen, _ridge(random, 0.95 * _H, 12, 3), _pick(random, (50, 90, 60), (60, 80, 50)))
    return image


def _city(random: _Random) -> Any:
    image = _gradient((12, 14, 40), _pick(random, (60, 45, 95), (40, 60, 100)))
    pen = _pen(image)
    for _ in range(60):
        _disc(pen, random.uniform(0, _W), random.uniform(0, _H * 0.5), random.uniform(0.6, 1.8), (220, 220, 240))
    x = -20.0
    while x < _W:
        width, top = random.uniform(45, 95), _H * random.uniform(0.25, 0.7)
        pen.rectangle((x, top, x + width, _H), fill=_pick(random, (26, 28, 48), (34, 34, 58)))
        for window_x in np.arange(x + 8, x + width - 12, 15):
            for window_y in np.arange(top + 12, _H, 20):
                if random.random() < 0.55:
                    lit = _pick(random, (255, 214, 120), (255, 235, 170))
                    pen.rectangle((window_x, window_y, window_x + 7, window_y + 10), fill=lit)
        x += width + random.uniform(0, 8)
    return image


def _flower(random: _Random) -> Any:
    green = _pick(random, (60, 120, 50), (80, 140, 60), (50, 105, 65))
    blur = _noise(random, 9, 7)[..., None]
    image = _image(np.array(green) * (0.65 + 0.6 * blur))
    pen = _pen(image)
    x, y, size = _W * random.uniform(0.4, 0.6), _H * random.uniform(0.4, 0.52), random.uniform(120, 165)
    pen.line((x, y, x + random.uniform(-40, 40), _H), fill=_shade(green, 0.6), width=14)
    petals = int(random.integers(7, 13))
    colour = _pick(random, (235, 90, 130), (245, 245, 240), (245, 200, 60), (170, 100, 220))
    turn = random.uniform(0, 1)
    for layer, reach in ((0.82, 1.0), (1.0, 0.78)):
        for petal in range(petals):
            angle = 2 * math.pi * (petal + turn + layer / 2) / petals
            for step in np.linspace(0.25, 1, 16):
                distance = size * reach * step * 0.68
                _disc(
                    pen,
                    x + distance * math.cos(angle),
                    y + distance * math.sin(angle),
                    size * reach * 0.30 * math.sin(math.pi * (0.22 + 0.7 * step)),
                    _shade(colour, layer * (0.86 + 0.14 * step)),
                )
    _disc(pen, x, y, size * 0.27, (200, 140, 40))
    _disc(pen, x - 4, y - 4, size * 0.19, (235, 185, 70))
    return image


def _balloons(random: _Random) -> Any:
    image = _gradient(_pick(random, (90, 170, 235), (120, 190, 240)), (215, 235, 250))
    pen = _pen(image)
    for _ in range(int(random.integers(3, 6))):
        x, y, size = random.uniform(0.12, 0.88) * _W, random.uniform(0.15, 0.6) * _H, random.uniform(38, 70)
        colour = _pick(random, (225, 60, 60), (250, 190, 50), (60, 160, 90), (150, 80, 190), (240, 120, 170))
        pen.line((x, y + size, x + random.uniform(-25, 25), y + size * 3), fill=(120, 120, 130), width=3)
        pen.polygon(
            [(x - 9, y + size * 1.28), (x + 9, y + size * 1.28), (x, y + size * 1.1)],
            fill=_shade(colour, 0.8),
        )
        pen.ellipse((x - size, y - size * 1.2, x + size, y + size * 1.2), fill=colour)
        pen.ellipse((x - size * 0.6, y - size * 0.85, x - size * 0.2, y - size * 0.3), fill=_shade(colour, 1.35))
    return image


def _shirt(random: _Random) -> Any:
    wall = _pick(random, (228, 224, 216), (210, 200, 188), (236, 236, 238))
    image = _image(np.array(wall) * (0.93 + 0.1 * _noise(random, 4, 3)[..., None]))
    pen = _pen(image)
    colour = _pick(random, (190, 50, 55), (45, 80, 150), (40, 40, 46), (60, 130, 90), (225, 175, 60))
    x, y, s = _W * random.uniform(0.46, 0.54), _H * random.uniform(0.13, 0.2), random.uniform(0.85, 1.0)
    half = [(30, 0), (78, 16), (165, 92), (128, 146), (88, 112), (92, 330)]
    outline = [(x + s * dx, y + s * dy) for dx, dy in half] + [(x - s * dx, y + s * dy) for dx, dy in half[::-1]]
    pen.polygon([(px + 7, py + 9) for px, py in outline], fill=_shade(wall, 0.82))
    pen.polygon(outline, fill=colour)
    if random.random() < 0.4:
        for stripe in range(5):
            top = y + s * (135 + 38 * stripe)
            pen.rectangle((x - 89 * s, top, x + 89 * s, top + 15 * s), fill=_shade(colour, 1.45))
    for side in (-1, 1):
        pen.line(
            (x + side * 88 * s, y + 112 * s, x + side * 80 * s, y + 60 * s),
            fill=_shade(colour, 0.75),
            width=4,
        )
    pen.pieslice((x - 31 * s, y - 30 * s, x + 31 * s, y + 32 * s), 0, 180, fill=_shade(wall, 0.8))
    pen.arc((x - 36 * s, y - 35 * s, x + 36 * s, y + 38 * s), 0, 180, fill=_shade(colour, 0.7), width=6)
    return image


def _fruit(random: _Random) -> Any:
    table = _pick(random, (150, 105, 70), (175, 130, 90))
    image = _gradient(_pick(random, (235, 225, 205), (220, 225, 215)), (205, 195, 175))
    pen = _pen(image)
    edge = _H * random.uniform(0.55, 0.65)
    pen.rectangle((0, edge, _W, _H), fill=table)
    colour = _pick(random, (205, 45, 45), (240, 140, 35), (130, 175, 55))
    count = int(random.integers(3, 6))
    for place in range(count):
        size = random.uniform(52, 68)
        x, y = _W * (place + 0.7) / (count + 0.4), edge + random.uniform(0, 60)
        pen.ellipse((x - size, y + size * 0.72, x + size * 1.3, y + size * 1.12), fill=_shade(table, 0.65))
        for ring in np.linspace(1, 0, 24):
            _disc(
                pen,
                x - (1 - ring) * size * 0.3,
                y - (1 - ring) * size * 0.35,
                size * ring,
                _shade(colour, 1.25 - 0.4 * ring),
            )
        pen.line((x, y - size * 0.85, x + 8, y - size * 1.2), fill=(90, 65, 40), width=6)
    return image


def _forest(random: _Random) -> Any:
    image = _gradient((190, 215, 225), (225, 235, 225))
    pen = _pen(image)
    leaf = _pick(random, (40, 95, 55), (55, 110, 60), (35, 85, 70))
    for depth in range(4):
        tone = 1.7 - 0.32 * depth
        base = _H * (0.62 + 0.13 * depth)
        for place in range(9 - depth):
            size = random.uniform(0.8, 1.2) * (50 + 22 * depth)
            x = _W * (place + random.uniform(0.1, 0.9)) / (9 - depth)
            pen.rectangle((x - size * 0.07, base - size * 0.2, x + size * 0.07, base + size * 0.3), fill=(85, 62, 45))
            for tier in range(4):
                width, top = size * (0.26 + 0.15 * tier), base - size * (2.0 - 0.45 * tier)
                points = [(x, top), (x - width, top + size * 0.75), (x + width, top + size * 0.75)]
                pen.polygon(points, fill=_shade(leaf, tone * random.uniform(0.94, 1.06)))
    _below(pen, _ridge(random, 0.95 * _H, 6, 3), _shade(leaf, 0.8))
    return image


def _boat(random: _Random) -> Any:
    image = _gradient(_pick(random, (120, 185, 235), (150, 200, 235)), (230, 240, 248))
    sea = _pick(random, (30, 100, 150), (35, 120, 150))
    horizon = round(_H * random.uniform(0.58, 0.66))
    pen = _pen(image)
    pen.rectangle((0, horizon, _W, _H), fill=sea)
    for y in range(horizon + 8, _H, 11):
        for _ in range(7):
            x = random.uniform(0, _W)
            pen.line((x, y, x + random.uniform(20, 70), y), fill=_shade(sea, random.uniform(1.05, 1.35)), width=3)
    x, s = _W * random.uniform(0.3, 0.7), random.uniform(0.8, 1.2)
    y = horizon + 40
    pen.polygon([(x - 8, y - 30 * s), (x - 8, y - 220 * s), (x - 105 * s, y - 30 * s)], fill=(250, 248, 240))
    sail = _pick(random, (220, 70, 60), (245, 190, 70), (70, 110, 180))
    pen.polygon([(x + 8, y - 30 * s), (x + 8, y - 245 * s), (x + 120 * s, y - 30 * s)], fill=sail)
    pen.line((x, y - 250 * s, x, y), fill=(90, 70, 55), width=7)
    hull = [
        (x - 125 * s, y - 20 * s),
        (x + 135 * s, y - 20 * s),
        (x + 95 * s, y + 28 * s),
        (x - 90 * s, y + 28 * s),
    ]
    pen.polygon(hull, fill=(120, 70, 45))
    return image


def _stripes(random: _Random) -> Any:
    y, x = np.mgrid[0:_H, 0:_W]
    angle = random.uniform(-0.5, 0.5)
    wave = np.sin((x * math.cos(angle) + y * math.sin(angle)) * 2 * math.pi / random.uniform(55, 95))
    a, b = (
        _pick(random, (30, 60, 120), (160, 40, 60), (30, 110, 100)),
        _pick(random, (240, 235, 225), (225, 225, 230)),
    )
    mix = np.clip(wave * 6 + 0.5, 0, 1)[..., None]
    weave = 0.95 + 0.05 * (np.sin(x * 0.9) * np.sin(y * 0.9))[..., None]
    return _image((mix * np.array(a) + (1 - mix) * np.array(b)) * weave)


def _wood(random: _Random) -> Any:
    y, x = np.mgrid[0:_H, 0:_W]
    bend = _noise(random, 3, 5) * 9 + _noise(random, 5, 2) * 3
    rings = np.sin(y / random.uniform(14, 24) + bend)[..., None]
    fibre = _noise(random, 14, 180)[..., None]
    base = np.array(_pick(random, (165, 115, 70), (130, 85, 50), (190, 145, 95)))
    planks = np.where((y % round(_H / 3)) < 5, 0.6, 1.0)[..., None]
    return _image(base * (0.85 + 0.12 * rings + 0.16 * fibre) * planks + 0 * x[..., None])


def _tiles(random: _Random) -> Any:
    size = int(random.integers(42, 68))
    grout = _pick(random, (235, 232, 225), (200, 198, 195))
    image = _image(np.broadcast_to(np.array(grout), (_H, _W, 3)))
    pen = _pen(image)
    a = _pick(random, (40, 110, 160), (30, 130, 130), (60, 80, 160))
    b = _pick(random, (240, 190, 80), (225, 120, 80), (240, 240, 235))
    for row, top in enumerate(range(-10, _H, size)):
        for column, left in enumerate(range(-10, _W, size)):
            colour = _shade(a if (row + column) % 2 else b, random.uniform(0.88, 1.08))
            pen.rounded_rectangle((left, top, left + size - 6, top + size - 6), 7, fill=colour)
            _disc(
                pen,
                left + size / 2 - 3,
                top + size / 2 - 3,
                size * 0.2,
                _shade(b if (row + column) % 2 else a, 0.95),
            )
    return image


_FAMILIES: dict[str, Callable[[_Random], Any]] = {
    "balloons": _balloons,
    "boat": _boat,
    "city": _city,
    "flower": _flower,
    "forest": _forest,
    "fruit": _fruit,
    "mountains": _mountains,
    "shirt": _shirt,
    "stripes": _stripes,
    "sunset": _sunset,
    "tiles": _tiles,
    "wood": _wood,
}
