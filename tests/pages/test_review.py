"""The page on which a person says which copies stay: whole, safe, and what it saves is a plan."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from copied import group_of, tree, write
from galleries import picture

from pyhash.copies import Choice, Copy, Group, Keep, Plan, carry_out, choices, make_plan, read_plan, undo
from pyhash.errors import ForeignFileError
from pyhash.pages import write_review

EVIL = "<img src=x onerror=alert(1)>\"'&\n\u202e{{7*7}}<!-- <script>.png"
ODD = os.fsdecode(b"odd\xff.png")


class Page(html.parser.HTMLParser):
    """The elements of a page, and what its scripts hold; what is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.open: list[str] = []
        self._script: str | None = None
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)
        if tag == "script":
            self._script = dict(attrs).get("id") or "script"
            self.scripts[self._script] = ""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script" and self._script:
            self.scripts[self._script] += data

    def block(self, name: str) -> Any:
        return json.loads(self.scripts[name])


class Scene:
    """Groups of three copies, one with names of all kinds, and a group of similar images."""

    def __init__(self, root: Path, n: int = 3) -> None:
        self.folder = root / "photos"
        self.groups: list[Group] = []
        for number in range(n):
            paths = [self.folder / "sub" / f"{number}-{name}.png" for name in "abc"]
            for place, path in enumerate(paths):
                picture(path, number, (32 + place, 24))
                os.utime(path, ns=(10**18 + 1 + place, 10**18 + 1 + place))
            self.groups.append(group_of(*paths))
        evil, odd = (self.folder / name.replace("/", "") for name in (EVIL, ODD))
        picture(evil, 90)
        picture(odd, 91)
        self.groups.append(group_of(evil, odd, reason="<b>oldest</b>"))
        similar = [write(self.folder / f"{name}.png", name.encode(), 5) for name in ("one", "other")]
        self.groups.append(group_of(*similar)._replace(level="similar"))
        self.path = root / "page.html"

    def choices(self, **options: Any) -> list[Choice]:
        return [*choices(self.groups, [self.folder], **options)]

    def write(self, **options: Any) -> str:
        write_review(
            self.path,
            self.choices(**options),
            make_plan([], [self.folder]),
            folders=[os.fspath(self.folder)],
            facts={"Folders": "<b>\x1b"},
            thumbnails=self.thumbnail,
            date="1 May 2030, 12:00",
        )
        return self.path.read_text(encoding="utf-8")

    def thumbnail(self, copy: Copy) -> bytes | None:
        return b"small" if copy.path.endswith("a.png") else None


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_page(scene: Scene) -> None:
    text = scene.write()
    page = Page(text)
    assert "Made by pyhash, 1 May 2030, 12:00" in text
    groups = page.block("duplicates-0")
    assert [group["why"] for group in groups] == ["most pixels"] * 3 + ["<b>oldest</b>"]
    first = groups[0]["images"][0]
    assert (first["name"], first["where"]) == ("0-a.png", "sub")
    assert first["facts"] == {
        "pixels": "40 x 30",
        "size": first["facts"]["size"],
        "written": first["facts"]["written"],
        "format": "PNG",
        "sharpness": "100%",
    }
    assert first["thumbnail"] == "data:image/jpeg;base64," + base64.b64encode(b"small").decode()
    assert groups[0]["images"][1]["thumbnail"].startswith("data:image/jpeg;base64,")
    assert page.block("similar-0")[0]["images"][0]["thumbnail"] is None  # it cannot be read
    about = page.block("about")
    assert [sum["start"] for sum in about["sums"]["duplicates"]] == ["sgg"] * 3 + ["sg"]
    assert [sum["start"] for sum in about["sums"]["similar"]] == ["ss"]


def test_needs_nothing_else_and_runs_nothing_else(scene: Scene) -> None:
    text = scene.write()
    page = Page(text)
    assert not re.search(r"https?:|@import|\burl\(|<link|<iframe|srcset|eval\(|innerHTML|insertAdjacent", text)
    assert {tag for tag, attrs in page.tags if "src" in attrs} == set()
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    policy = next(attrs["content"] or "" for tag, attrs in page.tags if "http-equiv" in attrs)
    told = base64.b64encode(hashlib.sha256(page.scripts["script"].encode()).digest()).decode()
    assert f"script-src 'sha256-{told}'" in policy
    assert "default-src 'none'" in policy
    assert {attrs.get("type") for tag, attrs in page.tags if tag == "script"} == {"application/json", None}


def test_names_cannot_do_anything(scene: Scene) -> None:
    text = scene.write()
    page = Page(text)
    assert "<img" not in text
    assert "<b>oldest" not in text
    assert "&lt;b&gt;\\x1b" in text
    evil, odd = page.block("duplicates-0")[3]["images"]
    assert evil["name"] == EVIL.replace("/", "").replace("\n", "\\n").replace("\u202e", "\\u202e")
    assert odd["name"] == "odd\\udcff.png"
    assert json.loads(odd["seen"])["path_bytes"] == base64.b64encode(os.fsencode(scene.folder / ODD)).decode()


