"""Being stopped at any moment, and two processes at once: nothing is lost, nothing is done twice."""

import contextlib
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from longleaf.errors import StorageError
from longleaf.ingestion import Added, Library
from longleaf.ingestion.storage import sha256_of

N_PAGES = 400

ADD = textwrap.dedent("""
    import signal, sys, time
    from longleaf.ingestion import Library

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started the tests with it ignored

    home, path, seconds_per_page = sys.argv[1], sys.argv[2], float(sys.argv[3])

    def progress(done, total, stage):
        print(done, stage, flush=True)
        time.sleep(seconds_per_page if done else 0)

    with Library(home) as library:
        try:
            added = library.add(path, progress=progress)
        except KeyboardInterrupt:
            sys.exit("interrupted")
        print("added", added.already_there, added.resumed_from_page, flush=True)
""")


def start(home, path, seconds_per_page=0.0):
    return subprocess.Popen(
        [sys.executable, "-c", ADD, str(home), str(path), str(seconds_per_page)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process, n_pages):
    for line in process.stdout:
        done, _, _stage = line.partition(" ")
        if done.isdigit() and int(done) >= n_pages:
            return
    pytest.fail(f"ended early: {process.stderr.read()}")


def children(pid):
    """The /proc folders of a process's children."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1]) == pid:
                found.append(entry)
    return found


def is_worker(entry):
    try:
        return b"longleaf.ingestion.worker" in (entry / "cmdline").read_bytes()
    except OSError:
        return False


@pytest.fixture
def long_pdf(make_pdf):
    return make_pdf([f"This is page {i}." for i in range(1, N_PAGES + 1)])


def assert_whole(home):
    with Library(home) as library:
        (document,) = library.documents()
        assert document.state == "ready"
        assert [page.text for page in library.pages(document)] == [f"This is page {i}." for i in range(1, N_PAGES + 1)]
        assert all(page.boxes.shape == (len(page.text), 4) for page in library.pages(document, boxes=True))
        assert list((library.home / "tmp").iterdir()) == []


def test_killed_in_the_middle_and_run_again(tmp_path, long_pdf):
    home = tmp_path / "home"
    with start(home, long_pdf, 0.01) as process:
        wait_for(process, 150)
        workers = children(process.pid)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert workers
    with Library(home) as library:
        (document,) = library.documents()
        assert document.state == "adding"
        n_stored = len(list(library.pages(document)))
        assert n_stored >= 128
        added = library.add(long_pdf)
        assert added.resumed_from_page == n_stored + 1
        assert added.document.id == document.id
        assert added.document.n_chars == sum(len(f"This is page {i}.") for i in range(1, N_PAGES + 1))
    assert_whole(home)
    deadline = time.monotonic() + 10
    while any(is_worker(entry) for entry in workers):
        assert time.monotonic() < deadline, "the parser process outlives its parent"
        time.sleep(0.1)


def test_killed_while_copying_leaves_nothing(tmp_path, long_pdf):
    home = tmp_path / "home"
    with start(home, long_pdf, 0.01) as process:
        wait_for(process, 0)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    with Library(home) as library:
        assert not library.add(long_pdf).already_there
    assert_whole(home)


def test_ctrl_c_keeps_what_is_read(tmp_path, long_pdf):
    home = tmp_path / "home"
    with start(home, long_pdf, 0.01) as process:
        wait_for(process, 30)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert errors.strip() == "interrupted"
    with Library(home) as library:
        (document,) = library.documents()
        assert len(list(library.pages(document))) >= 30
        assert library.add(long_pdf).resumed_from_page >= 31
    assert_whole(home)


def test_ctrl_c_while_adding_many(tmp_path, make_pdf):
    """Also while one file waits for a lock that another process holds."""
    home = tmp_path / "home"
    paths = [make_pdf([f"{k}: This is page {i}." for i in range(300)], name=f"{k}.pdf") for k in range(3)]
    script = textwrap.dedent("""
        import sys, time
        from longleaf.ingestion import Library

        def progress(path, done, total, stage):
            print(done, stage, flush=True)
            time.sleep(0.01 if done else 0)

        with Library(sys.argv[1]) as library:
            try:
                list(library.add_many(sys.argv[2:], workers=3, progress=progress))
            except KeyboardInterrupt:
                sys.exit("interrupted")
    """)
    with Library(home) as library, library._storage.lock_of(sha256_of(paths[2])):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(home), *map(str, paths)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            wait_for(process, 40)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=20)
        assert errors.strip() == "interrupted"
        kept = {document.name: len(list(library.pages(document))) for document in library.documents()}
        assert max(kept.values()) >= 35
    with Library(home) as library:
        assert all(isinstance(added, Added) for _, added in library.add_many(paths, workers=2))


def test_two_processes_adding_the_same_file(tmp_path, long_pdf):
    home = tmp_path / "home"
    with start(home, long_pdf, 0.004) as first:
        wait_for(first, 1)
        with start(home, long_pdf) as second:
            said_second, errors = second.communicate(timeout=60)
        said_first, _ = first.communicate(timeout=60)
    assert errors == ""
    assert "waiting for another process" in said_second
    assert said_second.splitlines()[-1] == "added True 0"
    assert said_first.splitlines()[-1] == "added False 0"
    assert_whole(home)


def test_a_database_that_can_not_grow(tmp_path, long_pdf, monkeypatch):
    """The disk gets full while pages are stored: an error with the way out; later it goes on where it stopped."""
    with Library(tmp_path / "home") as library:
        limit = library.connection().execute("PRAGMA page_count").fetchone()[0] + 12
        library.connection().execute(f"PRAGMA max_page_count = {limit}")
        with pytest.raises(StorageError, match=r"longleaf\.db: the disk is full; free some space.*LONGLEAF_HOME"):
            library.add(long_pdf)
        library.connection().execute("PRAGMA max_page_count = 1000000")
        assert library.add(long_pdf).document.n_pages == N_PAGES
    assert_whole(tmp_path / "home")


def test_no_room_for_the_file(library, long_pdf, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))
    with pytest.raises(StorageError, match=r"home: the disk is full \(made\.pdf needs 0\.\d MiB, 0\.0 MiB are free\)"):
        library.add(long_pdf)
    assert library.documents() == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip("mounting needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def test_a_full_disk(small_disk, long_pdf, monkeypatch):
    monkeypatch.setattr("longleaf.ingestion.storage._SPARE_BYTES", 0)
    with Library(small_disk / "home") as library:
        filler = small_disk / "filler"
        free = shutil.disk_usage(small_disk).free
        filler.write_bytes(b"x" * (free - long_pdf.stat().st_size - 50_000))
        with pytest.raises(StorageError, match=r"the disk is full|may be full"):
            library.add(long_pdf)
        filler.unlink()
        library.add(long_pdf)
    assert_whole(small_disk / "home")


def test_a_read_only_home(small_disk, long_pdf, monkeypatch):
    monkeypatch.setattr("longleaf.ingestion.storage._SPARE_BYTES", 0)
    home = small_disk / "home"
    with Library(home) as library:
        library.add(long_pdf)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StorageError, match=r"home.*LONGLEAF_HOME"):
        Library(home)


def test_another_writer_is_waited_for(library, make_pdf):
    other = sqlite3.connect(library.home / "longleaf.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.5, lambda: other.execute("COMMIT")).start()
    assert library.add(make_pdf(["words"])).document.state == "ready"
    other.close()
