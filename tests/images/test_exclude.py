"""What a walk leaves out: the folders of systems, and what patterns name, as git understands them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from slow_ignore import kept

from pyhash.errors import PatternError
from pyhash.images import walk

ODD_NAMES = ["A", "#r", "!n", "k e", "x\ny", "b\\c", "\u00e9", os.fsdecode(b"\xff"), "z" * 200]
names = st.sampled_from(["a", "b", "ab"]) | st.sampled_from(["a.jpg", "c.jpg", *ODD_NAMES])
files = st.lists(names, min_size=1, max_size=4).map(lambda parts: "/".join(parts) + "/q.jpg")
files |= st.lists(names, max_size=3).map(lambda parts: "/".join([*parts, "c.jpg"]))
# fmt: off
parts = st.sampled_from(["a", "b", "*", "**", "q.jpg"]) | st.sampled_from([
    "a", "b", "ab", "c.jpg", "q.*", "*", "**", "?", "*.jpg", "a*", "*b", "**a", "a**", "*a*b*", "[ab]", "[!ab]",
    "[!a]*", "\\#r", "\\!n", "k\\ e", "k e", "#r", "b\\\\c", "z*z", "?.jpg",
])
# fmt: on
patterns = st.builds(
    lambda back, root, inner, folder: back + root + "/".join(inner) + folder,
    *(st.sampled_from(["", "", "!"]), st.sampled_from(["", "", "/"])),
    *(st.lists(parts, min_size=1, max_size=4), st.sampled_from(["", "", "/"])),
)
# In a file such a line is a comment.
lines = st.lists(patterns.filter(lambda pattern: not pattern.startswith("#")), max_size=4)
ignores = st.dictionaries(st.lists(names, max_size=2).map(lambda parts: "".join(f"{p}/" for p in parts)), lines)


@contextmanager
def made(paths: list[str], ignore: dict[str, list[str]]) -> Iterator[tuple[Path, list[str]]]:
    """A folder with these files, and the paths of those that could be made."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for path in paths:
            file = root / path
            if not any(parent.is_file() for parent in file.parents) and not file.is_dir():
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch()
        for folder, text in ignore.items():
            if (root / folder).is_dir():
                (root / folder / ".pyhashignore").write_text("\n".join(text), encoding="utf-8")
        there = [path for path in paths if (root / path).is_file()]
        yield root, sorted(set(there))


def found(root: Path, exclude: list[str]) -> list[str]:
    walked = walk(root, exclude)
    assert walked.failed == []
    return sorted(image.path for image in walked.images)


@given(st.lists(files, max_size=8), lines, ignores)
@example(["a/c.jpg", "b/c.jpg"], ["*", "!a/", "!a/c.jpg"], {})
@example(["a/b/c.jpg", "a/q.jpg"], ["a/**", "!a/q.jpg"], {})
@example(["x\ny/c.jpg"], ["c.jpg"], {})
@example(["a/c.jpg"], ["!c.jpg"], {"": ["*.jpg"], "a/": ["*"]})
@example(["a/c.jpg", "a/q.jpg"], [], {"": ["c.jpg"], "a/": ["q.jpg"]})
@example(["c.jpg", "a/q.jpg"], ["c.jpg/", "q.jpg/"], {"": ["a.jpg/"]})
@example(["a/c.jpg", "abc.jpg"], ["a[!b]c.jpg"], {})
@settings(deadline=None)
def test_what_is_found_is_what_the_slow_oracle_keeps(
    paths: list[str], exclude: list[str], ignore: dict[str, list[str]]
) -> None:
    with made(paths, ignore) as (root, there):
        walked = walk(root, exclude)
        expected = kept(there, exclude, {place: text for place, text in ignore.items() if (root / place).is_dir()})
        assert sorted(image.path for image in walked.images) == expected
        for path in there:
            assert walked.excludes(path) == (path not in expected)
            assert not walked.hides(path)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("git") is None:
        pytest.skip("there is no git")
    folder = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "-q", folder], check=True)
    return folder / ".git"


