"""Drawn images like photographs, and copies of them, for tests of the search for copies."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

Change = Callable[[Image.Image], Image.Image]


def scene(seed: int, size: tuple[int, int] = (240, 180)) -> Image.Image:
    """Soft colours, shapes before them, and the grain of a sensor; no seed's looks like another's."""
    rng = np.random.default_rng(seed)
    width, height = size
    light = np.zeros((height, width, 3))
    for cells in (3, 7, 20):
        field = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8))
        light += np.asarray(field.resize(size, Image.Resampling.BICUBIC), float) / cells
    light = 20 + 200 * (light - light.min()) / (light.max() - light.min())
    image = Image.fromarray(light.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y, a, b = rng.integers(0, width), rng.integers(0, height), *rng.integers(12, 60, 2)
        colour = tuple(rng.integers(0, 256, 3).tolist())
        if rng.random() < 0.5:
            draw.ellipse([x - a, y - b, x + a, y + b], fill=colour)
        else:
            draw.polygon([(x + int(u), y + int(v)) for u, v in rng.integers(-60, 60, (4, 2))], fill=colour)
    grain = np.asarray(image, float) + rng.normal(0, 4, (height, width, 1))
    return Image.fromarray(grain.clip(0, 255).astype(np.uint8))


def recompressed(image: Image.Image, quality: int) -> Image.Image:
    """As it comes back from a JPEG file."""
    with io.BytesIO() as file:
        image.save(file, "JPEG", quality=quality)
        return Image.open(io.BytesIO(file.getvalue())).convert("RGB")


def scaled(factor: float) -> Change:
    return lambda image: image.resize(
        (round(image.width * factor), round(image.height * factor)), Image.Resampling.LANCZOS
    )


def cropped(share: float, across: float = 0.5, down: float = 0.5) -> Change:
    """Without a share of each side."""

    def crop(image: Image.Image) -> Image.Image:
        left, top = round(image.width * share * across), round(image.height * share * down)
        return image.crop((left, top, left + round(image.width * (1 - share)), top + round(image.height * (1 - share))))

    return crop


def marked(image: Image.Image) -> Image.Image:
    """With letters that half shine through."""
    mark = Image.new("L", image.size, 0)
    ImageDraw.Draw(mark).text((image.width * 0.1, image.height * 0.7), "example.org", fill=150, font_size=28)
    return Image.composite(Image.new("RGB", image.size, "white"), image, mark)


def with_logo(image: Image.Image) -> Image.Image:
    """With a badge in a corner that hides what lies under it."""
    image, side = image.copy(), min(image.size) // 5
    draw = ImageDraw.Draw(image)
    draw.rectangle([4, 4, 4 + side, 4 + side], fill=(20, 90, 160))
    draw.ellipse([4 + side // 4, 4 + side // 4, 4 + side * 3 // 4, 4 + side * 3 // 4], fill="white")
    return image


def tiled(image: Image.Image) -> Image.Image:
    """With faint letters all over it."""
    mark = Image.new("L", image.size, 0)
    draw = ImageDraw.Draw(mark)
    for row, y in enumerate(range(0, image.height, 45)):
        for x in range(-40 * (row % 2), image.width, 110):
            draw.text((x, y), "stock", fill=90, font_size=20)
    return Image.composite(Image.new("RGB", image.size, "white"), image, mark.rotate(20))


def on_a_desktop(image: Image.Image) -> Image.Image:
    """As a window of a desktop shows it, with bars close by."""
    screen = Image.new("RGB", (480, 300), (43, 43, 43))
    draw = ImageDraw.Draw(screen)
    draw.rectangle([0, 0, 480, 16], fill=(225, 225, 225))
    draw.rectangle([0, 281, 480, 300], fill=(60, 60, 70))
    for x in range(6, 200, 22):
        draw.rectangle([x, 284, x + 15, 297], fill=(40 + x, 200 - x, 90))
    factor = min(460 / image.width, 255 / image.height)
    shown = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)
    screen.paste(shown, ((480 - shown.width) // 2, 24))
    return screen


def on_a_screen(image: Image.Image) -> Image.Image:
    """As a phone shows it, and keeps the screen."""
    screen = Image.new("RGB", (270, 540), (250, 250, 250))
    draw = ImageDraw.Draw(screen)
    draw.text((10, 8), "12:41", fill=0, font_size=14)
    draw.text((10, 40), "photograph", fill=0, font_size=18)
    for x in (50, 130, 210):
        draw.ellipse([x, 500, x + 18, 518], outline=0, width=2)
    screen.paste(image.resize((270, round(270 * image.height / image.width)), Image.Resampling.BICUBIC), (0, 150))
    return screen


COPIES: dict[str, Change] = {
    "jpeg 90": lambda image: recompressed(image, 90),
    "jpeg 30": lambda image: recompressed(image, 30),
    "half": scaled(0.5),
    "twice": scaled(2),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.4),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "marked": marked,
    "logo": with_logo,
    "tiled mark": tiled,
    "5 % off": cropped(0.05),
    "5 % off at a corner": cropped(0.05, 0, 1),
    "white border": lambda image: ImageOps.expand(image, 6, "white"),
    "black border": lambda image: ImageOps.expand(image, 6, "black"),
    "on a screen": on_a_screen,
    "on a desktop": on_a_desktop,
}
CROPPED: dict[str, Change] = {"20 % off": cropped(0.2), "a corner": cropped(0.4, 1, 0)}
TURNED: dict[str, Change] = {
    way.name.lower(): lambda image, way=way: image.transpose(way)  # type: ignore[misc]
    for way in Image.Transpose
}
