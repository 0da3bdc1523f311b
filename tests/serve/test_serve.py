"""The service: what it answers, and what it refuses."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the service needs the extra serve")
pytest.importorskip("prometheus_client", reason="the service needs the extra serve")
pytest.importorskip("python_multipart", reason="the service needs the extra serve")
pytest.importorskip("httpx", reason="applications are asked with httpx")

from galleries import PartsEncoder, execute, picture
from PIL import Image
from served import asked
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from pyhash import Gallery, GalleryError, Index
from pyhash.serve import Limits, app


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve images, in two folders."""
    for number in range(12):
        picture(tmp_path / "images" / ("a" if number < 8 else "b") / f"{number:02}.png", number, (64, 48))
    return tmp_path / "images"


@pytest.fixture
def gallery(folder: Path) -> Iterator[Gallery]:
    with Gallery(folder, PartsEncoder()) as filled:
        filled.update()
        yield filled


@pytest.fixture
def client(gallery: Gallery) -> Iterator[TestClient]:
    with asked(gallery) as client:
        yield client


def content(number: int) -> bytes:
    fields = np.random.default_rng(number).integers(0, 256, (4, 4, 3), np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(fields).resize((64, 48), Image.Resampling.NEAREST).save(file, "PNG")
        return file.getvalue()


def text(value: bytes) -> str:
    return base64.b64encode(value).decode()


def matches(answer: Any) -> list[list[tuple[int, int]]]:
    assert answer.status_code == 200, answer.text
    return [[(match["id"], match["distance"]) for match in result["matches"]] for result in answer.json()["results"]]


class TestSearch:
    def test_all_ways_to_ask_for_an_image(self, client: TestClient, gallery: Gallery, folder: Path) -> None:
        path = folder / "a" / "03.png"
        expected = [(match.id, match.distance) for match in gallery.search(path, 4)]
        image = path.read_bytes()
        for answer in (
            client.post("/v1/search?k=4", files={"image": ("x.png", image, "image/png")}),
            client.post("/v1/search", files={"image": ("x.png", image)}, data={"k": "4"}),
            client.post("/v1/search?k=4", content=image, headers={"Content-Type": "image/png"}),
            client.post("/v1/search?k=4", content=image),
            client.post("/v1/search", json={"image": text(image), "k": 4}),
            client.post("/v1/search", json={"id": expected[0][0], "k": 4}),
        ):
            assert matches(answer) == [expected]

    def test_the_answer(self, client: TestClient, folder: Path) -> None:
        answer = client.post("/v1/search?k=2", files={"image": ("x.png", (folder / "b" / "09.png").read_bytes())})
        (result,) = answer.json()["results"]
        assert (result["query"], result["ranked_by"]) == ("x.png", "similarity")
        assert result["matches"][0] == {"id": 10, "path": "b/09.png", "distance": 0, "similarity": 1.0}
        assert answer.json()["took_ms"] > 0
        assert answer.json()["encoder"] == "embedding"
        assert re.fullmatch("[0-9a-f]{16}", answer.headers["X-Request-ID"])

    def test_options(self, client: TestClient, gallery: Gallery, folder: Path) -> None:
        path = folder / "a" / "05.png"

        def of(**options: Any) -> list[tuple[int, int]]:
            return [(match.id, match.distance) for match in gallery.search(path, **options)]

        for asked_for, options in (
            ({"k": 3, "level": "coarse"}, {"k": 3, "level": "coarse"}),
            ({"weights": {"coarse": 3, "fine": 1}}, {"weights": {"coarse": 3, "fine": 1}}),
            ({"rescore": False}, {"rescore": False}),
            (
                {"rescore": False, "weights": {"coarse": 1, "fine": 3}},
                {"rescore": False, "weights": {"coarse": 1, "fine": 3}},
            ),
            ({"in": ["b"]}, {"where": [folder / "b"]}),
            ({"in": ["a/05.png"]}, {"where": [path]}),
            ({"crop": [0, 0, 32, 24]}, {"crop": (0, 0, 32, 24)}),
        ):
            answer = client.post("/v1/search", json={"image": text(path.read_bytes()), **asked_for})
            assert matches(answer) == [of(**options)], asked_for
        found = matches(client.post("/v1/search", json={"id": 6, "k": 12, "radius": 20}))[0]
        assert found == [pair for pair in of(k=12) if pair[1] <= 20]
        answer = client.post("/v1/search?weights=coarse%3D3,fine%3D1&in=a&in=b/08.png&k=2", content=path.read_bytes())
        assert matches(answer) == [of(k=2, weights={"coarse": 3, "fine": 1}, where=[folder / "a", folder / "b/08.png"])]

    def test_several_at_once_and_together(self, client: TestClient, gallery: Gallery, folder: Path) -> None:
        paths = sorted(folder.glob("a/*"))[:3]
        each = [[(match.id, match.distance) for match in found] for found in gallery.search(paths, 3)]
        files = [("image", (path.name, path.read_bytes())) for path in paths]
        assert matches(client.post("/v1/search?k=3", files=files)) == each
        queries = [
            {"id": gallery.id_of(paths[0])},
            {"image": text(paths[1].read_bytes())},
            {"id": gallery.id_of(paths[2])},
        ]
        assert matches(client.post("/v1/search", json={"queries": queries, "k": 3})) == each
        together = gallery.search(paths[:2], 3, together=True, without=paths[2:])
        body = {"queries": queries[:2], "without": queries[2:], "together": True, "k": 3}
        assert matches(client.post("/v1/search", json=body)) == [[(match.id, match.distance) for match in together]]

    def test_codes_and_embeddings(self, client: TestClient, gallery: Gallery, folder: Path) -> None:
        path = folder / "a" / "01.png"
        shown = client.post("/v1/embed", files={"image": ("x.png", path.read_bytes())}).json()
        (row,) = shown["results"]
        assert base64.b64decode(row["code"]) == gallery[path].tobytes()
        assert len(row["embedding"]) == 48
        body = {"code": row["code"], "fingerprint": shown["fingerprint"], "k": 3}
        by_code = gallery.search_codes(gallery[path][None], 3)[0]
        assert matches(client.post("/v1/search", json=body)) == [[(match.id, match.distance) for match in by_code]]
        stale = client.post("/v1/search", json=body | {"fingerprint": "another"})
        assert (stale.status_code, stale.json()["argument"]) == (409, "fingerprint")
        assert client.post("/v1/search", json={"code": row["code"]}).json()["argument"] == "fingerprint"
        assert client.post("/v1/search", json={"embedding": row["embedding"][1:]}).status_code == 422

    def test_what_arrives_together_is_answered_together(self, client: TestClient, gallery: Gallery) -> None:
        answers: dict[int, Any] = {}

        def ask(number: int) -> None:
            answers[number] = matches(client.post("/v1/search", json={"id": number, "k": 5}))

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(1, 13)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number, found in answers.items():
            examples = gallery.examples(ids=[number])
            assert found == [[(match.id, match.distance) for match in gallery.search(examples, 5)[0]]]

    def test_one_bad_image_does_not_spoil_the_others(self, client: TestClient, folder: Path) -> None:
        statuses: list[int] = []
        good = (folder / "a" / "00.png").read_bytes()

        def ask(image: bytes) -> None:
            statuses.append(client.post("/v1/search", content=image).status_code)

        threads = [threading.Thread(target=ask, args=(image,)) for image in [good, b"no image", good, good[:100]] * 4]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(statuses) == [200] * 8 + [422] * 8

    def test_a_growing_gallery_is_picked_up(self, client: TestClient, gallery: Gallery, folder: Path) -> None:
        picture(folder / "new.png", 77, (64, 48))
        with Gallery(folder, PartsEncoder()) as other:
            other.update()
        answer = client.post("/v1/search?k=1", content=(folder / "new.png").read_bytes())
        assert answer.json()["results"][0]["matches"][0]["path"] == "new.png"


class TestProblems:
    @pytest.mark.parametrize(
        ("body", "argument", "status"),
        [
            ({"k": 5}, None, 422),
            ({"id": 1, "k": 0}, "k", 422),
            ({"id": 1, "k": 2000}, "k", 422),
            ({"id": 1, "k": "many"}, "k", 422),
            ({"id": 1, "code": "AA=="}, "query", 422),
            ({"id": 99}, "id", 404),
            ({"id": 2**70}, "id", 422),
            ({"id": -1}, "id", 404),
            ({"image": "not base64!"}, "query", 422),
            ({"image": text(b"no image")}, "image", 422),
            ({"image": text(content(1)), "crop": [0, 0, 99, 9]}, "crop", 422),
            ({"image": text(content(1)), "crop": [5, 5, 5, 5]}, "crop", 422),
            ({"image": text(content(1)), "crop": [1, 2, 3]}, "crop.3", 422),
            ({"id": 1, "level": "medium"}, None, 422),
            ({"id": 1, "weights": {"medium": 1}}, None, 422),
            ({"id": 1, "weights": {"coarse": -1}}, "weights.coarse", 422),
            ({"id": 1, "level": "fine", "weights": {"fine": 1}}, "level", 422),
            ({"id": 1, "in": ["../other"]}, "in", 422),
            ({"id": 1, "in": ["/etc"]}, "in", 422),
            ({"id": 1, "in": ["nothing"]}, "in", 422),
            ({"id": 1, "unknown": 1}, "unknown", 422),
            ({"queries": [{"id": 1}], "id": 2}, "queries", 422),
            ({"queries": [{"id": 1}], "without": [{"id": 2}]}, "without", 422),
            ({"queries": [{"id": 1}] * 65}, None, 413),
            ({"embedding": [1.0, 2.0]}, "embedding", 422),
            ([1, 2], "body", 422),
        ],
    )
    def test_what_is_wrong_is_said(
        self, client: TestClient, folder: Path, body: Any, argument: str | None, status: int | None
    ) -> None:
        answer = client.post("/v1/search", json=body)
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert answer.status_code == problem["status"]
        assert answer.status_code == status or (status is None and 400 <= answer.status_code < 500)
        assert problem.get("argument") == argument or status is None
        assert problem["detail"]
        assert os.path.dirname(folder) not in problem["detail"]
        assert problem["request_id"] == answer.headers["X-Request-ID"]

    def test_bodies_that_are_none(self, client: TestClient) -> None:
        json = {"Content-Type": "application/json"}
        for body, headers, status in (
            (b"{", json, 400),
            (b"[" * 100_000, json, 400),
            (b'{"id": NaN}', json, 422),
            (b"", {}, 422),
            (b"x", {"Content-Type": "text/plain"}, 415),
            (b"x", {"Content-Type": "multipart/form-data"}, 400),
            (b"x", {"Content-Type": "multipart/form-data; boundary=y"}, 400),
            (b"a=b", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ):
            answer = client.post("/v1/search", content=body, headers=headers)
            assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), body[
                :20
            ]

    def test_routes_that_are_none(self, client: TestClient) -> None:
        assert client.get("/nothing").json()["status"] == 404
        assert client.get("/v1/search").json()["status"] == 405
        assert client.post("/v1/images", content=b"x").json()["status"] == 404  # not writable
        assert client.delete("/v1/images/1").json()["status"] == 405

    def test_too_large(self, gallery: Gallery) -> None:
        with asked(gallery, limits=Limits(body=1000)) as client:
            for body in (b"x" * 1001, iter([b"x" * 600] * 3)):
                answer = client.post("/v1/search", content=body)
                assert (answer.status_code, answer.json()["argument"]) == (413, "body")

    def test_too_slowly(self, gallery: Gallery) -> None:
        made = app(gallery, limits=Limits(seconds=0.1))
        made.state.service.start()
        assert made.state.service._ready.wait(30)
        sent: list[Any] = []

        async def receive() -> Any:
            await asyncio.sleep(60)

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"9")]
        scope = {"type": "http", "method": "POST", "path": "/v1/search", "headers": headers, "query_string": b""}
        asyncio.run(made(scope | {"asgi": {"version": "3.0"}, "http_version": "1.1"}, receive, send))
        assert sent[0]["status"] == 408
        assert b'"argument": "body"' in sent[1]["body"]

    def test_too_often(self, gallery: Gallery) -> None:
        with asked(gallery, limits=Limits(rate=0.5)) as client:
            answers = [client.get("/v1/info") for _ in range(7)]
            assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
            assert int(answers[-1].headers["Retry-After"]) >= 1
            assert client.get("/livez").status_code == 200

    def test_limits_must_be_numbers(self) -> None:
        for wrong in ({"body": 0}, {"k": -1}, {"seconds": float("nan")}, {"rate": "5"}):
            with pytest.raises(ValueError, match=next(iter(wrong))):
                Limits(**wrong)  # type: ignore[arg-type]


