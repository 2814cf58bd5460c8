"""The folders of a library: originals by sha256, a place for half-written files, and what a killed process left.

home/longleaf.db            the only truth
home/files/ab/abcd….pdf     the stored file of each document
home/derived/               may be deleted at any time; what belongs to one document starts with its sha256
home/tmp/                   half-written files, each with a lock of the process that writes it
home/locks/                 one lock for each document being added
"""

import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from longleaf.errors import StorageError, UnsupportedFileError

from .database import storage_errors

__all__ = ["Storage", "sha256_of"]

_BLOCK = 1 << 20
_SPARE_BYTES = 16 * 2**20
_LOCK_AGE_S = 24 * 3600


class Storage:
    """Files beside the database.

    Args:
        home: The library's folder; made as needed.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.files, self.derived = home / "files", home / "derived"
        self.tmp, self.locks = home / "tmp", home / "locks"
        with storage_errors(home):
            for folder in (home, self.files, self.derived, self.tmp, self.locks):
                folder.mkdir(parents=True, exist_ok=True)

    def path_of(self, sha256: str, suffix: str) -> Path:
        """Where the file of a document lies."""
        return self.files / sha256[:2] / f"{sha256}{suffix}"

    def lock_of(self, sha256: str) -> FileLock:
        """The lock that the process adding a document holds."""
        return FileLock(self.locks / f"{sha256}.lock")

    @contextmanager
    def last_lock_of(self, sha256: str) -> Iterator[None]:
        """The same lock, to remove the document under; its file, which is named after it, goes as well."""
        with self.lock_of(sha256):
            try:
                yield
            finally:
                with suppress(OSError):  # where an open file can't be deleted, `clean` does it
                    (self.locks / f"{sha256}.lock").unlink()

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder of our own under tmp; gone afterwards, or when the library is next opened if we are killed."""
        name = uuid.uuid4().hex
        folder, lock = self.tmp / name, FileLock(self.tmp / f"{name}.lock")
        with storage_errors(self.tmp):
            lock.acquire()
        try:
            with storage_errors(folder):
                folder.mkdir()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.release()
            with suppress(OSError):
                (self.tmp / f"{name}.lock").unlink()

    def copy_in(self, source: Path, sha256: str, target: Path) -> int:
        """Copy a file into a scratch place, checking that it is still the one that was hashed; its size.

        Raises:
            StorageError: Not enough room, or the folder can't be written.
            UnsupportedFileError: The file changed or went meanwhile.
        """
        try:
            size, reader = source.stat().st_size, source.open("rb")
        except OSError as exc:
            raise UnsupportedFileError(source, f"it can't be read: {exc.strerror or exc}") from exc
        with reader:
            self._copy(reader, source, size, sha256, target)
        return size

    def _copy(self, reader: BinaryIO, source: Path, size: int, sha256: str, target: Path) -> None:
        with storage_errors(self.home):
            free = shutil.disk_usage(self.home).free
        if free < size + _SPARE_BYTES:
            raise StorageError(
                f"{self.home}: the disk is full ({source.name} needs {size / 2**20:.1f} MiB, {free / 2**20:.1f} MiB "
                "are free); free some space, or choose another folder with --home or LONGLEAF_HOME"
            )
        digest = hashlib.sha256()
        with storage_errors(target), target.open("wb") as writer:
            while block := reader.read(_BLOCK):
                digest.update(block)
                writer.write(block)
            writer.flush()
            os.fsync(writer.fileno())
        if digest.hexdigest() != sha256:
            raise UnsupportedFileError(source, "the file changed while it was being read; add it again")

    def place(self, scratch: Path, sha256: str, suffix: str) -> Path:
        """Move a whole file to its place, at once."""
        target = self.path_of(sha256, suffix)
        with storage_errors(target):
            target.parent.mkdir(exist_ok=True)
            scratch.replace(target)
        return target

    def drop(self, sha256: str) -> int:
        """Delete the stored file and everything derived of one document; the bytes freed."""
        found = [*self.files.glob(f"{sha256[:2]}/{sha256}*"), *self.derived.rglob(f"{sha256}*")]
        n_bytes = 0
        with storage_errors(self.home):
            for path in found:
                if path.is_dir() and not path.is_symlink():
                    n_bytes += sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
                    shutil.rmtree(path)
                elif path.exists():
                    n_bytes += path.stat().st_size
                    path.unlink()
            with suppress(OSError):
                (self.files / sha256[:2]).rmdir()
        return n_bytes

    def clean(self, is_known: Callable[[str], bool]) -> None:
        """Delete what killed processes left: half-written files, files of no document, old locks."""
        for folder in self.tmp.iterdir():
            if folder.suffix != ".lock":
                self._clean_one(self.tmp / f"{folder.name}.lock", folder)
        now = time.time()
        for lock in (*self.tmp.glob("*.lock"), *self.locks.glob("*.lock")):
            with suppress(OSError):
                if now - lock.stat().st_mtime > _LOCK_AGE_S:
                    self._clean_one(lock, None)
        for path in self.files.glob("*/*"):
            if not is_known(path.stem):
                with suppress(Timeout, OSError), self.lock_of(path.stem).acquire(timeout=0):
                    if not is_known(path.stem):
                        path.unlink()

    @staticmethod
    def _clean_one(lock_path: Path, thing: Path | None) -> None:
        """Delete `thing` and its lock unless a living process holds the lock."""
        with suppress(Timeout, OSError), FileLock(lock_path).acquire(timeout=0):
            if thing is not None:
                shutil.rmtree(thing) if thing.is_dir() else thing.unlink(missing_ok=True)
            lock_path.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, in hex.

    Raises:
        UnsupportedFileError: It can't be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise UnsupportedFileError(path, f"it can't be read: {exc.strerror or exc}") from exc