def test_what_a_plan_needs_is_there_to_the_last_bit(scene: Scene, tmp_path: Path) -> None:
    page = Page(scene.write())
    before, after = page.block("about")["around"]
    steps = []
    for group, sum in zip(page.block("duplicates-0"), page.block("about")["sums"]["duplicates"], strict=True):
        for place, image in enumerate(group["images"]):
            if sum["start"][place] == "g":
                kept = group["images"][sum["kept"]]["seen"]
                why = json.dumps(group["why"])
                steps.append(
                    f'{{"action": null, "level": "duplicates", "why": {why}, "file": {image["seen"]}, "kept": {kept}}}'
                )
    (tmp_path / "plan.json").write_text(before + ",".join(steps) + after, "ascii")
    assert read_plan(tmp_path / "plan.json") == make_plan(scene.groups, [scene.folder])


def test_what_may_not_go(scene: Scene) -> None:
    a, b, c = scene.groups[0].images
    scene.groups[0] = scene.groups[0]._replace(
        images=(a._replace(reference=True), b, c._replace(joined_by=b.path, certainty=0.8))
    )
    a, b, c = scene.groups[1].images
    Path(b.path).write_bytes(b"changed")
    scene.groups[1] = scene.groups[1]._replace(images=(a, b, c._replace(away=True)))
    page = Page(scene.write())
    sums = page.block("about")["sums"]["duplicates"]
    assert [(sum["start"], sum["locked"]) for sum in sums[:2]] == [("sgs", "l--"), ("sss", "-ll")]
    groups = page.block("duplicates-0")
    assert [image["locked"] for image in groups[1]["images"]] == [
        "",
        "it has changed since it was compared",
        "it is away",
    ]
    assert groups[0]["images"][2]["notes"] == ["changed", "80% sure", "joined by 0-b.png alone"]


def test_what_is_kept_is_ticked(scene: Scene) -> None:
    page = Page(scene.write(keep=Keep(by="newest")))
    sums = page.block("about")["sums"]["duplicates"]
    assert (sums[0]["start"], sums[0]["kept"]) == ("ggs", 2)
    assert page.block("duplicates-0")[0]["why"] == "newest"


def test_pages(tmp_path: Path) -> None:
    scene = Scene(tmp_path, 43)
    page = Page(scene.write())
    names = [name for name in page.scripts if name.startswith("duplicates-")]
    assert [len(page.block(name)) for name in names] == [20, 20, 4]


def test_no_groups(scene: Scene) -> None:
    scene.groups = []
    page = Page(scene.write())
    assert {*page.scripts} == {"about", "script"}


def test_whole_and_never_over_another_file(scene: Scene) -> None:
    scene.write()
    scene.write()
    scene.path.write_text("mine")
    with pytest.raises(ForeignFileError):
        scene.write()
    assert scene.path.read_text() == "mine"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("there is no browser")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


class Looked:
    """A page in a browser, which makes no mistakes and asks for nothing."""

    def __init__(self, browser: Any, path: Path) -> None:
        self._context = browser.new_context(viewport={"width": 1000, "height": 800})
        self.page = self._context.new_page()
        self.mistakes: list[str] = []
        self.page.on("pageerror", lambda error: self.mistakes.append(str(error)))
        self.page.on("console", lambda said: self.mistakes.append(said.text))
        self.page.on("request", lambda request: self.mistakes.append(request.url))
        self.page.goto(path.as_uri())
        assert self.mistakes.pop(0) == path.as_uri()

    def close(self) -> None:
        assert [text for text in self.mistakes if not text.startswith(("data:", "blob:"))] == []
        self._context.close()

    def press(self, keys: str) -> None:
        for key in keys.split():
            self.page.keyboard.press({"space": " "}.get(key, key))

    def letters(self) -> list[str]:
        """Of the groups that are shown, which images stay."""
        return [
            "".join(
                "s" if "stays" in figure.get_attribute("class") else "g"
                for figure in group.query_selector_all("figure")
            )
            for group in self.page.query_selector_all(".group")
        ]

    def text(self, selector: str) -> str:
        return str(self.page.inner_text(selector))

    def save(self, to: Path) -> Plan:
        with self.page.expect_download() as download:
            self.press("s")
        assert download.value.suggested_filename == "plan.json"
        download.value.save_as(to)
        self.press("Escape")
        return read_plan(to)