class TestWhoMayAsk:
    def test_names(self, gallery: Gallery) -> None:
        with asked(gallery, hosts=["localhost", "Images.example.org"]) as client:
            for host, status in (
                ("localhost:8000", 200),
                ("images.example.org", 200),
                ("evil.example.org", 421),
                ("localhost.evil.org", 421),
                ("", 421),
            ):
                assert client.get("/v1/info", headers={"Host": host}).status_code == status, host
            assert client.get("/livez", headers={"Host": "10.0.0.7"}).status_code == 200  # a probe asks by address
        with asked(gallery, hosts=["*"]) as client:
            assert client.get("/v1/info", headers={"Host": "any.example.org"}).status_code == 200

    def test_pages_of_other_sites(self, client: TestClient) -> None:
        ask = {"json": {"id": 1}}
        assert client.post("/v1/search", **ask, headers={"Origin": "http://localhost"}).status_code == 200
        for headers in (
            {"Origin": "http://evil.example.org"},
            {"Origin": "null"},
            {"Origin": "http://localhost:9999"},
            {"Sec-Fetch-Site": "cross-site"},
        ):
            assert client.post("/v1/search", **ask, headers=headers).status_code == 403, headers

    def test_token(self, gallery: Gallery) -> None:
        with asked(gallery, token="sécret") as client:
            assert client.get("/livez").status_code == 200
            assert client.get("/").status_code == 200
            for given, status in (
                (None, 401),
                (b"Bearer wrong", 401),
                (b"Basic x", 401),
                ("Bearer sécret".encode(), 200),
            ):
                headers = {} if given is None else {b"Authorization": given}
                answer = client.get("/v1/info", headers=headers)  # type: ignore[arg-type]
                assert answer.status_code == status
            assert client.get("/v1/info").headers["WWW-Authenticate"] == "Bearer"

    def test_what_browsers_are_told(self, client: TestClient) -> None:
        for path in ("/", "/v1/info", "/nothing"):
            headers = client.get(path).headers
            assert "script-src 'self'" in headers["Content-Security-Policy"]
            assert "unsafe" not in headers["Content-Security-Policy"]
            assert headers["X-Content-Type-Options"] == "nosniff"


