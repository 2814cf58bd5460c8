"""The files that a job is to work on: paths, globs, folders and a list on standard input."""

import fnmatch
import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from longleaf.errors import QuestionError, UnsupportedFileError
from longleaf.ingestion.storage import sha256_of

__all__ = ["SUFFIXES", "Source", "expanded", "find_sources", "with_sha256"]

SUFFIXES = (".pdf", ".txt", ".md", ".markdown", ".text")
"""What is taken from a folder; a file that is named is taken whatever its name."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file to work on.

    Attributes:
        path: Absolute.
        sha256: Of its bytes; "" where it can't be read, which working on it then says.
    """

    path: Path
    sha256: str


def find_sources(words: Sequence[str], listed: Iterable[str] = (), *, exclude: Sequence[str] = ()) -> list[Path]:
    """The files that these words name, each once, in order.

    Args:
        words: Paths of files and folders (searched with all folders in them), globs such as "reports/**/*.pdf", and "-"
            for the names in `listed`.
        listed: One path a line.
        exclude: Patterns of file names to leave out, or of the ends of paths, such as "drafts/*".

    Returns:
        Absolute paths. A file that is named and is not there is among them: it fails with its reason, and the others
        go on.

    Raises:
        QuestionError: A folder or glob has nothing to work on in it, or a path is no UTF-8, which no database takes.
    """
    found: list[Path] = []
    for word in words:
        if word == "-":
            found += _listed(listed)
        else:
            found += _named(word)
    unique = dict.fromkeys(path.absolute() for path in found)
    left = [path for path in unique if not any(_fits(path, pattern) for pattern in exclude)]
    for path in left:
        if (shown := str(path).encode("utf-8", "replace").decode()) != str(path):
            raise QuestionError(f"{shown}: this name is no UTF-8: rename it, or leave it out with --exclude")
    return left


def with_sha256(path: Path) -> Source:
    """The file with the hash of its bytes."""
    try:
        return Source(path, sha256_of(path))
    except UnsupportedFileError:
        return Source(path, "")


def _listed(lines: Iterable[str]) -> list[Path]:
    try:
        return [expanded(line.strip()) for line in lines if line.strip()]
    except UnicodeDecodeError as exc:
        raise QuestionError("the list on standard input is no UTF-8") from exc


def _named(word: str) -> list[Path]:
    path = expanded(word)
    try:
        is_folder, is_there = path.is_dir(), path.exists()
    except OSError:  # such as a name that is too long; working on it says so
        return [path]
    if is_folder:
        inside = sorted(
            p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file() and not _hidden(p, path)
        )
        if not inside:
            raise QuestionError(f"{word}: the folder has no PDF, text or Markdown files in it")
        return inside
    if is_there or not glob.has_magic(word):
        return [path]
    matched = sorted(Path(name) for name in glob.glob(str(path), recursive=True))  # noqa: PTH207  absolute patterns too
    files = [match for match in matched if match.is_file()]
    if not files:
        raise QuestionError(f"{word}: no file fits this pattern")
    return files


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _fits(path: Path, pattern: str) -> bool:
    if "/" not in pattern:
        return fnmatch.fnmatch(path.name, pattern)
    return fnmatch.fnmatch(str(path), pattern) or fnmatch.fnmatch(str(path), f"*/{pattern}")


def expanded(word: str) -> Path:
    """The path, with a ~ at its beginning for the home folder; a name such as ~notes.txt stays as it is."""
    try:
        return Path(word).expanduser()
    except RuntimeError:  # there is no such user
        return Path(word)
