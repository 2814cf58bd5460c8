"""Which files the words of a command name."""

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from longleaf.app.jobs.sources import find_sources, with_sha256
from longleaf.errors import QuestionError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "in"
    hidden = [".hidden.txt", ".git/e.txt", "deep/.f/g.txt"]
    for name in ["b.pdf", "a.txt", "deep/er/c.MD", "deep/d.markdown", "picture.png", *hidden]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "folder.txt").mkdir()
    monkeypatch.chdir(folder)
    return folder


def names(*words: str, listed: str = "", exclude: tuple[str, ...] = ()) -> list[str]:
    found = find_sources(words, io.StringIO(listed), exclude=exclude)
    assert all(path.is_absolute() for path in found)
    return [str(path.relative_to(Path.cwd())) for path in found]


ALL = ["a.txt", "b.pdf", "deep/d.markdown", "deep/er/c.MD"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["."], ALL),
        (["deep"], ["deep/d.markdown", "deep/er/c.MD"]),
        (["deep/.f"], ["deep/.f/g.txt"]),  # a folder that is named is searched, hidden or not
        (["*.txt"], ["a.txt"]),
        (["**/*.[mM]*"], ["deep/d.markdown", "deep/er/c.MD"]),
        (["*.png"], ["picture.png"]),  # what is named is taken, whatever its suffix
        (["b.pdf", "a.txt"], ["b.pdf", "a.txt"]),
        (["b.pdf", ".", "b.pdf", "./b.pdf"], ["b.pdf", "a.txt", "deep/d.markdown", "deep/er/c.MD"]),
        (["missing.pdf", "a.txt"], ["missing.pdf", "a.txt"]),
        (["x" * 300], ["x" * 300]),
        (["~nobody-of-this-name.txt"], ["~nobody-of-this-name.txt"]),
    ],
)
def test_words_name_files_in_order_and_each_once(words: list[str], found: list[str]) -> None:
    assert names(*words) == found


def test_a_folder_outside_is_searched_as_well(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert find_sources([str(folder)]) == [folder / name for name in ALL]
    monkeypatch.setenv("HOME", str(folder))
    assert find_sources(["~/deep", "~/*.txt"]) == [folder / name for name in (*ALL[2:], "a.txt")]


def test_a_list_gives_a_path_a_line(folder: Path) -> None:
    listed = f"\n  a.txt  \n{folder}/b.pdf\nno such.pdf\na.txt\n~nobody.txt\n*.png\n"
    assert names("-", listed=listed) == ["a.txt", "b.pdf", "no such.pdf", "~nobody.txt", "*.png"]
    assert names("deep/d.markdown", "-", listed="a.txt\n") == ["deep/d.markdown", "a.txt"]
    assert names("a.txt", listed="b.pdf\n") == ["a.txt"]
    assert names("-") == []


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        (["*.txt"], ALL[1:]),
        (["d*"], ["a.txt", "b.pdf", "deep/er/c.MD"]),  # of file names: the folder deep/ stays
        (["deep/*"], ALL[:2]),
        (["eep/*"], ALL),
        (["*/er/*", "a.*"], ["b.pdf", "deep/d.markdown"]),
        (["*"], []),
    ],
)
def test_exclude_leaves_files_out(patterns: list[str], left: list[str]) -> None:
    assert names(".", exclude=tuple(patterns)) == left


def test_exclude_takes_whole_paths(folder: Path) -> None:
    assert names(".", exclude=(f"{folder}/deep/*",)) == ALL[:2]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(folder: Path) -> None:
    (folder / "a[1].txt").write_text("one")
    assert names("a[1].txt") == ["a[1].txt"]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("folder.txt", r"folder\.txt: the folder has no PDF, text or Markdown files in it"),
        ("*.docx", r"\*\.docx: no file fits this pattern"),
        ("fold*", r"fold\*: no file fits this pattern"),
    ],
)
def test_nothing_to_work_on_is_said(word: str, said: str) -> None:
    with pytest.raises(QuestionError, match=said):
        names("a.txt", word)


def test_a_name_that_no_database_takes_is_said_and_can_be_left_out(folder: Path) -> None:
    (folder / os.fsdecode(b"caf\xe9.txt")).write_text("coffee")
    with pytest.raises(QuestionError, match=r"caf\?\.txt: this name is no UTF-8: rename it, or leave it out"):
        names(".")
    assert names(".", exclude=("caf*",)) == ALL


def test_a_list_that_is_no_utf_8_is_said() -> None:
    with pytest.raises(QuestionError, match="the list on standard input is no UTF-8"):
        find_sources(["-"], io.TextIOWrapper(io.BytesIO(b"a.txt\ncaf\xe9.txt\n"), "utf-8"))


def test_the_hash_is_of_the_bytes_and_none_where_they_can_t_be_read(folder: Path) -> None:
    a, b = folder / "a.txt", folder / "b.pdf"
    b.write_bytes(a.read_bytes())
    assert with_sha256(a).sha256 == with_sha256(b).sha256 != ""
    assert len(with_sha256(a).sha256) == 64
    for bad in (folder / "missing.txt", folder / "folder.txt", folder / ("x" * 300)):
        assert (with_sha256(bad).path, with_sha256(bad).sha256) == (bad, "")
