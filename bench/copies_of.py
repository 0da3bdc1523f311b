"""Kinds of copies of a photograph, as files: what people, cameras and sites do to an image that stays the same image.

Each is drawn from the number of the photograph alone, so that every run makes the same files.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

Change = Callable[[Image.Image, np.random.Generator], Image.Image]

QUALITY = 92
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


class Kind(NamedTuple):
    """A kind of copy."""

    name: str
    goal: float | None
    """The share that is to be found."""
    change: Change | None = None
    """None where the file's own bytes are copied."""
    option: str | None = None
    """Of `pyhash.duplicates`, without which this is no copy."""
    quality: int | None = QUALITY
    """Of the JPEG that it is written as; PNG where None."""

    def write(self, source: Path, number: int, folder: Path) -> Path:
        """Write the copy of a photograph into a folder; return its path."""
        if self.change is None:
            data, suffix = source.read_bytes(), source.suffix
        else:
            with Image.open(source) as image:
                upright = ImageOps.exif_transpose(image).convert("RGB")
            held = io.BytesIO()
            copy = self.change(upright, np.random.default_rng([number, *self.name.encode()]))
            copy.save(held, "PNG" if self.quality is None else "JPEG", quality=self.quality)
            data, suffix = held.getvalue(), ".png" if self.quality is None else ".jpg"
        path = folder / f"{number:04}{suffix}"
        path.write_bytes(data)
        return path


@cache
def font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(max(8, round(size)))


# ----------------------------------------------------------------------------------------------------------------------
# Changes


def same(image: Image.Image, _: np.random.Generator) -> Image.Image:
    return image


def scaled(by: float) -> Change:
    return lambda image, _: image.resize(
        (max(1, round(image.width * by)), max(1, round(image.height * by))), Image.Resampling.LANCZOS
    )


def grey(image: Image.Image, _: np.random.Generator) -> Image.Image:
    return ImageOps.grayscale(image).convert("RGB")


def bordered(share: float, colour: tuple[int, int, int]) -> Change:
    return lambda image, _: ImageOps.expand(image, max(1, round(min(image.size) * share)), colour)


def cut(share: float, *, centred: bool = True) -> Change:
    """Cut away a share of the width and of the height: as much at either side, or how it falls."""

    def change(image: Image.Image, draw: np.random.Generator) -> Image.Image:
        x, y = (0.5, 0.5) if centred else draw.random(2)
        w, h = (round(side * (1 - share)) for side in image.size)
        left, top = round((image.width - w) * x), round((image.height - h) * y)
        return image.crop((left, top, left + w, top + h))

    return change


def square(image: Image.Image, _: np.random.Generator) -> Image.Image:
    return ImageOps.fit(image, (min(image.size),) * 2)


def turned(way: Image.Transpose) -> Change:
    return lambda image, _: image.transpose(way)


# ----------------------------------------------------------------------------------------------------------------------
# Marks


def written_over(image: Image.Image, layer: Image.Image) -> Image.Image:
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")


def clear(size: tuple[int, int]) -> Image.Image:
    return Image.new("RGBA", size, (255, 255, 255, 0))


def text_in_a_corner(image: Image.Image, draw: np.random.Generator) -> Image.Image:
    layer, (w, h) = clear(image.size), image.size
    place = (w * draw.uniform(0.05, 0.4), h * draw.uniform(0.6, 0.85))
    fill = (255, 255, 255, int(draw.integers(110, 200)))
    ImageDraw.Draw(layer).text(place, "© example.com", fill=fill, font=font(w / 12))
    return written_over(image, layer)


def text_across(image: Image.Image, _: np.random.Generator) -> Image.Image:
    layer, (w, h) = clear(image.size), image.size
    pen = ImageDraw.Draw(layer)
    pen.text((w / 2, h / 2), "SAMPLE", fill=(255, 255, 255, 128), font=font(w / 6), anchor="mm")
    return written_over(image, layer)


