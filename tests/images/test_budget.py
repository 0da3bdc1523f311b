"""The budget of pixels bounds what is decoded at one time."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("PIL")
from photographs import encoded, photo
from PIL import Image

from pyhash.errors import ImageError
from pyhash.images import PixelBudget, load


def test_pixel_budget_bounds_what_is_held():
    budget = PixelBudget(100)
    held, most, lock = 0, 0, threading.Lock()

    def work(pixels):
        nonlocal held, most
        with budget.hold(pixels):
            with lock:
                held += pixels
                most = max(most, held if pixels <= 100 else 0)
                assert pixels <= 100 or held == pixels
            time.sleep(0.001)  # so that others would enter if they could
            with lock:
                held -= pixels

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [30, 60, 250, 10, 90] * 40))
    assert most <= 100


def test_a_refused_picture_gives_its_budget_back():
    budget = PixelBudget(60 * 40)
    data = encoded(Image.fromarray(photo()), "JPEG")
    for _ in range(3):
        with pytest.raises(ImageError):
            load(data[: len(data) // 2], budget=budget)
    assert load(data, budget=budget).shape == (40, 60, 3)
