"""Runs the steps of a Dockerfile in root folders; started by run-steps.sh, which makes the namespaces and cleans up.

A step that is not known here is an error, never skipped. What differs from a build by Docker: a base image
`debian:RELEASE-slim` is made by debootstrap (the same packages, Docker's has fewer documentation files); there are no
layers, no build cache, no limits on system calls or capabilities, and the network is this machine's own.
"""
# ruff: noqa: T201 - what the steps print is what this is for

import argparse
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from checks import CheckError, check
from e2b_dockerfile_utils import DockerfileInstruction, PatternMatcher, ShellLex, parse_dockerfile_ast
from root import Root, copy, debootstrap, pip_from_host

REPOSITORY = Path(__file__).resolve().parent.parent
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class StepError(Exception):
    """A step that can't be run here."""


@dataclass
class Stage:
    """One stage, and what its steps said of the image."""

    root: Root
    env: dict[str, str] = field(default_factory=lambda: {"PATH": PATH})
    args: dict[str, str] = field(default_factory=dict)
    user: str = "0"
    workdir: str = "/"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)

    def variables(self) -> dict[str, str]:
        """What a RUN sees: arguments, and over them the environment."""
        return self.args | self.env

    def run(self, argv: list[str]) -> str:
        """Runs a command as a container of this image would, and gives its output."""
        return self.root.run(argv, user=self.user, workdir=self.workdir, env=self.env)

    def start(self, argv: list[str], variables: dict[str, str] | None = None, **popen: Any) -> Any:
        """Starts a command as a container of this image would; `popen` is for `subprocess.Popen`."""
        env = self.env | (variables or {})
        return self.root.start(argv, user=self.user, workdir=self.workdir, env=env, **popen)


class Build:
    """Runs instructions one after the other.

    Args:
        work: An empty folder for the roots.
        context: The files that COPY sees.
        given: Build arguments.
        mirror: Debian's mirror.
        use_host_pip: Whether pip inside uses this machine's settings.
    """

    def __init__(self, work: Path, context: Path, given: dict[str, str], mirror: str, use_host_pip: bool) -> None:
        self._work, self._context, self._given, self._mirror = work, context, given, mirror
        self._host = pip_from_host() if use_host_pip else ([], {})
        self._global: dict[str, str] = {}
        self._stages: dict[str, Stage] = {}
        self._stage: Stage | None = None
        self._declared: set[str] = set()

    @property
    def stage(self) -> Stage:
        """The stage that the steps are in.

        Raises:
            StepError: None has begun.
        """
        if self._stage is None:
            raise StepError("a step before the first FROM")
        return self._stage

    def step(self, step: DockerfileInstruction) -> None:
        """Runs one instruction.

        Raises:
            StepError: It is not known here, can't be run, or failed.
        """
        action = getattr(self, f"_{step.name.lower()}", None)
        if action is None or step.heredocs:
            raise StepError(f"line {step.start_line}: {step.name} (or a here-document in it) is not known here")
        allowed = {
            "COPY": {"from", "chown", "chmod"},
            "HEALTHCHECK": {"interval", "timeout", "start-period", "retries"},
        }
        for flag in step.flags:
            if flag.removeprefix("--").partition("=")[0] not in allowed.get(step.name, set()):
                raise StepError(f"line {step.start_line}: {step.name} {flag} is not known here")
        try:
            action(step)
        except subprocess.CalledProcessError as exc:
            raise StepError(f"line {step.start_line}: {step.name} ended with exit code {exc.returncode}") from exc

    def finish(self) -> None:
        """Makes sure, after the last step, that all build arguments were of use.

        Raises:
            StepError: One was not.
        """
        if unused := self._given.keys() - self._declared:
            raise StepError(f"no ARG is named {', '.join(sorted(unused))}")

    def _expand(self, word: str) -> str:
        known = self.stage.variables() if self._stage else self._global
        return ShellLex("\\", env=known, skip_unset_env=False).process_word(word)

    def _from(self, step: DockerfileInstruction) -> None:
        self._stage = None
        base = self._expand(step.args[0])
        name = step.args[2].lower() if len(step.args) == 3 else str(len(self._stages))
        folder = self._work / f"stage-{len(self._stages)}-{name}"
        if not base.startswith("debian:") or not base.endswith("-slim"):
            raise StepError(f"line {step.start_line}: FROM {base}: only debian:RELEASE-slim can be made here")
        fresh = self._work / base.replace(":", "-")
        if not fresh.exists():
            debootstrap(base.removeprefix("debian:").removesuffix("-slim"), fresh, self._mirror)
        copy(fresh, folder)
        self._stage = self._stages[name] = Stage(Root(folder, *self._host))
        self.stage.root.mount()

    def _arg(self, step: DockerfileInstruction) -> None:
        for word in step.args:
            name, has_default, default = word.partition("=")
            self._declared.add(name)
            place = self._stage.args if self._stage else self._global
            if name in self._given:
                place[name] = self._given[name]
            elif has_default:
                place[name] = self._expand(default)
            elif name in self._global:
                place[name] = self._global[name]

    def _env(self, step: DockerfileInstruction) -> None:
        # All of one ENV's values see the variables from before it.
        triples = zip(step.args[::3], step.args[1::3], strict=False)
        self.stage.env |= {name: self._expand(value) for name, value in triples}

    def _workdir(self, step: DockerfileInstruction) -> None:
        self.stage.workdir = str(Path(self.stage.workdir) / self._expand(step.args[0]))
        self.stage.root.path(self.stage.workdir).mkdir(parents=True, exist_ok=True)

    def _user(self, step: DockerfileInstruction) -> None:
        self.stage.user = self._expand(step.args[0])
        self.stage.root.ids(self.stage.user)

    def _run(self, step: DockerfileInstruction) -> None:
        argv = step.args if step.json else ["/bin/sh", "-c", step.args[0]]
        stage = self.stage
        stage.root.run(argv, user=stage.user, workdir=stage.workdir, env=stage.variables())

    def _copy(self, step: DockerfileInstruction) -> None:
        flags = dict(flag.removeprefix("--").split("=", 1) for flag in step.flags)
        *sources, target = map(self._expand, step.args)
        origin = self._stages[flags["from"].lower()].root.folder if "from" in flags else self._context
        into = self.stage.root.path(str(Path(self.stage.workdir) / target))
        owner = self.stage.root.ids(flags["chown"])[:2] if "chown" in flags else (0, 0)
        for source in sources:
            place = origin / source.lstrip("/")
            if not place.exists():
                raise StepError(f"line {step.start_line}: COPY {source}: it is not in {origin} (.dockerignore?)")
            is_folder = place.is_dir()
            goal = into / place.name if not is_folder and (target.endswith("/") or len(sources) > 1) else into
            goal.parent.mkdir(parents=True, exist_ok=True)
            # A folder's content is copied, not the folder; links stay links; a folder that is there is added to.
            what = [f"{place}/.", f"{goal}/"] if is_folder else [str(place), str(goal)]
            if is_folder:
                goal.mkdir(exist_ok=True)
            subprocess.run(["cp", "-a", "--no-preserve=ownership", *what], check=True)
            subprocess.run(["chown", "-hR", f"{owner[0]}:{owner[1]}", str(goal)], check=True)
            if "chmod" in flags:
                subprocess.run(["chmod", "-R", flags["chmod"], str(goal)], check=True)

    def _volume(self, step: DockerfileInstruction) -> None:
        self.stage.volumes += map(self._expand, step.args)

    def _entrypoint(self, step: DockerfileInstruction) -> None:
        self.stage.entrypoint = step.args if step.json else ["/bin/sh", "-c", step.args[0]]

    def _cmd(self, step: DockerfileInstruction) -> None:
        self.stage.command = step.args if step.json else ["/bin/sh", "-c", step.args[0]]

    def _healthcheck(self, step: DockerfileInstruction) -> None:
        kind, *words = step.args
        if kind.upper() != "CMD":
            raise StepError(f"line {step.start_line}: HEALTHCHECK {kind} is not known here")
        self.stage.healthcheck = words if step.json else ["/bin/sh", "-c", words[0]]

    def _label(self, _: DockerfileInstruction) -> None:
        """Says something of the image and does nothing."""

    _expose = _label


