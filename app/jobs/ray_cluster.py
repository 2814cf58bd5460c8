"""Has the workers of a Ray cluster do a job: one process for each worker, each with a reader of its own.

Ray places the processes and starts one again that died; who does what, the database decides, as among threads. So a
worker that is killed loses nothing: its item is taken back by the others once its process is gone. The workers share
the disk with the one who started the job, or the jobs are kept in a PostgreSQL (LONGLEAF_JOBS_URL) and files are sent
to them. What a worker has read lies on its own machine: documents go to a worker on the machine that holds their
reading.
"""

import contextlib
import os
import platform
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

from longleaf.app.settings import Settings
from longleaf.errors import LongleafError, MissingExtraError, StorageError

from .runner import RunOptions
from .store import Job

__all__ = ["RayCrew"]

_MAX_RESTARTS = 10


class RayCrew:
    """Workers on a Ray cluster, as a `Crew`.

    Args:
        settings: Of the job; `home` is used on each machine.
        job: Which one.
        options: `workers` is the number of processes.
        address: Of the cluster, as ray.init takes it; "local" starts one on this machine and ends it.

    Raises:
        MissingExtraError: Ray is not installed.
        LongleafError: The cluster can't be reached.
    """

    def __init__(self, settings: Settings, job: Job, options: RunOptions, address: str) -> None:
        try:
            self._ray: Any = import_module("ray")
        except ImportError as exc:
            raise MissingExtraError(f"--ray needs Ray ({exc}): pip install 'longleaf[ray]'") from exc
        self._settings, self._job, self._options, self._address = settings, job, options, address
        self._calls: dict[Any, Any] = {}
        self._files: Any = None
        self._problem = ""
        self._quiet = contextlib.ExitStack()
        self._n_finished = 0

    def begin(self) -> None:
        """As `Crew` has it."""
        ray = self._ray
        self._quiet.enter_context(contextlib.redirect_stdout(sys.stderr))  # Ray prints what befalls workers (2.60)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            ray.init(
                address="local" if self._address == "local" else self._address,
                include_dashboard=False,
                configure_logging=False,
                log_to_driver=False,
            )
        except (ConnectionError, RuntimeError, ValueError) as exc:
            raise LongleafError(
                f"--ray {self._address}: the cluster can't be reached: {' '.join(str(exc).split())[:200]}. Its address "
                "is what `ray start --head` printed, such as 10.0.0.1:6379; 'local' starts one here"
            ) from exc
        gpu = 1 if self._settings.device == "cuda" else 0
        n = self._options.workers
        n_cpus = max(1, int(ray.cluster_resources().get("CPU", 1) // n))
        share = self._options.max_tokens_per_minute
        self._files = ray.remote(num_cpus=0)(_Files).remote()
        actor = ray.remote(
            num_cpus=0, num_gpus=gpu, max_restarts=_MAX_RESTARTS, max_task_retries=-1, max_concurrency=2
        )(_Worker)
        for _ in range(n):
            handle = actor.remote(
                self._settings.model_dump(mode="python"),
                self._job.id,
                self._files,
                platform.node(),
                n_threads=self._settings.n_threads or n_cpus,
                max_tokens_per_minute=max(1, share // n) if share else None,
                password=self._options.password,
            )
            self._calls[handle.work.remote()] = handle

    def busy(self) -> bool:
        """As `Crew` has it; a worker that died is set to work again once Ray has restarted it."""
        ray = self._ray
        ended, _ = ray.wait(list(self._calls), num_returns=len(self._calls), timeout=0)
        for call in ended:
            handle = self._calls.pop(call)
            try:
                problem = ray.get(call)
            except ray.exceptions.ActorUnavailableError:
                self._calls[handle.work.remote()] = handle
                continue
            except ray.exceptions.RayActorError as exc:
                # The others go on; and one that came to its end found nothing left to do.
                if not self._calls and not self._n_finished:
                    self._problem = f"all workers on the Ray cluster died: {' '.join(str(exc).split())[:300]}"
                continue
            self._n_finished += 1
            if problem:
                self._problem = problem
                self.stop()
        if self._calls:
            return True
        self._end()
        if self._problem:
            raise LongleafError(self._problem)
        return False

    def stop(self) -> None:
        """As `Crew` has it."""
        for handle in self._calls.values():
            handle.stop.remote()

    def _end(self) -> None:
        self._ray.shutdown()
        self._quiet.close()


class _Files:
    """Reads files on the machine that the job was started on, for workers that do not see its disk."""

    def read(self, path: str) -> bytes:
        return Path(path).read_bytes()


class _Worker:
    """One process with a reader of its own; runs in Ray."""

    def __init__(
        self,
        settings: dict[str, Any],
        job_id: str,
        files: Any,
        started_on: str,
        *,
        n_threads: int,
        max_tokens_per_minute: int | None,
        password: str | None,
    ) -> None:
        self._settings = Settings.model_validate({k: v for k, v in settings.items() if v is not None}).model_copy(
            update={"n_threads": n_threads}
        )
        self._job_id, self._files, self._started_on = job_id, files, started_on
        self._max_tokens_per_minute, self._password = max_tokens_per_minute, password
        self._stopped = threading.Event()

    def work(self) -> str:
        """Works until nothing is left; what ended it early, in words, or ""."""
        from longleaf.app.workbench import open_answerer

        from .meter import TokenBudget
        from .runner import Pulse, Worker, work_off
        from .session import open_jobs

        try:
            with open_jobs(self._settings) as (library, store):
                job = store.find(self._job_id)
                answerer = open_answerer(self._settings, library)
                budget = TokenBudget(self._max_tokens_per_minute) if self._max_tokens_per_minute else None
                worker = Worker(
                    store,
                    job,
                    answerer,
                    platform.node(),
                    self._stopped.is_set,
                    budget=budget,
                    password=self._password,
                    fetch=self._fetch,
                )
                try:
                    with Pulse(store, job):
                        work_off(worker)
                finally:
                    answerer.close()
        except LongleafError as exc:
            return str(exc)
        return ""

    def stop(self) -> None:
        """Ends `work` soon."""
        self._stopped.set()

    def _fetch(self, source: str) -> Path:
        path = Path(source)
        if platform.node() == self._started_on or path.exists():
            return path
        import ray

        folder = self._settings.home / "incoming" / str(os.getpid())
        folder.mkdir(parents=True, exist_ok=True)
        copy = folder / path.name
        try:
            copy.write_bytes(ray.get(self._files.read.remote(source)))
        except ray.exceptions.RayTaskError as exc:  # the file is gone there too: adding it says so
            if not isinstance(exc.cause, OSError):
                raise
            return path
        except OSError as exc:
            raise StorageError(f"{copy}: the file can't be copied here: {exc.strerror or exc}") from exc
        return copy