class TestImages:
    def test_an_image_without_what_it_says_of_the_place(self, tmp_path: Path) -> None:
        image = Image.new("RGB", (60, 40), "red")
        exif = Image.Exif()
        exif[0x0112] = 6  # turned
        exif.get_ifd(0x8825)[2] = (1.0, 2.0, 3.0)
        (tmp_path / "images").mkdir()
        image.save(tmp_path / "images" / "a.jpg", exif=exif)
        with Gallery(tmp_path / "images", PartsEncoder()) as gallery:
            gallery.update()
            with asked(gallery) as client:
                answer = client.get("/v1/images/1")
                assert answer.headers["content-type"] == "image/jpeg"
                with Image.open(io.BytesIO(answer.content)) as shown:
                    assert shown.size == (40, 60)
                    assert not shown.getexif()
                small = client.get("/v1/images/1?size=20")
                with Image.open(io.BytesIO(small.content)) as shown:
                    assert max(shown.size) == 20
            with asked(gallery, exif=True) as client:
                assert client.get("/v1/images/1").content == (tmp_path / "images" / "a.jpg").read_bytes()

    def test_tags(self, client: TestClient, folder: Path) -> None:
        for path in ("/v1/images/1", "/v1/thumbnails/1"):
            first = client.get(path)
            tag = first.headers["ETag"]
            again = client.get(path, headers={"If-None-Match": f'"x", {tag}'})
            assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
            assert client.get(path, headers={"If-None-Match": '"x"'}).content == first.content
        picture(folder / "a" / "00.png", 99, (65, 48))
        assert client.get("/v1/images/1", headers={"If-None-Match": first.headers["ETag"]}).status_code == 200

    def test_what_is_not_there(self, client: TestClient, folder: Path) -> None:
        for path in ("/v1/images/99", "/v1/thumbnails/99", "/v1/images/-1"):
            assert client.get(path).status_code == 404
        assert client.get(f"/v1/images/{2**70}").status_code in (404, 422)
        assert client.get("/v1/images/..%2F..%2Fetc%2Fpasswd").status_code in (404, 422)
        assert client.get("/v1/images/1?size=1").json()["argument"] == "size"
        (folder / "a" / "00.png").unlink()
        assert client.get("/v1/images/1").status_code == 404

    def test_some_of_them(self, client: TestClient, gallery: Gallery) -> None:
        shown = [client.get(f"/v1/sample?k={k}").json()["images"] for k in (5, 5, 100)]
        assert [len({one["id"] for one in images}) for images in shown] == [5, 5, 12]
        assert all(gallery.path(one["id"]).endswith(one["path"]) for one in shown[2])
        assert shown[0] != shown[1]

    def test_the_size_of_an_image_whose_part_was_found(self, folder: Path, tmp_path: Path) -> None:
        with Gallery(folder, PartsEncoder(), file=tmp_path / "parts", tiles=(2, 2)) as gallery:
            gallery.update()
            Image.open(folder / "a" / "05.png").crop((0, 0, 32, 24)).save(tmp_path / "part.png")
            with asked(gallery) as client:
                answer = client.post("/v1/search?k=1", content=(tmp_path / "part.png").read_bytes())
                assert {len(client.get("/v1/sample?k=200").json()["images"])} == {12}
        (match,) = answer.json()["results"][0]["matches"]
        assert (match["path"], match["size"]) == ("a/05.png", [64, 48])
        assert match["part"] == {"kind": "tile", "box": [0, 0, 32, 24], "name": None}

    def test_copies(self, client: TestClient, gallery: Gallery, folder: Path) -> None:
        (folder / "b" / "copy.png").write_bytes((folder / "a" / "02.png").read_bytes())
        gallery.update()
        for _ in range(200):
            answer = client.get("/v1/duplicates?size=1")
            if answer.status_code == 200:
                break
            assert answer.status_code == 202
            time.sleep(0.05)
        shown = answer.json()
        assert (shown["page"], shown["pages"], shown["total"]) == (1, 1, 1)
        (group,) = shown["groups"]
        assert sorted(image["path"] for image in group["images"]) == ["a/02.png", "b/copy.png"]
        assert client.get("/v1/duplicates?page=2").json()["groups"] == []
        (folder / "b" / "copy.png").unlink()
        gallery.forget(folder / "b" / "copy.png")
        while (answer := client.get("/v1/duplicates")).status_code == 202:
            time.sleep(0.05)
        assert answer.json()["total"] == 0
        assert client.get("/v1/duplicates?level=similar").status_code == 200
        for wrong in ("page=0", "size=1000", "level=x"):
            assert client.get(f"/v1/duplicates?{wrong}").status_code == 422


