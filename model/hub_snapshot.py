"""Fetches a whole repository of the Hugging Face hub into a folder: safetensors, configs and tokenizer.

The hub lists the files with their sizes and hashes, each is fetched by `huggingface_hub` and checked, and a record of
all of them is written at the end. A repository without safetensors is refused: pickles can run code when loaded. Files
are fetched one after the other rather than by `snapshot_download`, whose threads go on for gigabytes after Ctrl-C.
"""

import os
import shutil
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longleaf.errors import ModelDownloadError, StorageError

from .registry import ModelSpec
from .snapshot_record import SnapshotFile, SnapshotRecord
from .sources import folder_bytes, one_line, raise_if_disk, repeating, within

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

__all__ = ["drop_damaged_files", "fetch_repository"]

Report = Callable[[int, int, str], None]
"""Called with (bytes done, bytes in all, what is being done)."""

_WANTED = ("*.safetensors", "*.json", "tokenizer*", "*.jinja")
_UNWANTED = ("*/*", "consolidated*", "*.bin", "*.pt", "*.pth", "*.py", "*.pkl")  # copies of the weights, pickles, code
_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf", "*.msgpack", "*.h5")
_SLACK_BYTES = 32 << 20


def fetch_repository(spec: ModelSpec, folder: Path, report: Report, timeout_s: float = 8.0) -> None:
    """Fetch what is missing of a repository; the caller holds the folder's lock.

    What an earlier run fetched whole is kept, also when this one fails. A folder that was complete once is mended with
    files of the same commit.

    Args:
        spec: A model that is a repository.
        folder: Where its files go.
        report: Told about bytes done, now and then.
        timeout_s: How long the hub may take to list the files.

    Raises:
        ModelDownloadError: Not reachable, gated, unknown, without safetensors, or other bytes than the hub announced.
        StorageError: No room, or the folder can't be written to.
    """
    import huggingface_hub

    repo, record = spec.hub_repo, SnapshotRecord.read(folder)
    listing = _ask(spec, record.revision if record else spec.hub_revision, timeout_s, report)
    wanted = SnapshotRecord(repo, str(listing.sha), _choose(spec, listing))
    total, cache = wanted.size_bytes, folder / ".cache"
    _drop_leftovers(cache)
    _check_space(spec, wanted, folder)

    def tell() -> None:
        here = sum(file.size_bytes for file in wanted.files if file.is_in(folder))
        report(min(here + folder_bytes(cache), total), total, f"from {repo}")

    for file in sorted(wanted.files, key=lambda file: file.size_bytes):  # a refusal shows before gigabytes are fetched
        path = folder / file.name
        tell()
        if file.is_sound(folder):
            continue
        try:
            path.unlink(missing_ok=True)
            with repeating(tell):
                huggingface_hub.hf_hub_download(repo, file.name, revision=wanted.revision, local_dir=folder)
        except Exception as exc:
            raise_if_disk(exc, folder)
            raise ModelDownloadError(_explain(spec, exc, f"{file.name}; what was fetched is kept in {folder}")) from exc
        if not file.is_sound(folder):
            size = path.stat().st_size if path.is_file() else 0
            path.unlink(missing_ok=True)
            raise ModelDownloadError(
                f"{repo}: {file.name} came with {size} bytes, or a hash, other than the {file.size_bytes} that the hub "
                f"announced; deleted. Run again: longleaf model pull {spec.name}"
            )
    for path in folder.glob("*.safetensors"):  # shards of another commit, left by an interrupted run
        if path.name not in {file.name for file in wanted.files}:
            path.unlink()
    try:
        wanted.write(folder)
    except OSError as exc:
        raise StorageError(f"{folder}: can't write here ({exc.strerror or exc})") from exc
    shutil.rmtree(cache, ignore_errors=True)
    report(total, total, "ready")


