"""A folder with a Debian system in it, in which commands run as they would in a container.

Knows nothing of Dockerfiles. It is used inside a mount and a process namespace of its own (run-steps.sh), so that
mounts and processes end with it.
"""
# ruff: noqa: T201 - what the commands print is what this is for

import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HOST = "run/host"
"""Where files of this machine lie inside a root, read-only."""


class Root:
    """One root folder.

    Args:
        folder: Where it lies; made by `debootstrap` or `copy`.
        host_paths: Files and folders of this machine that are mounted, read-only, below /run/host.
        host_env: Variables that every command gets.
    """

    def __init__(self, folder: Path, host_paths: Sequence[Path] = (), host_env: dict[str, str] | None = None) -> None:
        self.folder, self.host_paths, self.host_env = folder, list(host_paths), dict(host_env or {})

    def path(self, inside: str) -> Path:
        """The place on this machine of a path inside."""
        return self.folder / inside.lstrip("/")

    def mount(self) -> None:
        """Mounts what a container has (/proc, /sys, /dev, /dev/shm) and the files of this machine."""
        for name in ("proc", "sys", "dev"):
            self.path(name).mkdir(exist_ok=True)
        _mount("-t", "proc", "proc", str(self.path("proc")))
        _mount("-t", "sysfs", "-o", "ro", "sysfs", str(self.path("sys")))
        _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(self.path("dev")))
        for name in ("null", "zero", "full", "random", "urandom", "tty"):
            self.path(f"dev/{name}").touch()
            _mount("--bind", f"/dev/{name}", str(self.path(f"dev/{name}")))
        self.path("dev/fd").symlink_to("/proc/self/fd")
        self.path("dev/pts").mkdir()
        _mount("-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=620", "devpts", str(self.path("dev/pts")))
        self.path("dev/ptmx").symlink_to("pts/ptmx")
        self.path("dev/shm").mkdir()
        _mount("-t", "tmpfs", "-o", "mode=1777,size=64m", "tmpfs", str(self.path("dev/shm")))  # Docker's size
        for name in ("resolv.conf", "hosts"):
            shutil.copy(Path("/etc") / name, self.path(f"etc/{name}"))
        for source in self.host_paths:
            target = self.path(f"{HOST}{source}")
            if source.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.touch()
            _mount("--bind", str(source), str(target))
            _mount("-o", "remount,bind,ro", str(target))

    def start(self, argv: Sequence[str], *, user: str, workdir: str, env: dict[str, str], **popen: Any) -> Any:
        """Starts a command inside.

        Args:
            argv: Program and arguments; the program is looked up on `env`'s PATH, inside.
            user: USER or USER:GROUP, names or numbers.
            workdir: Its folder, inside.
            env: All its variables, but for the host's and HOME, which is the user's if not given.
            **popen: For `subprocess.Popen`.
        """
        uid, gid, home = self.ids(user)
        # Each gets a process namespace of its own, as in a container: it is process 1, and what it leaves ends with it.
        enter = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", f"--root={self.folder}"]
        enter += [f"--wd={workdir}", f"--setgid={gid}", f"--setuid={uid}", "--", "/usr/bin/env"]
        unshare = shutil.which("unshare") or "/usr/bin/unshare"  # `env` has the PATH of the inside
        return subprocess.Popen([unshare, *enter, *argv], env={"HOME": home} | self.host_env | env, **popen)

    def run(self, argv: Sequence[str], *, user: str, workdir: str, env: dict[str, str]) -> str:
        """Runs a command inside, shows its output as it comes, and gives it.

        Raises:
            subprocess.CalledProcessError: Its exit code is not 0.
        """
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        lines = []
        with self.start(argv, user=user, workdir=workdir, env=env, **options) as process:
            for line in process.stdout:
                print(line, end="", flush=True)
                lines.append(line)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, list(argv))
        return "".join(lines)

    def stop(self, process: subprocess.Popen[Any], timeout: float) -> int:
        """Sends SIGTERM to process 1 of what was started, as `docker stop` does, and gives the exit code.

        Raises:
            subprocess.TimeoutExpired: It goes on for longer.
        """
        first = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0]
        os.kill(int(first), signal.SIGTERM)
        return process.wait(timeout=timeout)

    def ids(self, user: str) -> tuple[int, int, str]:
        """Number of a user and of a group of USER[:GROUP], and the user's home folder, by the root's own files.

        Raises:
            KeyError: No such user or group.
        """
        name, _, group = user.partition(":")
        rows = [line.split(":") for line in self.path("etc/passwd").read_text().splitlines()]
        known = next((row for row in rows if name in (row[0], row[2])), None)
        if known is None and not name.isdigit():
            raise KeyError(f"no user {name} in {self.folder}")
        uid, gid, home = (int(known[2]), int(known[3]), known[5]) if known else (int(name), 0, "/")
        if group:
            rows = [line.split(":") for line in self.path("etc/group").read_text().splitlines()]
            found = next((row[2] for row in rows if group in (row[0], row[2])), group)
            if not found.isdigit():
                raise KeyError(f"no group {group} in {self.folder}")
            gid = int(found)
        return uid, gid, home


def debootstrap(release: str, folder: Path, mirror: str) -> None:
    """Makes a minimal Debian with the release's updates and security updates, as Debian's slim image has it.

    Raises:
        subprocess.CalledProcessError: debootstrap failed.
    """
    subprocess.run(
        ["debootstrap", "--variant=minbase", release, str(folder), mirror], check=True, stdout=subprocess.PIPE
    )
    sources = [f"deb {mirror} {release} main", f"deb {mirror} {release}-updates main"]
    sources.append(f"deb {mirror.rstrip('/')}-security {release}-security main")
    (folder / "etc/apt/sources.list").write_text("\n".join(sources) + "\n")
    (folder / "etc/apt/apt.conf.d/99host").write_text(_apt_settings())


def copy(source: Path, folder: Path) -> None:
    """Copies a root that has no mounts."""
    subprocess.run(["cp", "-a", "--reflink=auto", str(source), str(folder)], check=True)


def pip_from_host() -> tuple[list[Path], dict[str, str]]:
    """This machine's pip settings for use inside a root: the paths they name, and variables that name them there."""
    listed = subprocess.run(
        ["python3", "-m", "pip", "config", "list"], check=True, capture_output=True, text=True
    ).stdout
    paths: set[Path] = set()
    variables = {}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        words = shlex.split(value)[0].split() if value else []
        for index, word in enumerate(words):
            place = Path(word.removeprefix("file://"))
            if place.is_absolute() and place.exists():
                # The pages of an index point to files beside it.
                paths.add(place.parent if word.startswith("file://") else place)
                words[index] = word.replace(str(place), f"/{HOST}{place}")
        variables["PIP_" + key.rpartition(".")[2].upper().replace("-", "_")] = " ".join(words)
    return sorted(paths), variables


def _apt_settings() -> str:
    """How this machine's apt reaches its mirrors (proxies, clock checks), as lines of a configuration file."""
    listed = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False).stdout
    wanted = re.compile(r"Acquire::(https?::Proxy|Check-|Retries|ForceIPv4).* \".+\";")
    return "".join(f"{line}\n" for line in listed.splitlines() if wanted.match(line))


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)
