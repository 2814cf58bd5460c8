"""The note that a fetched repository leaves in its folder when all is there: where it came from, and every file.

A folder without it, or with files of other sizes, counts as not fetched. Fetching is `hub_snapshot.py`.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["SnapshotFile", "SnapshotRecord"]

_NAME = ".snapshot.json"


@dataclass(frozen=True)
class SnapshotFile:
    """One file of a repository.

    Args:
        name: In the folder; no sub-folders.
        size_bytes: Exact size.
        sha256: Of large files, which the hub knows by it; else empty.
        git_sha1: Of the other files: git's name for the content.
    """

    name: str
    size_bytes: int
    sha256: str = ""
    git_sha1: str = ""

    def is_in(self, folder: Path) -> bool:
        """Whether a file of this name and size is there."""
        try:
            return (folder / self.name).stat().st_size == self.size_bytes
        except OSError:
            return False

    def is_sound(self, folder: Path) -> bool:
        """Whether it is there with this content; reads all of it."""
        if not self.is_in(folder):
            return False
        with (folder / self.name).open("rb") as stream:
            if self.sha256:
                return hashlib.file_digest(stream, "sha256").hexdigest() == self.sha256
            git = hashlib.sha1(b"blob %d\0" % self.size_bytes, usedforsecurity=False)
            git.update(stream.read())
            return self.git_sha1 in ("", git.hexdigest())


@dataclass(frozen=True)
class SnapshotRecord:
    """What was fetched.

    Args:
        repo: Repository on the hub.
        revision: Commit.
        files: All that was fetched of it.
    """

    repo: str
    revision: str
    files: tuple[SnapshotFile, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size_bytes for file in self.files)

    def is_whole(self, folder: Path) -> bool:
        """Whether every file is there with its full size."""
        return all(file.is_in(folder) for file in self.files)

    @classmethod
    def read(cls, folder: Path) -> "SnapshotRecord | None":
        """The record in this folder; None if there is none that can be read."""
        try:
            raw = json.loads((folder / _NAME).read_text(encoding="utf-8"))
            return cls(raw["repo"], raw["revision"], tuple(SnapshotFile(**file) for file in raw["files"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, folder: Path) -> None:
        """Put the record into the folder, whole or not at all."""
        part = folder / f"{_NAME}.part"
        with part.open("w", encoding="utf-8") as stream:
            json.dump(asdict(self), stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(folder / _NAME)
