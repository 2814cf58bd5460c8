"""Real text by kind, as bytes: tables, prose and code that come with this repository, with Python and with Debian.

tables  the lines of the sample document's pages that have three or more fields apart by two or more spaces
prose   the other lines of the sample document, and the licences in /usr/share/common-licenses where there are any
code    modules of Python's standard library, a limit of 20,000 bytes each, so that no one style rules

The text differs a little from machine to machine, with Python's version and Debian's licences: its hash is kept.
Every tenth piece of 1,024 bytes is held out.
"""

import hashlib
import re
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.sample import page_texts

KINDS = ("tables", "prose", "code")
PIECE = 1024
_HELD_OUT = 10
_PER_MODULE = 20_000
_MOST = 600_000
_FIELDS = re.compile(r"\S(?: \S|\S)*")
_LEADERS = re.compile(r"\.{5,}")


@dataclass(frozen=True)
class Texts:
    """Bytes as token ids, by kind.

    Attributes:
        train: What is learned from. (n,) int64
        test: What is not. (n,) int64
        digest: Of all of it.
    """

    train: dict[str, Tensor]
    test: dict[str, Tensor]
    digest: str


def is_table_line(line: str) -> bool:
    """Three or more fields, and no row of dots as tables of contents have."""
    return len(_FIELDS.findall(line)) >= 3 and not _LEADERS.search(line)


@cache
def load() -> Texts:
    """All three kinds."""
    lines = [line for page in page_texts() for line in page.splitlines()]
    licences = sorted(path.resolve() for path in Path("/usr/share/common-licenses").glob("*"))
    modules = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    raw = {
        "tables": "\n".join(line for line in lines if is_table_line(line)).encode(),
        "prose": "\n".join(line for line in lines if not is_table_line(line)).encode() + _read(dict.fromkeys(licences)),
        "code": _read(modules, _PER_MODULE),
    }
    digest = hashlib.sha256()
    train, test = {}, {}
    for kind, text in raw.items():
        text = text[:_MOST]
        digest.update(text)
        pieces = [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
        test[kind] = _ids(pieces[_HELD_OUT // 2 :: _HELD_OUT])
        train[kind] = _ids(piece for number, piece in enumerate(pieces) if number % _HELD_OUT != _HELD_OUT // 2)
    return Texts(train, test, digest.hexdigest()[:16])


def _read(files: Iterable[Path], most: int | None = None) -> bytes:
    return b"\n".join(path.read_bytes()[:most] for path in files if path.is_file())


def _ids(pieces: Iterable[bytes]) -> Tensor:
    return torch.tensor(list(b"".join(pieces)), dtype=torch.int64)
