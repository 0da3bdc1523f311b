"""Sets of different images that look alike: they share a frame, a ground, a layout or a scene, and none is a copy.

Each set is drawn from a seed; some are drawn on photographs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from copies_of import BLACK, WHITE, font
from PIL import Image, ImageDraw, ImageFilter, ImageOps

TEXT = (
    "time year people way day man thing woman life child world school state family student group country problem hand "
    "part place case week company system program question work number night point home water room mother area money "
    "story fact month lot right study book eye job word business issue side kind head house service friend father "
    "power hour game line end member law car city name team minute idea body back parent face level office door health"
)
WORDS = TEXT.split()
GREY, PAPER = (90, 90, 90), (252, 252, 250)
RESTING, HERS, MINE = (236, 229, 221), WHITE, (220, 248, 198)
SIGNS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ2345"
FRAMES = 20


class Wish(NamedTuple):
    """What an image is drawn from."""

    number: int
    draw: np.random.Generator
    """Another one for each image of a set."""
    common: np.random.Generator
    """The same for all images of a set."""
    photographs: Sequence[Image.Image]

    def photograph(self) -> Image.Image:
        """Return the one photograph that all have in common."""
        return self.photographs[int(self.common.integers(len(self.photographs)))].copy()

    def words(self, count: int, size: float = 0, room: float = 0) -> str:
        """Return words, as many as fit into a room where one is given."""
        text = " ".join(self.draw.choice(WORDS, count))
        while room and font(size).getlength(text) > room:
            text = text[:-1]
        return text

    def points(self, low: int, high: int, count: int) -> list[tuple[int, int]]:
        return [(int(x), int(y)) for x, y in self.draw.integers(low, high, (count, 2))]


class Lookalikes(NamedTuple):
    """A set: how many images, and how one is made."""

    name: str
    count: int
    make: Callable[[Wish], Image.Image]

    def images(self, seed: int, photographs: Sequence[Image.Image]) -> Iterator[Image.Image]:
        key = [seed, *self.name.encode()]
        for number in range(self.count):
            own, common = np.random.default_rng([*key, number]), np.random.default_rng(key)
            yield self.make(Wish(number, own, common, photographs))


def noisy(image: Image.Image, draw: np.random.Generator, by: float) -> Image.Image:
    values = np.asarray(image, float)
    return Image.fromarray((values + draw.normal(0, by, values.shape)).clip(0, 255).astype(np.uint8))


# ----------------------------------------------------------------------------------------------------------------------
# Slides and pages


def slide(wish: Wish) -> Image.Image:
    image = Image.new("RGB", (960, 540), WHITE)
    bar = Image.linear_gradient("L").resize((960, 90))
    image.paste(ImageOps.colorize(bar, (0, 40, 120), (20, 130, 210)), (0, 0))
    return written_slide(wish, image, (30, 30, 30))


def slide_on_a_photograph(wish: Wish) -> Image.Image:
    ground = ImageOps.fit(wish.photograph(), (960, 540)).filter(ImageFilter.GaussianBlur(3))
    return written_slide(wish, ground, WHITE)


def written_slide(wish: Wish, image: Image.Image, ink: tuple[int, int, int]) -> Image.Image:
    pen = ImageDraw.Draw(image)
    pen.ellipse((870, 12, 936, 78), fill=(240, 180, 20))
    pen.polygon([(890, 60), (903, 20), (916, 60)], fill=(160, 30, 30))
    pen.rectangle((0, 512, 960, 540), fill=(230, 230, 235))
    pen.text((20, 515), "Department of Examples · Annual meeting 2024", fill=GREY, font=font(16))
    pen.text((910, 515), str(wish.number + 1), fill=GREY, font=font(16))
    pen.text((30, 22), wish.words(4).title(), fill=WHITE, font=font(40))
    for line in range(int(wish.draw.integers(3, 6))):
        pen.text((60, 130 + 66 * line), f"- {wish.words(int(wish.draw.integers(3, 8)))}", fill=ink, font=font(28))
    return image


def page(wish: Wish) -> Image.Image:
    image = Image.new("RGB", (1000, 1400), PAPER)
    pen = ImageDraw.Draw(image)
    for line in range(44):
        pen.text((90, 80 + 28 * line), wish.words(14, 20, 820), fill=(20, 20, 20), font=font(20))
    return image


def form(wish: Wish) -> Image.Image:
    """One form, filled in for another name, number and sum."""
    image = Image.new("RGB", (1000, 1400), PAPER)
    pen, ink = ImageDraw.Draw(image), (20, 20, 20)
    pen.text((90, 60), "INVOICE", fill=(20, 20, 60), font=font(60))
    pen.rectangle((700, 50, 920, 150), fill=(40, 90, 60))
    pen.text((720, 75), "Acme Ltd", fill=WHITE, font=font(40))
    for y in range(420, 1260, 30):
        pen.text((90, y), " ".join(wish.common.choice(WORDS, 8)), fill=(40, 40, 40), font=font(20))
        pen.line((80, y + 28, 920, y + 28), fill=(200, 200, 200))
    pen.text((90, 200), f"To: {wish.words(2).title()}", fill=ink, font=font(28))
    pen.text((90, 250), f"No. {wish.draw.integers(1_000_000):06}", fill=ink, font=font(28))
    pen.text((700, 1290), f"{wish.draw.integers(10, 999)}.{wish.draw.integers(100):02} EUR", fill=ink, font=font(34))
    return image


def plot(wish: Wish) -> Image.Image:
    image = Image.new("RGB", (640, 480), WHITE)
    pen = ImageDraw.Draw(image)
    pen.rectangle((70, 30, 610, 420), outline=BLACK)
    for tick in range(6):
        pen.text((30, 410 - 75 * tick), str(20 * tick), fill=BLACK, font=font(16))
        pen.line((64, 420 - 78 * tick, 70, 420 - 78 * tick), fill=BLACK)
        pen.text((65 + 105 * tick, 428), str(10 * tick), fill=BLACK, font=font(16))
    heights = (220 + wish.draw.normal(0, 20, 55).cumsum()).clip(35, 415).tolist()
    pen.line([(70 + 10 * place, height) for place, height in enumerate(heights)], fill=(31, 119, 180), width=3)
    pen.text((260, 5), "training loss", fill=BLACK, font=font(20))
    return image


# ----------------------------------------------------------------------------------------------------------------------
# Signs and icons


def white_sign(wish: Wish) -> Image.Image:
    """A white shape on what is transparent."""
    image = Image.new("RGBA", (256, 256), (255, 255, 255, 0))
    ImageDraw.Draw(image).polygon(wish.points(20, 236, 3 + wish.number % 4), fill=(255, 255, 255, 255))
    return image


def framed_sign(wish: Wish) -> Image.Image:
    image = Image.new("RGB", (256, 256), WHITE)
    pen = ImageDraw.Draw(image)
    pen.rounded_rectangle((10, 10, 246, 246), 30, outline=(200, 20, 20), width=18)
    pen.polygon(wish.points(60, 196, 3 + wish.number % 4), fill=BLACK)
    return image


def icon(wish: Wish) -> Image.Image:
    """A sign on a flat ground, another for each: of the same sign moved nobody could say that it is another image."""
    image = Image.new("RGB", (128, 128), (30, 90, 200))
    x, y, size = (int(value) for value in wish.draw.integers((56, 56, 60), (72, 72, 90)))
    sign = SIGNS[wish.number]
    ImageDraw.Draw(image).text((x, y), sign, fill=WHITE, font=font(size), anchor="mm", stroke_width=2)
    return image


def card(wish: Wish) -> Image.Image:
    """One rich ground, and a number on it."""
    image = ImageOps.fit(wish.photograph(), (300, 420))
    pen = ImageDraw.Draw(image)
    pen.rectangle((100, 160, 200, 260), fill=WHITE)
    pen.text((150, 210), str(wish.number + 10), fill=BLACK, font=font(70), anchor="mm")
    return image


# ----------------------------------------------------------------------------------------------------------------------
# Scans in a frame


def fan() -> np.ndarray:
    y, x = np.mgrid[:480, :640]
    return (np.hypot(x - 320, y + 50) < 500) & (np.abs(np.arctan2(x - 320, y + 50)) < 0.6)


def spot(wish: Wish, wide: float, radius: float) -> np.ndarray:
    y, x = np.mgrid[:480, :640]
    return np.hypot((x - wish.draw.integers(240, 400)) / wide, y - wish.draw.integers(180, 330)) < radius


def scan(wish: Wish) -> Image.Image:
    values = np.where(fan(), 40 + 30 * wish.draw.random((480, 640)), 0)
    values[spot(wish, 1, 30)] = 5
    return Image.fromarray(values.astype(np.uint8))


def labelled_scan(wish: Wish) -> Image.Image:
    """A scan of softer grain with small findings, and the writing of its machine."""
    grain = Image.fromarray(wish.draw.integers(0, 256, (60, 80), np.uint8)).resize((640, 480), Image.Resampling.BICUBIC)
    depth = (1.2 - np.arange(480) / 480).clip(0.2, 1)[:, None]
    values = np.where(fan(), (30 + 0.35 * np.asarray(grain)) * depth, 0)
    values[spot(wish, wish.draw.uniform(0.7, 1.4), wish.draw.integers(12, 40)) & fan()] *= 0.2
    image = Image.fromarray(values.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    pen.text((10, 10), "GENERAL HOSPITAL  ABD  C5-2", fill=220, font=font(18))
    pen.text((10, 40), "MI 1.2  TIS 0.8\nFR 24Hz\n16cm", fill=180, font=font(14))
    for y in range(60, 430, 36):
        pen.line((620, y, 630, y), fill=200)
    for step in range(64):
        pen.rectangle((600, 100 + 3 * step, 612, 102 + 3 * step), fill=255 - 4 * step)
    return image


# ----------------------------------------------------------------------------------------------------------------------
# Chats


def empty_chat() -> Image.Image:
    image = Image.new("RGB", (540, 1080), RESTING)
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0, 540, 90), fill=(7, 94, 84))
    pen.ellipse((15, 30, 65, 80), fill=(200, 200, 200))
    pen.text((80, 40), "Holiday", fill=WHITE, font=font(30))
    pen.rectangle((0, 1020, 540, 1080), fill=(245, 245, 245))
    pen.text((20, 1032), "Message", fill=(150, 150, 150), font=font(26))
    return image


def chat(wish: Wish) -> Image.Image:
    image = empty_chat()
    pen = ImageDraw.Draw(image)
    for y in range(110, 980, 64):
        text, mine = wish.words(int(wish.draw.integers(2, 5)), 24, 440), wish.draw.random() < 0.5
        width = pen.textlength(text, font=font(24)) + 40
        x = 520 - width if mine else 20
        pen.rounded_rectangle((x, y, x + width, y + 50), 12, fill=MINE if mine else HERS)
        pen.text((x + 20, y + 10), text, fill=BLACK, font=font(24))
    return image


def chat_of_one_layout(wish: Wish) -> Image.Image:
    """Bubbles at the same places, of the same width: only what is written in them differs."""
    image = empty_chat()
    pen = ImageDraw.Draw(image)
    for line, y in enumerate(range(110, 980, 68)):
        x, colour = (20, HERS) if line % 3 else (180, MINE)
        pen.rounded_rectangle((x, y, x + 340, y + 52), 12, fill=colour)
        pen.text((x + 15, y + 10), wish.words(4, 24, 310), fill=BLACK, font=font(24))
    return image


# ----------------------------------------------------------------------------------------------------------------------
# Of one photograph, or of nothing


def meme(wish: Wish) -> Image.Image:
    """One photograph, other words on it."""
    image = ImageOps.fit(wish.photograph(), (640, 480))
    pen = ImageDraw.Draw(image)
    for y in (45, 435):
        text = wish.words(3).upper()
        pen.text((320, y), text, fill=WHITE, font=font(40), anchor="mm", stroke_width=3, stroke_fill=BLACK)
    return image


def frame_of_a_burst(wish: Wish) -> Image.Image:
    """One scene, held by hand, through which something moves."""
    scene, other = wish.photograph(), wish.photograph()
    w, h = scene.size
    side = round(min(w, h) * 0.3)
    patch = ImageOps.fit(other, (side, side))
    mask = Image.new("L", (side, side))
    ImageDraw.Draw(mask).ellipse((0, 0, side - 1, side - 1), fill=255)
    x = round((w - side) * wish.number / (FRAMES - 1))
    scene.paste(patch, (x, round(h * 0.4 + wish.draw.integers(-3, 4))), mask)
    left, top = (int(value) for value in wish.draw.integers(0, 4, 2))
    return noisy(scene.crop((left, top, left + w - 4, top + h - 4)), wish.draw, 3)


def view(wish: Wish) -> Image.Image:
    """Part of one scene, as if the camera had been swung on: each misses a sixth of the next, or more."""
    scene = wish.photograph()
    (w, h), column, row = scene.size, wish.number % 5, wish.number // 5
    left, top = w * 0.1 * column, h * 0.4 / 3 * row
    return scene.crop((round(left), round(top), round(left + w * 0.6), round(top + h * 0.6)))


def blank(wish: Wish) -> Image.Image:
    return noisy(Image.new("RGB", (400, 300), (int(wish.draw.integers(256)),) * 3), wish.draw, 1.5)


def sky(wish: Wish) -> Image.Image:
    ground = ImageOps.colorize(Image.linear_gradient("L").resize((400, 300)), (90, 140, 220), (170, 200, 240))
    lighter = int(wish.draw.integers(-10, 10))
    return noisy(ground.point(lambda value: value + lighter), wish.draw, 2)


SETS = (
    Lookalikes("slides", 20, slide),
    Lookalikes("slides on a photograph", 20, slide_on_a_photograph),
    Lookalikes("white signs, transparent", 30, white_sign),
    Lookalikes("signs in a frame", 30, framed_sign),
    Lookalikes("icons", 30, icon),
    Lookalikes("scans in a frame", 30, scan),
    Lookalikes("scans, labelled", 30, labelled_scan),
    Lookalikes("chats", 30, chat),
    Lookalikes("chats of one layout", 20, chat_of_one_layout),
    Lookalikes("pages of text", 20, page),
    Lookalikes("forms", 20, form),
    Lookalikes("plots", 20, plot),
    Lookalikes("cards", 20, card),
    Lookalikes("memes", 20, meme),
    Lookalikes("burst", FRAMES, frame_of_a_burst),
    Lookalikes("views of one scene", 20, view),
    Lookalikes("blanks", 20, blank),
    Lookalikes("skies", 20, sky),
)
