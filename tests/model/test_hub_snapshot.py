"""Pulls repositories from a stand-in for the hub's two functions. No network."""

import errno
import hashlib
import json
import os
import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from huggingface_hub.hf_api import ModelInfo

from longleaf.errors import ModelDownloadError, ModelNotInstalledError, StorageError, UnknownModelError
from longleaf.model import get_spec, is_installed, model_path, pull, resolve
from longleaf.model import hub_snapshot as hub_snapshot_module
from longleaf.model.registry import HUB_MODELS, pulled_repos
from longleaf.model.snapshot_record import SnapshotRecord

REPO = "ai21labs/AI21-Jamba2-3B"
NAME = "jamba2-3b"
FILES = {
    "config.json": b'{"model_type": "jamba"}',
    "model-00001-of-00002.safetensors": b"1" * 300_000,
    "model-00002-of-00002.safetensors": b"2" * 200_000,
    "model.safetensors.index.json": b'{"weight_map": {}}',
    "tokenizer.json": b"{}",
    "tokenizer.model": b"sentencepiece",
    "chat_template.jinja": b"{{ messages }}",
}
IGNORED = {
    "README.md": b"# Jamba",
    "pytorch_model.bin": b"pickle",
    "tokenizer.py": b"raise SystemExit",
    "consolidated.safetensors": b"again" * 1000,
    "onnx/model.safetensors": b"another kind",
}
TOTAL = sum(map(len, FILES.values()))