def drop_damaged_files(folder: Path, report: Report) -> None:
    """Read every file that the folder's record names, and delete those with other content."""
    record = SnapshotRecord.read(folder)
    done = 0
    for file in record.files if record else ():
        report(done, record.size_bytes if record else 0, f"checking {file.name}")
        if not file.is_sound(folder):
            (folder / file.name).unlink(missing_ok=True)
        done += file.size_bytes


def _ask(spec: ModelSpec, revision: str, timeout_s: float, report: Report) -> "ModelInfo":
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        raise ModelDownloadError(f"{spec.hub_repo} can't be fetched: HF_HUB_OFFLINE is set")
    import huggingface_hub
    from huggingface_hub import constants

    report(0, 0, f"asking {constants.ENDPOINT}")

    def ask() -> "ModelInfo":
        return huggingface_hub.model_info(spec.hub_repo, revision=revision, files_metadata=True, timeout=timeout_s)

    try:
        return within(timeout_s, ask)
    except Exception as exc:
        raise ModelDownloadError(_explain(spec, exc, "the list of its files")) from exc


def _choose(spec: ModelSpec, listing: "ModelInfo") -> tuple[SnapshotFile, ...]:
    siblings = listing.siblings or []
    chosen = [
        SnapshotFile(each.rfilename, int(each.size or 0), sha256=each.lfs.sha256)
        if each.lfs
        else SnapshotFile(each.rfilename, int(each.size or 0), git_sha1=each.blob_id or "")
        for each in siblings
        if _is_like(each.rfilename, _WANTED) and not _is_like(each.rfilename, _UNWANTED)
    ]
    names = {file.name for file in chosen}
    if "config.json" not in names or not any(name.endswith(".safetensors") for name in names):
        there = [each.rfilename for each in siblings if _is_like(each.rfilename, _WEIGHTS)]
        raise ModelDownloadError(
            f"{spec.hub_repo} can't be used: it has no config.json with .safetensors files beside it, only "
            f"{', '.join(there[:3]) or 'no weights at all'}. Longleaf loads safetensors and GGUF, no pickles"
        )
    return tuple(chosen)


def _is_like(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _check_space(spec: ModelSpec, wanted: SnapshotRecord, folder: Path) -> None:
    left = sum(file.size_bytes for file in wanted.files if not file.is_in(folder))
    free = shutil.disk_usage(folder).free
    if free < left + _SLACK_BYTES:
        raise StorageError(
            f"{folder}: {spec.name} needs {left / 1e6:,.0f} MB more and {free / 1e6:,.0f} MB are free; "
            "make room, or choose another folder with LONGLEAF_MODELS_DIR"
        )


def _drop_leftovers(cache: Path) -> None:
    """Delete parts that a killed run left under names of its own, which nothing goes on from.

    huggingface_hub 2.4 (2026-11) names them `<hash>.<etag>.<8 hex digits>.incomplete`; older ones have no such digits
    and are gone on from.
    """
    for path in cache.glob("huggingface/download/*.*.????????.incomplete"):
        path.unlink(missing_ok=True)


def _explain(spec: ModelSpec, exc: Exception, what: str) -> str:
    """One line on why the hub did not give `what`, and what to do."""
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    repo = spec.hub_repo
    status: Any = getattr(getattr(exc, "response", None), "status_code", None)
    unknown = isinstance(exc, RepositoryNotFoundError) and not isinstance(exc, GatedRepoError)
    if unknown and not spec.gated:
        return f"the hub has no model {repo}, or it is private: check the name, or set HF_TOKEN"
    if unknown or isinstance(exc, GatedRepoError) or status in (401, 403):
        return (
            f"{repo} is gated: accept the licence at https://huggingface.co/{repo}, set HF_TOKEN or run `hf auth "
            f"login`, then run again: longleaf model pull {spec.name}"
        )
    if status is None or status >= 500:
        return f"{constants.ENDPOINT} did not give {what} ({one_line(exc)}). Check the network, and run again"
    return f"{repo}: {what}: {one_line(exc)}"