class TestWriting:
    def test_images_come_and_go(self, gallery: Gallery, folder: Path) -> None:
        with asked(gallery, writable=True) as client:
            added = client.post("/v1/images", files={"image": ("../../evil.png", content(50))})
            assert added.status_code == 201
            (image,) = added.json()["images"]
            assert image["path"].startswith("uploads/")
            file = folder / image["path"]
            assert file.read_bytes() == content(50)
            assert matches(client.post("/v1/search?k=1", content=content(50)))[0][0] == (image["id"], 0)
            again = client.post("/v1/images", content=content(50)).json()["images"]
            assert again == [image]
            assert client.delete(f"/v1/images/{image['id']}").status_code == 204
            assert not file.exists()
            assert client.delete(f"/v1/images/{image['id']}").status_code == 404
            assert client.post("/v1/images", content=content(50)).status_code == 201  # it may come back

    def test_files_of_a_folder_are_left(self, gallery: Gallery, folder: Path) -> None:
        with asked(gallery, writable=True) as client:
            assert client.delete("/v1/images/1").status_code == 204
            assert (folder / "a" / "00.png").exists()
            assert matches(client.post("/v1/search?k=1", content=(folder / "a" / "00.png").read_bytes()))[0][0][1] > 0

    def test_nothing_is_written_where_one_is_no_image(self, gallery: Gallery, folder: Path) -> None:
        with asked(gallery, writable=True) as client:
            files = [("image", ("a.png", content(51))), ("image", ("b.png", b"no image"))]
            assert client.post("/v1/images", files=files).status_code == 422
            assert not (folder / "uploads").exists()


