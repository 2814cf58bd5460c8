"""What an image that the steps made has to do: fetch its models, answer, serve, say that it is well, and end when told.

All but the fetching happens without a network.
"""
# ruff: noqa: T201 - what the commands print is what this is for

import ctypes
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from root import HOST

if TYPE_CHECKING:
    from steps import Stage

SAMPLE = Path("examples/tamarack-valley-water-2024.pdf")
QUESTION = "What was the total operating revenue in fiscal year 2024?"
ANSWER = "77,197"
_CLONE_NEWNET = 0x40000000  # linux/sched.h
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1  # linux/sockios.h, linux/if.h


class CheckError(Exception):
    """The image does something else than it should."""


def check(stage: "Stage", repository: Path, begun: float) -> None:
    """Uses a stage as a container of its image would be used.

    Args:
        stage: The last one.
        repository: Has the sample document.
        begun: When the steps began, by the monotonic clock.

    Raises:
        CheckError: It does something else than it should.
        subprocess.CalledProcessError: A command failed.
    """

    def heading(text: str) -> None:
        print(f"\n== [{time.monotonic() - begun:4.0f} s] {text}", flush=True)

    uid, _, _ = stage.root.ids(stage.user)
    _expect(uid != 0, "the image's user is root")
    du = ["du", "-smx", f"--exclude={stage.root.path(HOST)}", str(stage.root.folder)]  # bind mounts are no part of it
    size = subprocess.run(du, check=True, capture_output=True, text=True).stdout
    heading(f"user {uid}, volumes {', '.join(stage.volumes)}, {size.split()[0]} MB unpacked")
    stage.run(["sh", "-c", "id; python3 --version; tesseract --version | head -1; command -v gcc || echo no compiler"])

    heading("longleaf model pull embedded")
    stage.run([*stage.entrypoint, "model", "pull", "embedded"])
    _leave_network()
    heading("without a network from here on: longleaf doctor")
    stage.run([*stage.entrypoint, "doctor"])

    shutil.copy(repository / SAMPLE, stage.root.path(stage.workdir) / SAMPLE.name)  # as a user's folder is mounted
    heading(f'longleaf ask {SAMPLE.name} "{QUESTION}"')
    answer = stage.run([*stage.entrypoint, "ask", SAMPLE.name, QUESTION])
    _expect(ANSWER in answer, f"the answer is not {ANSWER}")

    heading("the same as user 12345, whom the image does not know")
    theirs = {"HOME": "/tmp", "LONGLEAF_HOME": "/tmp/library"}  # folders of their own
    stranger = replace(stage, user="12345:12345", env=stage.env | theirs)
    answer = stranger.run([*stage.entrypoint, "ask", SAMPLE.name, QUESTION])
    _expect(ANSWER in answer, f"the answer is not {ANSWER}")

    heading(f"longleaf {' '.join(stage.command)}, without a password")
    quiet = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    refused = stage.start([*stage.entrypoint, *stage.command], **quiet)
    _, said = refused.communicate(timeout=120)
    print(said, end="")
    _expect(refused.returncode == 1, f"it ends with exit code {refused.returncode}")
    _expect("LONGLEAF_PASSWORD" in said, "it does not say what to set")

    password, keys = {"LONGLEAF_PASSWORD": "correct horse battery staple"}, {"LONGLEAF_API_KEYS": "k" * 20}
    for command, secret in ((stage.command, password), (["serve", "--host", "0.0.0.0"], keys)):
        heading(f"longleaf {' '.join(command)}, with {next(iter(secret))}")
        _serves_and_ends(stage, command, secret)


def _serves_and_ends(stage: "Stage", command: list[str], secret: dict[str, str]) -> None:
    """Starts a server, waits until HEALTHCHECK's command exits with 0, and stops it as `docker stop` does."""
    _expect(bool(stage.healthcheck), "the image has no HEALTHCHECK")
    _expect(_health(stage) != 0, "HEALTHCHECK's command exits with 0 while nothing runs")
    server = stage.start([*stage.entrypoint, *command], secret, stdin=subprocess.DEVNULL)
    try:
        since = time.monotonic()
        while (code := _health(stage)) != 0 and time.monotonic() - since < 120 and server.poll() is None:
            time.sleep(0.5)
        _expect(code == 0, f"HEALTHCHECK's command still exits with {code}")
        print(f"HEALTHCHECK's command exits with 0 after {time.monotonic() - since:.1f} s", flush=True)
        since = time.monotonic()
        code = stage.root.stop(server, timeout=60)
        _expect(code == 0, f"exit code {code} after SIGTERM")
        print(f"SIGTERM: it ends with 0 after {time.monotonic() - since:.1f} s", flush=True)
    finally:
        server.kill()


def _health(stage: "Stage") -> int:
    process = stage.start(stage.healthcheck, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return int(process.wait(timeout=30))


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise CheckError(otherwise)


def _leave_network() -> None:
    """Puts this process and what it starts from now on into a network of its own that has a loopback and no more.

    The image's ports are then free, whatever this machine runs on them, and nothing that follows can need the network.
    """
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "can't leave the network: " + os.strerror(ctypes.get_errno()))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
