"""The page of the service, in a browser: how copies are reviewed on it; and whether all views can be used by all."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from page_fixtures import Opens, answered, until

from pyhash.copies import carry_out, read_choices

PHONE = {"width": 390, "height": 844}


class TestReviewing:
    def test_groups_are_kept_and_set_aside_by_keys(self, opened: Opens) -> None:
        page = opened()
        page.click("#to-review")
        page.wait_for_selector(".group")
        assert page.locator(".group").count() == 3
        first = page.locator(".group").first
        assert first.locator("figure").count() == 2
        assert [*first.locator(".state").all_text_contents()] == ["keep", "set aside"]
        assert "200 \N{MULTIPLICATION SIGN} 150" in first.text_content()
        assert "most pixels" in first.locator(".says").text_content()
        assert "3 images set aside" in page.text_content("#total")
        page.keyboard.press("2")
        assert first.locator(".state").all_text_contents() == ["keep", "keep"]
        page.keyboard.press("1")
        assert first.locator(".state").all_text_contents() == ["set aside", "keep"]
        page.keyboard.press("2")  # one has to stay
        assert "One image of each group" in page.text_content("#error")
        page.keyboard.press("u")
        page.keyboard.press("u")
        assert first.locator(".state").all_text_contents() == ["keep", "set aside"]
        page.keyboard.press("j")
        page.keyboard.press("x")
        assert "2 images set aside" in page.text_content("#total")
        last = page.locator(".group").nth(2)
        last.locator(".image").nth(1).focus()
        page.keyboard.press(" ")  # it is about what has the focus
        assert last.locator(".state").all_text_contents() == ["keep", "keep"]
        page.keyboard.press("u")
        page.keyboard.press("t")
        until(page, "location.hash === '#review/similar/1'")
        page.go_back()
        page.wait_for_selector(".group")
        assert "2 images set aside" in page.text_content("#total")
        page.click("#to-search")
        assert page.locator("#drop").is_visible()
        assert page.locator("#review").is_hidden()

    def test_choices_are_carried_out_by_the_command(self, opened: Opens, scenes: Path, tmp_path: Path) -> None:
        page = opened("#review")
        page.wait_for_selector(".group")
        page.keyboard.press("2")  # of the first group both are kept
        page.keyboard.press("j")
        page.keyboard.press("1")  # one has to stay
        page.keyboard.press("2")
        page.keyboard.press("1")  # of the second the copy is kept
        with page.expect_download() as download:
            page.keyboard.press("s")
        download.value.save_as(tmp_path / "choices.json")
        assert "2 images" in page.text_content("#saved")
        plan = read_choices(tmp_path / "choices.json", [scenes])
        assert plan.left == ()
        chosen = [(step.file.path, step.kept.path, step.why) for step in plan.steps]
        assert chosen == [
            (f"{scenes}/a/01.png", f"{scenes}/copies/01.jpg", "chosen by hand"),
            (f"{scenes}/copies/02.jpg", f"{scenes}/a/02.png", plan.steps[1].why),
        ]
        done = carry_out(plan.decided("move", tmp_path / "out"), tmp_path / "undo", dry_run=True).done
        assert len(done) == 2  # the files are what the page showed

    def test_two_images_are_compared(self, opened: Opens) -> None:
        page = opened("#review")
        page.wait_for_selector(".group")
        page.keyboard.press("d")
        page.wait_for_selector("#comparer[open]")
        pixels = (
            "() => [...document.querySelector('#comparer canvas').getContext('2d').getImageData(0, 0, 60, 40).data]"
        )
        one = page.evaluate(pixels)
        page.keyboard.press(" ")
        assert "00.jpg" in page.text_content("#comparer .words")
        other = page.evaluate(pixels)
        page.keyboard.press("d")
        difference = page.evaluate(pixels)
        assert one != other
        assert difference[:3] == [min(255, 4 * abs(a - b)) for a, b in zip(one[:3], other[:3], strict=True)]

    def test_it_says_how_far_the_search_is(self, opened: Opens) -> None:
        page = opened()
        left = iter([202])

        def answer(route: Any) -> None:
            status = next(left, None)
            if status is None:
                route.continue_()
            else:
                route.fulfill(
                    status=202, headers={"Retry-After": "1"}, json={"status": "searching", "done": 3, "total": 9}
                )

        page.route("**/v1/duplicates*", answer)
        page.click("#to-review")
        page.wait_for_selector("progress[value='3']")
        page.wait_for_selector(".group")


class TestLooks:
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_it_can_be_used_by_all(self, opened: Opens, scheme: str) -> None:
        found = find_spec("axe_playwright_python")
        if found is None or found.origin is None:
            pytest.skip("axe comes with axe-playwright-python")
        axe = (Path(found.origin).parent / "axe.min.js").read_text()
        page = opened(color_scheme=scheme)
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 21, 23)"
        assert dark == (scheme == "dark")
        page.wait_for_selector("#some li")
        only = ["color-contrast"] if dark else None  # all else is the same
        steps: dict[str, Callable[[], Any]] = {
            "start": lambda: None,
            "answers": lambda: (page.locator("#some button").first.click(), answered(page),
                                page.locator("#answers [data-side=like]").nth(1).click(),
                                page.locator("#answers [data-side=not]").nth(2).click()),
            "part": lambda: (page.click("#like .image >> nth=0"), page.wait_for_selector("#cropper[open]")),
            "large": lambda: (page.keyboard.press("Escape"), page.click("#answers [aria-label^=Open] >> nth=1")),
            "review": lambda: (page.keyboard.press("Escape"), page.click("#to-review"),
                               page.wait_for_selector(".group")),
            "help": lambda: page.keyboard.press("?"),
        }  # fmt: skip
        for step in steps.values():
            step()
            page.evaluate(axe)
            result = page.evaluate("(only) => axe.run(only ? {runOnly: only} : {})", only)
            wrong = {one["id"]: [node["html"] for node in one["nodes"]] for one in result["violations"]}
            assert wrong == {}

    @pytest.mark.parametrize("where", ["", "#id=5&id=6&not-id=7", "#review"])
    def test_a_phone_does_not_scroll_sideways(self, opened: Opens, where: str) -> None:
        page = opened(where, viewport=PHONE, has_touch=True, is_mobile=True)
        page.wait_for_selector({"": "#some li", "#review": ".group"}.get(where, "#answers li"))
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert page.evaluate("innerWidth") == 390