@given(paths=st.lists(files, max_size=8), exclude=lines, ignore=ignores)
@settings(max_examples=25, deadline=None)
def test_git_lists_the_same_files(
    repository: Path, paths: list[str], exclude: list[str], ignore: dict[str, list[str]]
) -> None:
    # To git a question mark and brackets stand for one byte. It compares what comes before the first star apart, and so
    # takes the two stars of a**/ for the beginning of the pattern.
    assume(all(path.isascii() for path in paths))
    assume(not any("a**/" in pattern for some in (exclude, *ignore.values()) for pattern in some))
    with made(paths, ignore) as (root, _):
        git = ["git", f"--git-dir={repository}", f"--work-tree={root}", "-c", "core.ignoreCase=false"]
        options = [part for pattern in exclude for part in ("-x", pattern)]
        listed = [*git, "ls-files", "-o", "-z", "--exclude-per-directory=.pyhashignore", *options]
        answer = subprocess.run(listed, cwd=root, check=True, capture_output=True).stdout
        theirs = [os.fsdecode(path) for path in answer.split(b"\0") if path and not path.endswith(b".pyhashignore")]
        assert found(root, exclude) == sorted(theirs)


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"12345")
    return root


SYSTEM = [
    "@eaDir", "@eadir", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot", "$RECYCLE.BIN", "$Recycle.Bin",
    "RECYCLER", "System Volume Information", "lost+found", "__MACOSX", "Network Trash Folder", "appdata_oc1a2b3c",
    "files_trashbin",
    "Thumbs", "THMBNL", "Lightroom Catalog Previews.lrdata", ".Trash-1000", ".thumbnails", ".@__thumb",
    "Photos Library.photoslibrary/resources", "Aperture.aplibrary/Thumbnails",
]  # fmt: skip