class TestState:
    def test_it_is_not_ready_before_it_is(self, gallery: Gallery) -> None:
        may = threading.Event()

        def load() -> Gallery:
            may.wait(30)
            return gallery

        with TestClient(app(load), base_url="http://localhost") as client:
            assert client.get("/livez").status_code == 200
            waiting = client.get("/readyz")
            assert (waiting.status_code, waiting.headers["Retry-After"]) == (503, "1")
            assert client.post("/v1/search", json={"id": 1}).status_code == 503
            may.set()
            while client.get("/readyz").status_code != 200:
                pass

    def test_what_cannot_be_loaded_is_said(self, caplog: pytest.LogCaptureFixture) -> None:
        def load() -> Gallery:
            raise GalleryError("there is no gallery at /home/photos")

        with TestClient(app(load), base_url="http://localhost") as client:
            for _ in range(100):
                answer = client.get("/readyz")
                if "its log" in answer.json()["detail"]:
                    break
            assert answer.status_code == 503
            assert "photos" not in answer.text  # no path leaves the service
            assert "there is no gallery at /home/photos" in caplog.text
            assert client.get("/livez").status_code == 200

    def test_a_gallery_that_is_damaged_under_way(
        self, client: TestClient, gallery: Gallery, caplog: pytest.LogCaptureFixture
    ) -> None:
        execute(gallery.file, "UPDATE embeddings SET checksum = checksum + 1")
        answer = client.post("/v1/search", json={"id": 1})
        assert answer.status_code == 503
        assert "/" not in answer.json()["detail"]
        assert str(gallery.file) in caplog.text
        assert client.get("/livez").status_code == 200

    def test_metrics(self, client: TestClient, folder: Path) -> None:
        client.post("/v1/search", content=(folder / "a" / "00.png").read_bytes())
        client.post("/v1/search", content=b"x")
        client.get("/v1/info", headers={"Host": "evil.example.org"})
        told = client.get("/metrics").text
        for line in (
            'pyhash_request_duration_seconds_count{route="/v1/search",status="200"} 1.0',
            'pyhash_request_duration_seconds_count{route="/v1/search",status="422"} 1.0',
            "pyhash_codes 12.0",
            'pyhash_rejected_total{status="421"} 1.0',
            'pyhash_batch_size_count{stage="search"} 1.0',
            'pyhash_queue_depth{stage="encode"} 0.0',
            'pyhash_encoder_info{fingerprint="eeeeeeeeeeeeeeee",name="embedding"} 1.0',
        ):
            assert line in told, line
        for name in ("decode_seconds", "encode_seconds", "search_seconds", "index_bytes"):
            assert f"pyhash_{name}" in told

    def test_info(self, client: TestClient) -> None:
        shown = client.get("/v1/info").json()
        assert (shown["kind"], shown["images"], shown["folders"]) == ("gallery", 12, ["images"])
        assert shown["levels"] == {"coarse": 16, "fine": 48}
        assert shown["writable"] is False

    def test_mounted_into_another_application(self, gallery: Gallery) -> None:
        other = Starlette(routes=[Mount("/own", app(gallery))])
        with TestClient(other, base_url="http://localhost") as client:
            while client.get("/own/readyz").status_code != 200:
                pass
            assert client.post("/own/v1/search", json={"id": 1}).status_code == 200
            assert client.get("/own/").status_code == 200
            assert client.get("/own/v1/info", headers={"Host": "evil.example.org"}).status_code == 421

    def test_openapi(self, client: TestClient) -> None:
        described = client.get("/openapi.json").json()
        assert set(described["paths"]) >= {"/v1/search", "/v1/embed", "/v1/images/{id}", "/livez"}
        assert "delete" not in described["paths"]["/v1/images/{id}"]


class TestIndex:
    def test_codes(self) -> None:
        codes = np.random.default_rng(0).integers(0, 256, (50, 8), np.uint8)
        index = Index(levels={"coarse": 16, "fine": 48})
        index.add(codes)
        with asked(index) as client:
            fingerprint = client.get("/v1/info").json()["fingerprint"]
            body = {"code": text(codes[7].tobytes()), "fingerprint": fingerprint, "k": 3}
            distances, ids = index.search(codes[7], 3)
            expected = [[*zip(ids.tolist(), distances.tolist(), strict=True)]]
            assert matches(client.post("/v1/search", json=body)) == expected
            assert matches(client.post("/v1/search", json={"id": 7, "k": 3})) == expected
            assert client.post("/v1/search", content=content(1)).json()["argument"] == "image"
            assert client.post("/v1/search", json={"id": 7, "in": ["a"]}).status_code == 422
            assert client.post("/v1/search", json={"id": 77}).status_code == 404
            assert client.post("/v1/search", json={"id": 7, "weights": {"coarse": 0.5, "fine": 1}}).status_code == 422
            assert client.post("/v1/search", json=body | {"code": text(b"123")}).json()["argument"] == "code"
            assert client.get("/v1/images/1").status_code == 404
