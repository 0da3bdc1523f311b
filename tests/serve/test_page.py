"""The page of the service, in a browser: how one searches on it."""

from __future__ import annotations

import base64
import io
import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("PIL")

import numpy as np
from page_fixtures import Opens, answered, until
from PIL import Image
from scenes import scene


def direct(address: str, body: dict[str, Any]) -> list[str]:
    """What the service answers to a body."""
    request = urllib.request.Request(
        address + "v1/search", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as response:
        return [match["path"] for match in json.load(response)["results"][0]["matches"]]


def ids(page: Any) -> list[int]:
    return page.eval_on_selector_all("#answers li", "all => all.map(one => Number(one.dataset.id))")


GIVE = """([kind, target, files]) => {
  const transfer = new DataTransfer();
  for (const [name, text] of files) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    transfer.items.add(new File([bytes], name, {type: "image/png"}));
  }
  const options = {bubbles: true, cancelable: true};
  const event = kind === "paste" ? new ClipboardEvent("paste", {...options, clipboardData: transfer})
    : new DragEvent("drop", {...options, dataTransfer: transfer});
  document.querySelector(target).dispatchEvent(event);
}"""


def give(page: Any, kind: str, *paths: Path, target: str = "body") -> None:
    """Paste or drop files."""
    page.evaluate(GIVE, [kind, target, [[path.name, base64.b64encode(path.read_bytes()).decode()] for path in paths]])


class TestSearching:
    def test_an_image_that_was_chosen_finds_itself_and_others(self, opened: Opens, scenes: Path) -> None:
        page = opened()
        page.set_input_files("#file", scenes / "a" / "03.png")
        paths = answered(page)
        assert paths[0] == "a/03.png"
        assert len(paths) == 23
        assert page.text_content("#said") == "23 answers" == page.text_content("#answers-title")
        until(page, "[...document.querySelectorAll('#answers img')].every(one => one.naturalWidth > 0)")
        first = page.locator("#answers li").first
        assert first.locator(".number").text_content() == "1.00"
        assert "distance 0" in first.text_content()
        assert page.asked == [{"queries": [{"image": page.asked[0]["queries"][0]["image"]}], "k": 24}]
        assert page.url.endswith("#file=1")
        page.reload()
        page.wait_for_selector("#error:not([hidden])")
        assert "drop it again" in page.text_content("#error")

    def test_an_image_can_be_pasted_or_dropped_and_several_are_one_search(self, opened: Opens, scenes: Path) -> None:
        page = opened()
        give(page, "paste", scenes / "b" / "15.png")
        assert answered(page)[0] == "b/15.png"
        give(page, "drop", scenes / "a" / "01.png", scenes / "a" / "02.png")
        until(page, "location.hash === '#file=2&file=3'")
        assert {*answered(page)[:2]} <= {f"{where}/0{number}.{kind}" for number in (1, 2)
                                        for where, kind in (("a", "png"), ("copies", "jpg"))}  # fmt: skip
        assert page.asked[-1]["together"] is True
        assert len(page.asked[-1]["queries"]) == 2
        give(page, "drop", scenes / "a" / "05.png", target="#asked")  # there it is one more example
        until(page, "location.hash === '#file=2&file=3&file=4'")
        give(page, "drop", scenes.parent / "images" / "a" / "06.png")
        until(page, "location.hash === '#file=5'")
        assert answered(page)[0] == "a/06.png"

    def test_files_that_are_large_or_that_only_the_service_can_read(self, opened: Opens, tmp_path: Path) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (1700, 1700, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "large.bmp")
        scene(7).save(tmp_path / "seven.tiff")
        page = opened()
        page.set_input_files("#file", tmp_path / "large.bmp")
        answered(page)
        sent = base64.b64decode(page.asked[-1]["queries"][0]["image"])
        with Image.open(io.BytesIO(sent)) as image:
            assert (image.format, image.size) == ("JPEG", (1700, 1700))
        page.set_input_files("#file", tmp_path / "seven.tiff")
        until(page, "location.hash === '#file=2'")
        assert answered(page)[0] == "a/07.png"
        assert page.text_content("#like") == "seven.tiff\N{MULTIPLICATION SIGN}"
        assert page.locator("#like .image").is_disabled()

    def test_a_part_of_an_image_that_lies_on_its_side(self, opened: Opens, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by a quarter
        scene(4).rotate(90, expand=True).save(tmp_path / "side.jpg", quality=95, exif=exif)
        page = opened()
        page.set_input_files("#file", tmp_path / "side.jpg")
        assert answered(page)[0] == "a/04.png"
        page.click("#like .image")
        page.wait_for_selector("#cropper[open]")
        assert "240" in page.evaluate("String(document.querySelector('#cropper img').naturalWidth)")

    def test_one_can_begin_with_images_of_the_gallery(self, opened: Opens) -> None:
        page = opened()
        page.locator("#some button").first.click()
        assert answered(page)
        assert re.search(r"#id=\d+$", page.url)

    def test_the_slider_orders_anew(self, opened: Opens, address: str) -> None:
        page = opened("codes/#id=5")
        middle = answered(page)
        orders = []
        for t in ("0", "1"):
            page.locator("#t").fill(t)
            until(page, f"location.hash === '#id=5&t={t}'")
            weights = {"coarse": 1 - int(t), "fine": int(t)}
            orders.append(answered(page))
            assert orders[-1] == direct(address + "codes/", {"id": 5, "k": 24, "weights": weights})
            assert page.asked[-1]["weights"] == weights
        assert orders[0] != orders[1]
        n_asked = len(page.asked)
        page.locator("#t").fill("0.5")
        until(page, "location.hash === '#id=5'")
        assert answered(page) == middle
        assert len(page.asked) == n_asked
        assert page.evaluate("history.length") == 2  # sliding is not a step back

    def test_more_like_this_and_back(self, opened: Opens, address: str) -> None:
        page = opened("#id=5")
        before = answered(page)
        other = ids(page)[3]
        page.locator("#answers .image").nth(3).click()
        until(page, f"location.hash === '#id={other}'")
        assert answered(page) == direct(address, {"id": other, "k": 24})
        page.go_back()
        assert page.url.endswith("#id=5")
        assert answered(page) == before

    def test_what_is_marked_is_searched_with(self, opened: Opens, address: str) -> None:
        page = opened("#id=5&k=12")
        answered(page)
        found = ids(page)
        page.locator("#answers [data-side=like]").nth(1).click()
        page.locator("#answers [data-side=not]").nth(2).click()
        assert page.locator("#answers .wanted").count() == 2
        assert page.locator("#answers .unwanted").count() == 1
        page.click("#again")
        until(page, "location.hash.includes('not-id')")
        body = {"queries": [{"id": 5}, {"id": found[1]}], "k": 12, "together": True, "without": [{"id": found[2]}]}
        assert answered(page) == direct(address, body)
        assert page.asked[-1] == body
        assert page.locator("#again").is_hidden()
        page.click("#not .remove")
        until(page, "!location.hash.includes('not-id')")
        page.reload()
        answered(page)
        assert page.locator("#like li").count() == 2

    def test_a_part_is_chosen_with_the_mouse(self, opened: Opens, scenes: Path) -> None:
        page = opened()
        page.set_input_files("#file", scenes / "a" / "03.png")
        answered(page)
        page.click("#like .image")
        page.wait_for_selector("#cropper[open]")
        box = page.locator("#cropper img").bounding_box()
        scale = box["width"] / 240
        page.mouse.move(box["x"] + 24 * scale, box["y"] + 36 * scale)
        page.mouse.down()
        page.mouse.move(box["x"] + 120 * scale, box["y"] + 90 * scale, steps=3)
        page.mouse.up()
        page.click("text=Search for this part")
        until(page, "location.hash.includes('@')")
        answered(page)
        assert page.asked[-1]["crop"] == pytest.approx([24, 36, 120, 90], abs=1)
        assert page.locator("#like svg.frame").count() == 1
        page.click("#like .image")
        page.wait_for_selector("#cropper[open]")
        page.keyboard.press("ArrowRight")  # with the keyboard, too
        page.keyboard.press("Shift+ArrowDown")
        page.click("text=Search for this part")
        until(page, "location.hash.includes('@29,36,125,')")
        assert answered(page)

    def test_of_several_images_one_can_be_a_part(self, opened: Opens, scenes: Path) -> None:
        page = opened("#id=3@0,0,120,90&id=7@0,0,100,80")
        answered(page)
        assert "crop" not in page.asked[0]  # it would hold for both: they were cut out before
        sent = [base64.b64decode(query["image"]) for query in page.asked[0]["queries"]]
        assert [Image.open(io.BytesIO(one)).size for one in sent] == [(120, 90), (100, 80)]

    def test_where_a_part_was_found_is_drawn(self, opened: Opens, scenes: Path, tmp_path: Path) -> None:
        scene(3).crop((0, 0, 120, 90)).save(tmp_path / "part.png")
        page = opened()
        page.set_input_files("#file", tmp_path / "part.png")
        assert answered(page)[0] == "a/03.png"
        first = page.locator("#answers li").first
        assert first.locator("svg.frame").get_attribute("viewBox") == "0 0 240 180"
        assert "M0 0H120V90H0Z" in first.locator("svg .edge").first.get_attribute("d")
        assert "a part" in first.text_content()

    def test_folder_number_and_copies(self, opened: Opens, address: str) -> None:
        page = opened("#id=1")
        answered(page)
        page.fill("#folder", "copies")
        page.keyboard.press("Tab")
        until(page, "location.hash === '#id=1&in=copies'")
        assert {path.split("/")[0] for path in answered(page)} == {"copies"}
        page.fill("#folder", "")
        page.keyboard.press("Tab")
        page.select_option("#k", "12")
        page.check("#distinct")
        until(page, "location.hash === '#id=1&k=12&distinct=1'")
        assert answered(page) == direct(address, {"id": 1, "k": 12, "distinct": True})
        assert "and 1 copy" in page.text_content("#answers")

    def test_an_image_is_opened_large(self, opened: Opens) -> None:
        page = opened("#id=5")
        paths = answered(page)
        page.locator("#answers [aria-label^=Open]").nth(1).click()
        page.wait_for_selector("#viewer[open] img")
        assert paths[1] in page.text_content("#viewer")
        page.keyboard.press("ArrowRight")
        until(page, "document.querySelector('#viewer img').naturalWidth === 240")
        assert paths[2] in page.text_content("#viewer")
        page.keyboard.press("Escape")
        page.wait_for_selector("#viewer", state="hidden")

    def test_by_keys_alone(self, opened: Opens) -> None:
        page = opened("#id=5")
        answered(page)
        found = ids(page)
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("+")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("-")
        page.keyboard.press("s")
        until(page, f"location.hash === '#id=5&id={found[1]}&not-id={found[2]}'")
        answered(page)
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        until(page, "/^#id=\\d+$/.test(location.hash)")
        page.keyboard.press("?")
        assert page.locator("#help").is_visible()
        page.keyboard.press("Escape")
        page.wait_for_selector("#help", state="hidden")
        page.evaluate("document.getElementById('file').onclick = () => { window.picking = true; return false; }")
        page.keyboard.press("/")
        assert page.evaluate("window.picking")
        page.focus("#folder")
        page.keyboard.type("?")  # in a field it is a letter
        assert page.locator("#help").is_hidden()


class TestFailing:
    def test_what_is_no_image_is_said(self, opened: Opens, tmp_path: Path) -> None:
        (tmp_path / "no.png").write_bytes(b"this is no image")
        page = opened(expect="422")
        page.set_input_files("#file", tmp_path / "no.png")
        page.wait_for_selector("#error:not([hidden])")
        assert "image" in page.text_content("#error p")
        page.click("#new")
        assert page.locator("#error").is_hidden()
        assert page.locator("#drop").is_visible()

    def test_what_the_service_refuses_is_said_and_can_be_tried_again(self, opened: Opens) -> None:
        page = opened("#id=5&in=nowhere", expect="422")
        page.wait_for_selector("#error:not([hidden])")
        assert "nowhere" in page.text_content("#error p")
        page.fill("#folder", "a")
        page.keyboard.press("Tab")
        assert answered(page)
        assert page.locator("#error").is_hidden()

    def test_no_answer(self, opened: Opens) -> None:
        page = opened(expect="ERR_FAILED")
        page.route("**/v1/search", lambda route: route.abort())
        page.locator("#some button").first.click()
        page.wait_for_selector("#error:not([hidden])")
        assert "does not answer" in page.text_content("#error p")
        page.unroute("**/v1/search")
        page.click("#error button")
        assert answered(page)
        assert page.locator("#error").is_hidden()

    def test_it_waits_for_a_service_that_loads(self, browser: Any, address: str) -> None:
        page = browser.new_page()
        answers = iter([503])

        def answer(route: Any) -> None:
            status = next(answers, None)
            problem = json.dumps({"detail": "the service is loading"})
            if status is None:
                route.continue_()
            else:
                route.fulfill(status=status, headers={"Retry-After": "1"}, body=problem)

        page.route("**/v1/info", answer)
        page.goto(address)
        page.wait_for_selector("#search:not([hidden])", timeout=10_000)
        page.close()


def test_a_token_is_asked_for_and_kept(browser: Any, address: str) -> None:
    page = browser.new_page()
    page.goto(address + "token/#id=5")
    page.wait_for_selector("#token[open]")
    page.fill("#token input", "wrong")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=That was not the token")
    page.fill("#token input", "secret")
    page.keyboard.press("Enter")
    assert answered(page)
    until(page, "[...document.querySelectorAll('#answers img')].every(one => one.naturalWidth > 0)")
    assert page.locator("#answers img").first.get_attribute("src").startswith("blob:")
    page.reload()  # it is kept for this tab
    assert answered(page)
    page.close()


def test_an_index_says_that_it_has_no_images(opened: Opens) -> None:
    page = opened("index/")
    assert "no images" in page.text_content("#nothing")
    assert page.locator("#search").is_hidden()
    assert page.locator("nav").is_hidden()