def make_context(folder: Path) -> Path:
    """Copies what .dockerignore lets through, as a builder is sent it."""
    ignored = PatternMatcher((REPOSITORY / ".dockerignore").read_text().splitlines())
    listed = subprocess.run(
        ["git", "-C", str(REPOSITORY), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    # Without git: everything, which is what a builder looks at; the listing only spares a walk through .venv.
    names = listed.stdout.split("\0")[:-1] if listed.returncode == 0 else _walk()
    for name in names:
        source = REPOSITORY / name
        if not ignored.matches(name) and (source.is_symlink() or source.is_file()):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, folder / name, follow_symlinks=False)
    return folder


def _walk() -> list[str]:
    paths = (path.relative_to(REPOSITORY) for path in REPOSITORY.rglob("*"))
    return [str(path) for path in paths if not {".venv", ".git"} & set(path.parts)]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="run-steps.sh", description="Runs the Dockerfile's steps in fresh Debian roots."
    )
    parser.add_argument("--work", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE", help="as docker build has it")
    parser.add_argument(
        "--pip-from-host", action="store_true", help="pip inside uses this machine's settings and local packages"
    )
    parser.add_argument("--mirror", default="http://deb.debian.org/debian", metavar="URL", help="Debian's mirror")
    return parser.parse_args()


def main() -> None:
    """Runs all steps, then the checks of the last stage; exits with 1 at the first that fails."""
    options, begun = _options(), time.monotonic()
    (options.work / "context").mkdir()
    given = dict(pair.split("=", 1) for pair in options.build_arg)
    build = Build(options.work, make_context(options.work / "context"), given, options.mirror, options.pip_from_host)
    steps = parse_dockerfile_ast((REPOSITORY / "Dockerfile").read_text()).instructions
    try:
        for number, step in enumerate(steps, start=1):
            place = f"[{time.monotonic() - begun:4.0f} s] step {number}/{len(steps)}"
            print(f"\n== {place}: {' '.join(step.original.split())}", flush=True)
            build.step(step)
        build.finish()
        check(build.stage, REPOSITORY, begun)
    except (StepError, CheckError, OSError, KeyError, subprocess.SubprocessError) as exc:
        sys.exit(f"\nrun-steps: failed after {time.monotonic() - begun:.0f} s: {exc}")
    print(f"\nrun-steps: all {len(steps)} steps and the checks after them passed in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