class TestInABrowser:
    @pytest.fixture
    def looked(self, browser: Any, scene: Scene) -> Iterator[Looked]:
        scene.write()
        looked = Looked(browser, scene.path)
        yield looked
        looked.close()

    def test_what_is_saved_is_the_plan(self, looked: Looked, scene: Scene, tmp_path: Path) -> None:
        plan = looked.save(tmp_path / "plan.json")
        assert plan == make_plan(scene.groups, [scene.folder])
        before = tree(scene.folder)
        carried = carry_out(plan.decided("move", tmp_path / "out"), tmp_path / "undo")
        assert (len(carried.done), carried.left) == (7, ())
        assert undo(tmp_path / "undo").left == ()
        assert tree(scene.folder) == before

    def test_keyboard(self, looked: Looked, scene: Scene, tmp_path: Path) -> None:
        assert looked.letters() == ["sgg", "sgg", "sgg", "sg"]
        looked.press("2 j 3 1 k ArrowRight ArrowRight space")
        assert looked.letters() == ["sss", "ggs", "sgg", "sg"]
        looked.press("j j j x")
        assert looked.letters() == ["sss", "ggs", "sgg", "ss"]
        looked.press("j j j k")  # there are no more
        looked.press("3")
        assert looked.letters() == ["sss", "ggs", "sgs", "ss"]
        assert looked.text("#total").startswith("3 images of 2 groups set aside, ")
        steps = looked.save(tmp_path / "plan.json").steps
        names = [(os.path.basename(step.file.path), os.path.basename(step.kept.path), step.why) for step in steps]
        assert names == [
            ("1-a.png", "1-c.png", "chosen by hand"),
            ("1-b.png", "1-c.png", "chosen by hand"),
            ("2-b.png", "2-a.png", "most pixels"),
        ]
        looked.press("r k r")
        assert looked.letters() == ["sss", "sgg", "sgg", "ss"]

    def test_one_always_stays(self, looked: Looked) -> None:
        looked.press("1")
        assert looked.letters()[0] == "sgg"
        assert "One image of each group stays" in looked.text("#told")
        looked.press("2 1 2 3")
        assert looked.letters()[0] == "gss"

    def test_mouse(self, looked: Looked) -> None:
        looked.page.click(".group:nth-child(2) figure:nth-child(3) .image")
        assert looked.letters()[1] == "sgs"
        assert looked.text("#told").endswith("1-c.png")
        looked.page.click(".group:nth-child(1) >> text=All stay")
        assert looked.letters()[0] == "sss"
        looked.page.click(".group:nth-child(1) >> text=As suggested")
        assert looked.letters()[0] == "sgg"

    def test_similar_images_stay_unless_it_is_said(self, looked: Looked, tmp_path: Path) -> None:
        looked.press("t")
        assert looked.letters() == ["ss"]
        assert all(step.level == "duplicates" for step in looked.save(tmp_path / "plan.json").steps)
        looked.press("2 t")
        assert looked.letters() == ["sgg", "sgg", "sgg", "sg"]
        (step,) = [step for step in looked.save(tmp_path / "plan.json").steps if step.level == "similar"]
        assert os.path.basename(step.file.path) == "other.png"

    def test_is_remembered(self, looked: Looked) -> None:
        looked.press("2 j x")
        looked.page.reload()
        assert looked.letters() == ["ssg", "sss", "sgg", "sg"]
        looked.mistakes.clear()

    def test_help(self, looked: Looked) -> None:
        looked.press("?")
        assert "next group, group before" in looked.text("#help")
        looked.press("2 Escape 3")
        assert looked.letters()[0] == "sgs"

    def test_names_are_text(self, looked: Looked, scene: Scene) -> None:
        assert looked.page.query_selector_all("img[src='x']") == []
        assert "<img src=x onerror=alert(1)>" in looked.text(".group:nth-child(4) .name span")
        assert "<b>oldest</b>" in looked.text(".group:nth-child(4) .why")

    def test_locked(self, browser: Any, scene: Scene, tmp_path: Path) -> None:
        a, b, c = scene.groups[0].images
        scene.groups[0] = scene.groups[0]._replace(images=(a, b._replace(reference=True), c))
        scene.write()
        looked = Looked(browser, scene.path)
        assert looked.letters()[0] == "gsg"
        looked.press("2")
        assert "Nothing may be done with this image: it is on the side" in looked.text("#told")
        looked.press("1 3")
        assert looked.letters()[0] == "sss"
        looked.close()

    def test_pages_and_long_paths(self, browser: Any, tmp_path: Path) -> None:
        scene = Scene(tmp_path, 43)
        long = scene.folder.joinpath(*["x" * 200] * 12) / ("y" * 200 + ".png")
        picture(long, 7)
        scene.groups.insert(1, group_of(long, Path(scene.groups[0].images[0].path)))
        scene.write()
        looked = Looked(browser, scene.path)
        assert len(looked.letters()) == 20
        assert looked.page.evaluate("document.documentElement.scrollWidth") == 1000
        looked.press("n")
        assert looked.text(".group:nth-child(1) h2") == "21"
        looked.press("k 1 j j")
        assert looked.text(".now h2") == "22"
        looked.page.fill("header input", "3")
        looked.page.press("header input", "Enter")
        assert len(looked.letters()) == 5
        looked.page.fill("header input", "9")
        looked.page.press("header input", "Enter")
        assert looked.page.input_value("header input") == "3"
        looked.page.set_viewport_size({"width": 380, "height": 700})
        assert looked.page.evaluate("document.documentElement.scrollWidth") == 380
        looked.close()
