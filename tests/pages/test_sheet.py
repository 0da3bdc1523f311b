"""The HTML sheet: whole, safe, and in need of nothing else."""

from __future__ import annotations

import base64
import html.parser
import io
import os
import re
import urllib.parse
from pathlib import Path
from typing import Any

import pytest
from galleries import picture
from PIL import Image

from pyhash.images import Part
from pyhash.pages import Other, Row, write_sheet
from pyhash.pages import sheet as report
from pyhash.support import printable


class Reader(html.parser.HTMLParser):
    """Collects tags and text, and checks that what is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str, name: str) -> list[str]:
        return [attrs[name] or "" for t, attrs in self.tags if t == tag and name in attrs]


def sheet(path: Path, rows: list[Row], **changes: Any) -> str:
    options: dict[str, Any] = {
        "title": "Similar pictures",
        "label": "Query",
        "facts": {"Gallery": "photos", "Nearest": "12"},
        "far": 32,
        "note": "A note.",
        "nothing": "Nothing here.",
        "date": "1 May 2030, 12:00",
    }
    write_sheet(path, rows, **(options | changes))
    return path.read_text(encoding="utf-8")


def test_sheet(tmp_path: Path) -> None:
    picture(tmp_path / "query.png", 1, size=(900, 600))
    picture(tmp_path / "photos" / "a b.png", 2)
    picture(tmp_path / "photos" / "c.png", 3, size=(10, 700))
    matches = [
        Other(os.fspath(tmp_path / "photos" / "a b.png"), 3),
        Other(os.fspath(tmp_path / "photos" / "c.png"), 64),
    ]
    text = sheet(tmp_path / "photos" / ".." / "sheet.html", [Row([os.fspath(tmp_path / "query.png")], matches)])
    page = Reader(text)
    for expected in [
        "Similar pictures",
        "Query",
        "photos",
        "a b.png",
        "c.png",
        "1 May 2030, 12:00",
        "A note.",
    ]:
        assert expected in page.text
    assert "Nothing here" not in page.text
    sources = page.all("img", "src")
    sizes = []
    for source in sources:
        head, data = source.split(",")
        assert head == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            sizes.append(image.size)
    assert sizes == [(300, 200), (32, 24), (4, 300)]
    for link in page.all("a", "href"):
        assert (tmp_path / urllib.parse.unquote(link)).exists()
    assert re.findall(r'class="number"[^>]*>(\d+)<', text) == ["3", "64"]
    assert re.findall(r'style="width: (\d+)%', text) == ["91", "0"]


def test_needs_nothing_else(tmp_path: Path) -> None:
    picture(tmp_path / "query.png", 1)
    text = sheet(tmp_path / "sheet.html", [Row([os.fspath(tmp_path / "query.png")], [])])
    page = Reader(text)
    assert not re.search(r"(?i)https?:|@import|url\(|<script|<link|<iframe|srcset", text)
    assert {tag for tag, attrs in page.tags if "src" in attrs} == {"img"}
    assert "default-src 'none'" in page.all("meta", "content")[-1]
    assert "No images." in page.text


def test_names_cannot_do_anything(tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>\"'&\n\u202e{{7*7}}.png"
    odd = os.fsdecode(b"\xff.png")
    picture(tmp_path / evil.replace("/", ""), 1)
    picture(tmp_path / odd, 2)
    rows = [Row([os.fspath(tmp_path / evil)], [Other(os.fspath(tmp_path / odd), 1)])]
    text = sheet(tmp_path / "sheet.html", rows, facts={"Gallery": "<b>\x1b"}, title="<i>T</i>")
    page = Reader(text)
    assert "<img src=x" not in text
    assert "<img src=x onerror=alert(1)>\"'&\\n\\u202e{{7*7}}.png" in page.text
    assert "\\udcff.png" in page.text
    assert "<b>\\x1b" in page.text
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    links = [urllib.parse.unquote_to_bytes(link) for link in page.all("a", "href")]
    assert [(os.fsencode(tmp_path) + b"/" + link) for link in links] == [
        os.fsencode(tmp_path) + b"/./" + name for name in (os.fsencode(evil), b"\xff.png")
    ]


def test_pictures_that_cannot_be_shown(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("not a picture")
    rows = [Row([os.fspath(tmp_path / "text.jpg")], [Other(os.fspath(tmp_path / "gone.png"), 2)])]
    page = Reader(sheet(tmp_path / "sheet.html", rows))
    assert page.text.count("cannot be shown") == 2
    assert page.all("img", "src") == []


def test_paths_inside_the_folder(tmp_path: Path) -> None:
    others = [Other("photos/sub/a.png", 1), Other("photos-2/sub/b.png", 2), Other("photos/c.png", 3)]
    rows = [Row(["elsewhere/q.png"], others)]
    text = sheet(tmp_path / "sheet.html", rows, folder="photos")
    assert re.findall(r'class="where" title="[^"]*">([^<]*)<', text) == ["elsewhere", "sub", "photos-2/sub"]
    assert re.findall(r'class="name" title="([^"]*)"', text)[1] == "photos/sub/a.png"


def test_what_is_kept_of_an_image_is_shown_without_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    real = report.thumbnail
    monkeypatch.setattr(report, "thumbnail", lambda path: opened.append(Path(path).name) or real(path))
    for name in ("query.png", "a.png", "boxed.png", "other.png"):
        picture(tmp_path / name)
    kept = {name: f"JPEG of {name}".encode() for name in ("query.png", "a.png", "boxed.png", "away.png")}
    box = Part("box", (1, 2, 9, 9))
    others = [Other("a.png", 1), Other("boxed.png", 2, 0.5, box), Other("other.png", 3), Other("away.png", 4, 0.1, box)]
    row = Row([str(tmp_path / "query.png")], [other._replace(image=str(tmp_path / other.image)) for other in others])
    text = sheet(tmp_path / "out.html", [row], small=lambda path: kept.get(Path(path).name))
    assert opened == ["query.png", "boxed.png", "other.png"]
    shown = [base64.b64decode(src.partition(",")[2]) for src in Reader(text).all("img", "src")]
    assert [shown[1], shown[4]] == [kept["a.png"], kept["away.png"]]


def test_no_rows(tmp_path: Path) -> None:
    assert "Nothing here." in Reader(sheet(tmp_path / "sheet.html", [])).text


def test_date_is_now_by_default(tmp_path: Path) -> None:
    assert re.search(r"Made by pyhash, \d+ \w+ \d{4}, \d\d:\d\d<", sheet(tmp_path / "s.html", [], date=None))


def test_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sheet.html"
    sheet(path, [])
    before = path.read_text()

    def fail(*_: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(report.os, "replace", fail)
        with pytest.raises(OSError, match="no space left"):
            sheet(path, [])
    assert path.read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["sheet.html"]
    with pytest.raises(FileNotFoundError) as caught:
        sheet(tmp_path / "missing" / "sheet.html", [])
    assert caught.value.filename == os.fspath(tmp_path / "missing" / "sheet.html")


def test_one_thumbnail_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(report, "thumbnail", lambda path: (seen.append(path), (1, 1)))
    sheet(tmp_path / "s.html", [Row(["a"], [Other("a", 0), Other("b", 1)]), Row(["b"], [Other("a", 1)])])
    assert seen == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain name.jpg", "plain name.jpg"),
        ("ünï 猫.png", "ünï 猫.png"),
        ("9.41.00\u202fPM.png", "9.41.00\u202fPM.png"),
        ("a\nb\x1b[0m", "a\\nb\\x1b[0m"),
        ("\udcff\u200b", "\\udcff\\u200b"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown
    printable(text).encode()


def test_similarities_and_several_queries(tmp_path: Path) -> None:
    for number, name in enumerate(["a.png", "b.png", "not.png", "near.png", "opposite.png"]):
        picture(tmp_path / name, number)
    front = [os.fspath(tmp_path / name) for name in ("a.png", "b.png")]
    others = [Other(os.fspath(tmp_path / "near.png"), 7, 0.8765), Other(os.fspath(tmp_path / "opposite.png"), 4, -0.2)]
    text = sheet(tmp_path / "s.html", [Row(front, others, [os.fspath(tmp_path / "not.png")])])
    page = Reader(text)
    assert re.findall(r'class="number"[^>]*>([^<]+)<', text) == ["0.88", "-0.20"]
    assert re.findall(r"<i style=.width: (\d+)%", text) == ["88", "0"]
    assert "distance 7" in page.text
    assert [part in page.text for part in ("a.png", "b.png", "Not like", "not.png")] == [True] * 4
    assert text.count("data:image") == 5


def test_lists_side_by_side(tmp_path: Path) -> None:
    for number, name in enumerate(["a.png", "b.png", "c.png"]):
        picture(tmp_path / name, number)
    a, b, c = (os.fspath(tmp_path / name) for name in ("a.png", "b.png", "c.png"))
    row = Row([a], [Other(b, 1)], title="Same kind", more=[("Same picture", [Other(c, 2)]), ("None", [])])
    text = sheet(tmp_path / "s.html", [row])
    page = Reader(text)
    order = [page.text.index(part) for part in ("Same kind", "b.png", "Same picture", "c.png", "None", "No images.")]
    assert order == sorted(order)


def test_parts_are_drawn_where_they_lie(tmp_path: Path) -> None:
    """In pixels of the image, whatever the thumbnail's size, and beside the name of the part."""
    Image.effect_noise((900, 600), 50).save(tmp_path / "a.png")
    path = os.fspath(tmp_path / "a.png")
    others = [
        Other(path, 1, 0.9, Part("box", (300, 100, 600, 400), "shoe <1>")),
        Other(path, 2, 0.8, Part("tile", (0, 0, 450, 300))),
        Other(path, 3, 0.7, Part("turned", None, "mirrored")),
        Other(path, 4, 0.6),
        Other(os.fspath(tmp_path / "none.png"), 4, 0.6, Part("tile", (0, 0, 450, 300))),
    ]
    reader = Reader(sheet(tmp_path / "s.html", [Row([path], others, crop=(10, 20, 30, 50))]))
    assert reader.all("svg", "viewbox") == ["0 0 900 600"] * 3
    boxes = [tuple(attrs[key] for key in ("x", "y", "width", "height")) for tag, attrs in reader.tags if tag == "rect"]
    assert (
        boxes[::2] == boxes[1::2] == [("10", "20", "20", "30"), ("300", "100", "300", "300"), ("0", "0", "450", "300")]
    )
    assert [part for part in ("shoe <1>", "tile", "mirrored") if part in reader.text] == [
        "shoe <1>",
        "tile",
        "mirrored",
    ]
    assert reader.all("div", "class").count("part") == 5