@pytest.mark.parametrize("name", SYSTEM)
def test_folders_that_systems_make_are_left_out(name: str, tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", f"{name}/2.jpg", f"sub/{name}/deep/3.jpg", "sub/4.jpg")
    assert found(tmp_path, []) == ["1.jpg", "sub/4.jpg"]
    assert found(tmp_path / "sub" / name, []) == ["deep/3.jpg"]  # the user asked for it


def test_what_only_looks_like_a_system_folder_is_kept(tmp_path: Path) -> None:
    names = ["resources", "Previews", "database", "thumbs up", "recycled", "eaDir", "snapshot"]
    touch(tmp_path, *(f"{name}/1.jpg" for name in names), "My.photoslibrary/originals/2.jpg", "sub/@eaDir.jpg")
    assert len(found(tmp_path, [])) == len(names) + 2


def test_a_system_folder_is_taken_back_by_its_name_alone(tmp_path: Path) -> None:
    touch(tmp_path, "Thumbs/1.jpg", "Thumbs/2.png", "a/thumbs/3.jpg", "a/4.jpg", "@eaDir/5.jpg", ".hidden/6.jpg")
    assert found(tmp_path, ["!thumbs/"]) == ["a/4.jpg", "a/thumbs/3.jpg"]
    assert found(tmp_path, ["!/Thumbs"]) == ["Thumbs/1.jpg", "Thumbs/2.png", "a/4.jpg"]
    # A common way to say "only JPEG" speaks of no system's folders, nor of hidden ones.
    assert found(tmp_path, ["*", "!*/", "!*.jpg"]) == ["a/4.jpg"]


def test_the_callers_patterns_decide_before_files_and_deeper_files_before_others(tmp_path: Path) -> None:
    touch(tmp_path, "a/b/1.jpg", "a/2.jpg", "a/keep.jpg", "3.jpg")
    (tmp_path / ".pyhashignore").write_text("*.jpg\n")
    (tmp_path / "a" / ".pyhashignore").write_text("!*.jpg\n")
    (tmp_path / "a" / "b" / ".pyhashignore").write_text("/1.jpg\n")
    assert found(tmp_path, []) == ["a/2.jpg", "a/keep.jpg"]
    assert found(tmp_path, ["a/2.jpg", "!/3.jpg"]) == ["3.jpg", "a/keep.jpg"]
    assert found(tmp_path / "a", []) == ["2.jpg", "keep.jpg"]  # files above what is walked do not count


def test_lines_of_a_file(tmp_path: Path) -> None:
    touch(tmp_path, "#a.jpg", "#b.jpg", "b .jpg", "c.jpg", "d.jpg ", "e.jpg", "f.jpg", os.fsdecode(b"\xff.jpg"))
    text = b"\xef\xbb\xbfe.jpg\r\n#b.jpg\r\n\r\n   \nc.jpg  \n\\#a.jpg\n\xff.jpg\nf.jpg"
    (tmp_path / ".pyhashignore").write_bytes(text)
    assert found(tmp_path, []) == ["#b.jpg", "b .jpg"]
    assert found(tmp_path, ["#b.jpg", "b *"]) == []


def test_a_question_mark_is_a_character_and_case_counts(tmp_path: Path) -> None:
    touch(tmp_path, "\u00e9.jpg", "X.JPG", "y.jpg")
    assert found(tmp_path, ["?.jpg"]) == ["X.JPG"]
    touch(tmp_path, "a/c.jpg")
    assert found(tmp_path, ["a[+-9]c.jpg", "/?.*"]) == ["a/c.jpg"]  # a slash lies between + and 9
    shutil.rmtree(tmp_path / "a")
    assert found(tmp_path, ["[[:upper:]].*", "[^[:punct:]x-z].jpg"]) == ["y.jpg"]


def test_many_stars_end_too(tmp_path: Path) -> None:
    touch(tmp_path, "a" * 200 + ".jpg", "/".join(["a"] * 60) + "/1.jpg", "b/a/b/a/b/2.jpg")
    exclude = ["*a" * 30 + "*b", "**/a/" * 30 + "**/b", "b/**/a/**/b/**/a/**/3.jpg", "*?*?*?*?*?*?.png"]
    assert len(found(tmp_path, exclude)) == 3
    assert found(tmp_path, ["*a" * 30 + "*", "**/a/" * 30 + "**/1.*", "b/**/a/**/b/**/a/**/b/**"]) == []


WRONG = {
    "": "it names nothing",
    "!": "it names nothing",
    "/": "it names nothing",
    "a//b": "it names nothing",
    "./a": "without . and ..",
    "a/../b": "without . and ..",
    "raw\\": "folders end in /",
    "[ab": "its brackets are not closed",
    "[z-a]": "z comes after a",
    "[[:nonsense:]]": r"there is no \[:nonsense:\]; there are alnum, alpha",
}


@pytest.mark.parametrize("pattern", WRONG)
def test_a_wrong_pattern_is_refused_by_name(pattern: str, tmp_path: Path) -> None:
    with pytest.raises(PatternError, match=f"^the pattern .* is wrong: .*{WRONG[pattern]}") as caught:
        walk(tmp_path, ["*.png", pattern])
    assert repr(pattern) in str(caught.value)
    if pattern:
        touch(tmp_path, "1.jpg", "sub/2.jpg")
        file = tmp_path / "sub" / ".pyhashignore"
        file.write_text(f"*.png\n{pattern}\n")
        seen = walk(tmp_path)
        assert [image.path for image in seen.images] == ["1.jpg"]
        assert seen.hidden == ("sub/",)
        assert f"{file}, line 2: the pattern " in seen.failed[0].reason
        with pytest.raises(PatternError, match="line 2"):
            walk(tmp_path / "sub")


@pytest.mark.parametrize("exclude", ["*.jpg", b"*.jpg", 3, [b"*.jpg"], [None]])
def test_patterns_must_be_a_sequence_of_text(exclude: object, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="exclude must be a sequence of patterns"):
        walk(tmp_path, exclude)  # type: ignore[arg-type]


def test_an_ignore_file_that_is_none_hides_its_folder(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "a/2.jpg", "b/3.jpg", "c/4.jpg")
    os.mkfifo(tmp_path / "a" / ".pyhashignore")  # to open it would wait for ever
    (tmp_path / "b" / ".pyhashignore").symlink_to(tmp_path / "gone")
    (tmp_path / "c" / ".pyhashignore").mkdir()
    seen = walk(tmp_path)
    assert [image.path for image in seen.images] == ["1.jpg"]
    assert seen.hidden == ("a/", "b/", "c/")
    assert len(seen.failed) == 3