class StandIn:
    """The hub as `huggingface_hub` shows it: a listing with sizes and hashes, and files."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.served: dict[str, bytes] = {}  # where it serves other bytes than it lists
        self.asked: list[tuple[str, str, str]] = []
        self.sha = "c" * 40
        self.refusal: Exception | None = None
        self.fail_at: str | None = None

    def model_info(self, repo, *, revision, files_metadata, timeout):
        assert files_metadata
        self.asked.append((repo, revision, ""))
        siblings = []
        for name, content in self.files.items():
            git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            entry = {"rfilename": name, "size": len(content), "blobId": git}
            if name.endswith((".safetensors", ".bin")):
                sha256 = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"size": len(content), "sha256": sha256, "pointerSize": 135}
            siblings.append(entry)
        return ModelInfo(id=repo, sha=self.sha, siblings=siblings)

    def hf_hub_download(self, repo, filename, *, revision, local_dir):
        self.asked.append((repo, revision, filename))
        if self.refusal:
            raise self.refusal
        if filename == self.fail_at:
            raise ConnectionError("the cable was pulled")
        (Path(local_dir) / filename).write_bytes(self.served.get(filename, self.files[filename]))

    def fetched(self) -> list[str]:
        return [name for _, _, name in self.asked if name]


@pytest.fixture
def hub(monkeypatch):
    hub = StandIn(FILES | IGNORED)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub, "model_info", hub.model_info)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hub.hf_hub_download)
    return hub


def refusal(kind: type[Exception], status: int) -> Exception:
    response = SimpleNamespace(status_code=status, headers={}, request=None, text="")
    return kind("no", response=response)


def test_a_repository_comes_whole_and_without_pickles_code_and_copies(hub, tmp_path):
    told = []
    folder = tmp_path / NAME
    assert pull(NAME, tmp_path, lambda *args: told.append(args)) == [folder]
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name[0] != "."} == FILES
    assert {(repo, revision) for repo, revision, name in hub.asked if name} == {(REPO, hub.sha)}
    assert is_installed(NAME, tmp_path)
    assert model_path(NAME, tmp_path) == folder
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert told[-1] == (TOTAL, TOTAL, "jamba2-3b: ready")


def test_what_is_here_needs_no_network(hub, tmp_path):
    pull(NAME, tmp_path)
    hub.asked.clear()
    assert pull(REPO, tmp_path) == [tmp_path / NAME]
    assert hub.asked == []


def test_any_repository_can_be_pulled_by_its_own_name(hub, tmp_path):
    assert pull("somebody/Some.Model-2B", tmp_path) == [tmp_path / "somebody--Some.Model-2B"]
    assert is_installed("somebody/Some.Model-2B", tmp_path)
    assert pulled_repos(tmp_path) == ["somebody/Some.Model-2B"]
    assert not is_installed(NAME, tmp_path)


def test_an_interrupted_pull_is_not_installed_and_goes_on_where_it_stopped(hub, tmp_path):
    hub.fail_at = "model-00001-of-00002.safetensors"  # the largest comes last
    with pytest.raises(ModelDownloadError, match=r"the cable was pulled.*run again"):
        pull(NAME, tmp_path)
    assert not is_installed(NAME, tmp_path)
    with pytest.raises(ModelNotInstalledError, match="longleaf model pull jamba2-3b"):
        model_path(NAME, tmp_path)
    hub.asked.clear()
    hub.fail_at = None
    pull(NAME, tmp_path)
    assert hub.fetched() == ["model-00001-of-00002.safetensors"]


@pytest.mark.parametrize("name", ["config.json", "model-00002-of-00002.safetensors"])
@pytest.mark.parametrize("change", [lambda content: content[:-1], lambda content: b"?" + content[1:]])
def test_other_bytes_than_announced_are_deleted_and_named(hub, tmp_path, name, change):
    hub.served[name] = change(FILES[name])
    with pytest.raises(ModelDownloadError, match=f"{name} came with .* deleted"):
        pull(NAME, tmp_path)
    assert not (tmp_path / NAME / name).exists()
    assert not is_installed(NAME, tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.json", "model-00001-of-00002.safetensors"])
def test_verify_mends_a_damaged_file_from_the_same_commit(hub, tmp_path, name):
    pull(NAME, tmp_path)
    first, hub.sha = hub.sha, "d" * 40
    (tmp_path / NAME / name).write_bytes(b"?" * len(FILES[name]))
    hub.asked.clear()
    pull(NAME, tmp_path)
    assert hub.asked == []  # a quick look compares sizes only
    pull(NAME, tmp_path, verify=True)
    assert (tmp_path / NAME / name).read_bytes() == FILES[name]
    assert hub.asked[0] == (REPO, first, "")
    assert hub.fetched() == [name]


def test_verify_of_sound_files_needs_no_network(hub, tmp_path):
    pull(NAME, tmp_path)
    hub.asked.clear()
    pull(NAME, tmp_path, verify=True)
    assert hub.asked == []


@pytest.mark.parametrize("loss", [Path.unlink, lambda path: path.write_bytes(b"half"), None])
def test_a_folder_without_all_of_its_files_or_its_record_is_not_installed(hub, tmp_path, loss):
    pull(NAME, tmp_path)
    folder = tmp_path / NAME
    if loss:
        loss(folder / "model-00002-of-00002.safetensors")
    else:
        (folder / ".snapshot.json").write_text('{"repo": "x"')
    assert not is_installed(NAME, tmp_path)
    pull(NAME, tmp_path)
    assert is_installed(NAME, tmp_path)


def test_the_record_says_where_it_came_from(hub, tmp_path):
    pull(NAME, tmp_path)
    record = SnapshotRecord.read(tmp_path / NAME)
    assert (record.repo, record.revision, record.size_bytes) == (REPO, hub.sha, TOTAL)
    assert json.loads((tmp_path / NAME / ".snapshot.json").read_text())["repo"] == REPO


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"config.json": b"{}", "pytorch_model.bin": b"pickle"}, r"only pytorch_model\.bin\..*no pickles"),
        ({"model.q4.gguf": b"GGUF"}, r"only model\.q4\.gguf"),
        ({"consolidated.safetensors": b"1", "params.json": b"{}"}, r"only consolidated\.safetensors"),
        ({"README.md": b"soon"}, "no weights at all"),
    ],
)
def test_a_repository_without_usable_safetensors_is_refused_before_anything_is_fetched(hub, tmp_path, files, said):
    hub.files = files
    with pytest.raises(ModelDownloadError, match=said):
        pull("somebody/model", tmp_path)
    assert hub.fetched() == []


@pytest.mark.parametrize(
    ("name", "kind", "status"),
    [
        ("jamba-1.7-mini", GatedRepoError, 403),
        ("jamba-1.7-mini", RepositoryNotFoundError, 401),  # what the hub says to who is not logged in
        ("somebody/gated", GatedRepoError, 401),
        ("somebody/gated", huggingface_hub.errors.HfHubHTTPError, 403),
    ],
)
def test_a_gated_repository_says_what_to_accept_and_how_to_log_in(hub, tmp_path, name, kind, status):
    hub.refusal = refusal(kind, status)
    with pytest.raises(ModelDownloadError) as error:
        pull(name, tmp_path)
    repo = get_spec(name).hub_repo
    assert f"accept the licence at https://huggingface.co/{repo}" in str(error.value)
    assert "HF_TOKEN" in str(error.value)
    assert "`hf auth login`" in str(error.value)
    assert str(error.value).endswith(f"longleaf model pull {name}")
    assert "\n" not in str(error.value)


def test_an_unknown_repository_is_said(hub, tmp_path, monkeypatch):
    def nothing(*args, **options):
        raise refusal(RepositoryNotFoundError, 401)

    monkeypatch.setattr(huggingface_hub, "model_info", nothing)
    with pytest.raises(ModelDownloadError, match="the hub has no model somebody/nothing, or it is private"):
        pull("somebody/nothing", tmp_path)


def test_a_silent_hub_is_given_up_within_seconds(hub, tmp_path, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(huggingface_hub, "model_info", lambda *args, **options: release.wait(10))
    monkeypatch.setattr(hub_snapshot_module.fetch_repository, "__defaults__", (0.3,))
    begun = time.monotonic()
    with pytest.raises(ModelDownloadError, match=r"did not give the list of its files \(no answer within 0\.3 s\)"):
        pull(NAME, tmp_path)
    assert time.monotonic() - begun < 2
    release.set()


def test_a_machine_without_a_network_is_said_within_seconds(tmp_path, monkeypatch):
    """Sockets are off here: the real library fails."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    begun = time.monotonic()
    with pytest.raises(ModelDownloadError, match=r"did not give the list of its files.*Check the network"):
        pull(NAME, tmp_path)
    assert time.monotonic() - begun < 15