def tiled(image: Image.Image, _: np.random.Generator) -> Image.Image:
    w, h = image.size
    side = int(np.hypot(w, h)) + 1
    layer = clear((side, side))
    pen, step = ImageDraw.Draw(layer), max(1, side // 5)
    for row, y in enumerate(range(0, side, step)):
        for x in range(-side // 6, side, max(1, side // 3)):
            pen.text((x + row % 2 * side // 6, y), "stock image", fill=(255, 255, 255, 90), font=font(w / 14))
    left, top = (side - w) // 2, (side - h) // 2
    return written_over(image, layer.rotate(30).crop((left, top, left + w, top + h)))


def logo(image: Image.Image, draw: np.random.Generator) -> Image.Image:
    copy, (w, h) = image.copy(), image.size
    side = round(min(w, h) * 0.2)
    x, y = int(draw.choice([4, w - side - 4])), int(draw.choice([4, h - side - 4]))
    pen, inner = ImageDraw.Draw(copy), side // 5
    pen.rectangle((x, y, x + side, y + side), fill=tuple(draw.integers(0, 256, 3).tolist()))
    pen.ellipse((x + inner, y + inner, x + side - inner, y + side - inner), fill=WHITE)
    return copy


def strip(image: Image.Image, _: np.random.Generator) -> Image.Image:
    copy, (w, h) = image.copy(), image.size
    pen, side = ImageDraw.Draw(copy), round(h * 0.08)
    pen.rectangle((0, h - side, w, h), fill=BLACK)
    pen.text((4, h - side / 2), "taken on the coast, 2019", fill=WHITE, font=font(side - 4), anchor="lm")
    return copy


# ----------------------------------------------------------------------------------------------------------------------
# Screenshots: drawn at the size of a screen, then halved or quartered as they are sent


def placed(screen: Image.Image, image: Image.Image, room: tuple[int, int], at: tuple[int, int] | None = None) -> None:
    """Fit an image into a room and paste it, in the middle of the screen unless told where."""
    fitted = ImageOps.contain(image, room, Image.Resampling.BICUBIC)
    screen.paste(fitted, at or ((screen.width - fitted.width) // 2, (screen.height - fitted.height) // 2))


def phone(image: Image.Image, draw: np.random.Generator) -> Image.Image:
    paper, ink = (BLACK, WHITE) if draw.random() < 0.5 else (WHITE, BLACK)
    screen = Image.new("RGB", (1080, 2160), paper)
    placed(screen, image, (1080, 1760))
    pen = ImageDraw.Draw(screen)
    pen.text((40, 20), f"12:{draw.integers(60):02}", fill=ink, font=font(48))
    pen.rectangle((940, 30, 1020, 66), outline=ink, width=4)
    pen.text((60, 120), f"IMG_{draw.integers(10_000):04}.jpg", fill=ink, font=font(56))
    for x in range(120, 1000, 250):
        pen.ellipse((x, 2010, x + 70, 2080), outline=ink, width=6)
    return screen.reduce(4)


def desktop(image: Image.Image, draw: np.random.Generator) -> Image.Image:
    screen = Image.new("RGB", (960, 600), (43, 43, 43))
    fitted = ImageOps.contain(image, (920, 490), Image.Resampling.BICUBIC)
    screen.paste(fitted, ((960 - fitted.width) // 2, 50))
    pen = ImageDraw.Draw(screen)
    pen.rectangle((0, 0, 960, 34), fill=(225, 225, 225))
    pen.text((10, 8), "photograph.jpg - viewer", fill=(20, 20, 20), font=font(18))
    pen.rectangle((0, 560, 960, 600), fill=(60, 60, 70))
    for x in range(12, 400, 44):
        pen.rectangle((x, 566, x + 30, 592), fill=tuple(draw.integers(60, 256, 3).tolist()))
    return screen.reduce(2)


def chat(image: Image.Image, draw: np.random.Generator) -> Image.Image:
    screen = Image.new("RGB", (540, 1080), (236, 229, 221))
    pen = ImageDraw.Draw(screen)
    pen.rectangle((0, 0, 540, 90), fill=(7, 94, 84))
    pen.ellipse((15, 30, 65, 80), fill=(200, 200, 200))
    pen.text((80, 40), "Holiday", fill=WHITE, font=font(30))
    pen.rounded_rectangle((20, 110, 300, 160), 12, fill=WHITE)
    pen.text((40, 120), "hello, how are you", fill=BLACK, font=font(24))
    fitted = ImageOps.contain(image, (400, 500), Image.Resampling.BICUBIC)
    top = 200 + int(draw.integers(100))
    end = top + fitted.height
    pen.rounded_rectangle((20, top - 8, 36 + fitted.width, end + 40), 12, fill=WHITE)
    screen.paste(fitted, (28, top))
    pen.rounded_rectangle((160, end + 70, 520, end + 130), 12, fill=(220, 248, 198))
    pen.text((180, end + 85), "look at this!", fill=BLACK, font=font(26))
    return screen.reduce(2)


KINDS = (
    Kind("exact", 0.99),
    Kind("PNG", 0.99, same, quality=None),
    Kind("JPEG 90", 0.99, same, quality=90),
    Kind("JPEG 50", 0.99, same, quality=50),
    Kind("JPEG 30", 0.99, same, quality=30),
    Kind("half size", 0.99, scaled(0.5)),
    Kind("quarter size", 0.99, scaled(0.25)),
    Kind("brightness 0.7", 0.99, lambda image, _: ImageEnhance.Brightness(image).enhance(0.7)),
    Kind("brightness 1.3", 0.99, lambda image, _: ImageEnhance.Brightness(image).enhance(1.3)),
    Kind("grey", 0.99, grey),
    Kind("contrast 1.4", 0.99, lambda image, _: ImageEnhance.Contrast(image).enhance(1.4)),
    Kind("mark, text in a corner", 0.99, text_in_a_corner),
    Kind("mark, text across", 0.99, text_across),
    Kind("mark, tiled", 0.99, tiled),
    Kind("mark, logo", 0.99, logo),
    Kind("mark, strip below", 0.99, strip),
    Kind("crop 2 %", 0.99, cut(0.02)),
    Kind("crop 5 %", 0.99, cut(0.05)),
    Kind("crop 5 %, off centre", 0.99, cut(0.05, centred=False)),
    Kind("crop 5 % at each edge", 0.99, cut(0.1)),
    Kind("border 3 %, white", 0.99, bordered(0.03, WHITE)),
    Kind("border 3 %, black", 0.99, bordered(0.03, BLACK)),
    Kind("screenshot, phone", 0.95, phone),
    Kind("screenshot, desktop", 0.95, desktop),
    Kind("screenshot, chat", 0.95, chat),
    Kind("mirrored", 0.98, turned(Image.Transpose.FLIP_LEFT_RIGHT), "turned"),
    Kind("turned 90", 0.98, turned(Image.Transpose.ROTATE_90), "turned"),
    Kind("turned 180", 0.98, turned(Image.Transpose.ROTATE_180), "turned"),
    Kind("turned 270", 0.98, turned(Image.Transpose.ROTATE_270), "turned"),
    Kind("crop 20 %", 0.95, cut(0.2), "cropped"),
    Kind("crop 20 %, off centre", 0.95, cut(0.2, centred=False), "cropped"),
    Kind("square", 0.95, square, "cropped"),
    Kind("crop 40 %", None, cut(0.4), "cropped"),
)