def test_offline_is_respected(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelDownloadError, match="HF_HUB_OFFLINE is set"):
        pull(NAME, tmp_path)
    assert hub.asked == []


def test_too_little_room_is_said_before_anything_is_fetched(hub, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(StorageError, match=r"jamba2-3b needs \d+ MB more and 0 MB are free"):
        pull(NAME, tmp_path)
    assert hub.fetched() == []


def test_a_disk_that_fills_up_is_a_storage_error(hub, tmp_path):
    hub.refusal = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(StorageError, match="No space left"):
        pull(NAME, tmp_path)


def test_parts_that_nothing_goes_on_from_and_shards_of_another_commit_are_removed(hub, tmp_path):
    folder = tmp_path / NAME
    parts = folder / ".cache" / "huggingface" / "download"
    parts.mkdir(parents=True)
    leftover, resumable = parts / f"abc=.{'e' * 64}.1a2b3c4d.incomplete", parts / f"abc=.{'e' * 64}.incomplete"
    leftover.touch()
    resumable.touch()
    (folder / "model-00001-of-00003.safetensors").touch()
    hub.fail_at = "model-00001-of-00002.safetensors"
    with pytest.raises(ModelDownloadError):
        pull(NAME, tmp_path)
    assert (leftover.exists(), resumable.exists()) == (False, True)
    hub.fail_at = None
    pull(NAME, tmp_path)
    assert not (folder / "model-00001-of-00003.safetensors").exists()
    assert not (folder / ".cache").exists()


def test_two_at_once_fetch_once(hub, tmp_path, monkeypatch):
    def slow(*args, **options):
        time.sleep(0.05)
        hub.hf_hub_download(*args, **options)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", slow)
    threads = [threading.Thread(target=pull, args=(NAME, tmp_path)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(hub.fetched()) == sorted(FILES)


def test_names_repositories_and_what_is_neither():
    assert next(iter(HUB_MODELS)) == NAME
    assert get_spec(REPO) is HUB_MODELS[NAME]
    assert resolve("jamba-1.7-mini")[0].gated
    assert get_spec("org/name").path(Path("m")) == Path("m/org--name")
    for name in ("a/b/c", "/a", "../a", "a/..", "./a", "a b/c", "jamba"):
        with pytest.raises(UnknownModelError):
            get_spec(name)
