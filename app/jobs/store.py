"""Jobs and their items: what is to be done, by whom it is being done, and what came of it.

An item is claimed before it is worked on, and its result is kept in one transaction that only the claimant of that
moment can make: whatever is killed when, each item is done once. Several processes may work on one job at once.
"""

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from longleaf.app.process_identity import is_gone
from longleaf.errors import QuestionError

from .database import Execute, JobDatabase
from .sources import Source, expanded
from .spec import ExtractSpec, SummarizeSpec, spec_from_json, work_key

__all__ = ["Counts", "Item", "ItemState", "Job", "JobStore", "Outcome", "now"]

ItemState = Literal["waiting", "running", "done", "failed", "cancelled"]

MAX_INTERRUPTED = 20
"""An item whose process went away so often takes it along: it fails, and the others go on."""
UNSEEN = timedelta(minutes=3)
"""A process on another machine that gives no sign of life for so long has lost its items to the others."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an item.

    Attributes:
        result: Plain values, as they are put into JSON.
        model: Who wrote it.
        n_pages: Of the document.
        tokens_read: Tokens that the reader had to read.
        tokens_reused: Tokens of its prompts that it had read before.
        tokens_written: Tokens that it wrote.
    """

    result: dict[str, Any]
    model: str = ""
    n_pages: int = 0
    tokens_read: int = 0
    tokens_reused: int = 0
    tokens_written: int = 0


@dataclass(frozen=True, slots=True)
class Item:
    """One file of a job; the columns of `job_items`, where their meanings stand.

    Attributes:
        result: What came of it; None while nothing has.
    """

    job_id: str
    source: str
    position: int
    output_name: str
    sha256: str
    work_key: str
    state: ItemState
    attempts: int
    interrupted: int
    owner: str
    node: str
    seen_at: str
    draft: str
    reason: str
    lasting: bool
    model: str
    n_pages: int
    tokens_read: int
    tokens_reused: int
    tokens_written: int
    seconds: float
    finished_at: str
    result: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """The file's name."""
        return Path(self.source).name

    def to_dict(self) -> dict[str, Any]:
        """What `jobs show --json` prints of it: all but who works on it, and the result."""
        hidden = {"owner", "seen_at", "draft", "result", "job_id", "work_key"}
        return {name: value for name, value in asdict(self).items() if name not in hidden}


@dataclass(frozen=True, slots=True)
class Counts:
    """How many items are in each state, and what they took in all."""

    waiting: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    n_pages: int = 0
    tokens_read: int = 0
    tokens_reused: int = 0
    tokens_written: int = 0
    seconds: float = 0.0

    @property
    def total(self) -> int:
        """All items."""
        return self.waiting + self.running + self.done + self.failed + self.cancelled

    @property
    def open(self) -> int:
        """Items that are still to be done."""
        return self.waiting + self.running


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stands.

    Attributes:
        id: Eight characters, made of its kind and its folder: the same command finds it again.
        output: The folder of its results.
        spec: What is done with each document.
        state: "open", or "cancelled" until it is resumed.
        counts: How its items stand.
    """

    id: str
    kind: str
    output: Path
    spec: SummarizeSpec | ExtractSpec
    state: str
    made_at: str
    changed_at: str
    counts: Counts = field(default_factory=Counts)


_COLUMNS = tuple(f.name for f in fields(Item) if f.name != "result")
_ITEM = ", ".join(_COLUMNS)
_UNDONE = (
    "attempts = attempts + 1, interrupted = 0, owner = '', result = '', reason = '', lasting = 0, model = '',"
    " n_pages = 0, tokens_read = 0, tokens_reused = 0, tokens_written = 0, seconds = 0, finished_at = ''"
)
"""Sets an item back to not done; `attempts` goes on, so that whoever still works on it is late."""


class JobStore:
    """The jobs in a database; see the module. Threads and processes may share it.

    Every method raises StorageError where the database can't be reached or written.
    """

    def __init__(self, database: JobDatabase) -> None:
        self._database = database

    # Jobs

    def open(self, output: Path, spec: SummarizeSpec | ExtractSpec) -> Job:
        """The job that puts this kind of result into this folder: a new one, or the one of an earlier run."""
        id_ = _id_of(output, spec)
        with self._database.transaction() as execute:
            execute(
                "INSERT INTO jobs (id, kind, output, spec, state, made_at, changed_at)"
                " VALUES (?, ?, ?, ?, 'open', ?, ?) ON CONFLICT (id) DO UPDATE"
                " SET spec = excluded.spec, state = 'open', changed_at = excluded.changed_at",
                id_, spec.kind, str(output), spec.model_dump_json(), now(), now(),
            )  # fmt: skip
        return self.find(id_)

    def jobs(self) -> list[Job]:
        """All jobs; the one that was worked on last comes first."""
        with self._database.transaction() as execute:
            rows = execute("SELECT * FROM jobs ORDER BY changed_at DESC, id")
            counted = execute(f"{_COUNT} FROM job_items GROUP BY job_id, state")
        return [_job(row, [c for c in counted if c["job_id"] == row["id"]]) for row in rows]

    def find(self, ref: str) -> Job:
        """The job of this id, or whose id begins so, or of this output folder.

        Raises:
            QuestionError: There is none, or several.
        """
        known = self.jobs()
        folder = expanded(ref).absolute()
        found = [job for job in known if job.id == ref] or [
            job for job in known if (ref and job.id.startswith(ref)) or job.output == folder
        ]
        if len(found) == 1:
            return found[0]
        there = ", ".join(f"{job.id} ({job.kind} into {job.output})" for job in found or known) or "none yet"
        if found:
            raise QuestionError(f"{ref} may be several jobs: {there}. Name one by its id")
        raise QuestionError(f"there is no job {ref}; there are: {there}")

    def cancel(self, job: Job) -> int:
        """Leaves what is not begun undone, and has who works on the rest stop; how many items that are."""
        with self._database.transaction() as execute:
            execute("UPDATE jobs SET state = 'cancelled', changed_at = ? WHERE id = ?", now(), job.id)
            return len(
                execute(
                    "UPDATE job_items SET state = 'cancelled', attempts = attempts + 1, owner = ''"
                    " WHERE job_id = ? AND state IN ('waiting', 'running') RETURNING source",
                    job.id,
                )
            )

    def is_cancelled(self, job: Job) -> bool:
        """Whether somebody cancelled it meanwhile."""
        with self._database.transaction() as execute:
            return bool(execute("SELECT 1 AS there FROM jobs WHERE id = ? AND state = 'cancelled'", job.id))

    def reopen(self, job: Job, *, lasting: bool = False) -> int:
        """Puts back what was cancelled, and what failed for a reason that may have passed; how many items.

        Args:
            job: Which one.
            lasting: Also what fails again with the same file, unless something else was done about it.
        """
        with self._database.transaction() as execute:
            execute("UPDATE jobs SET state = 'open', changed_at = ? WHERE id = ?", now(), job.id)
            return len(
                execute(
                    f"UPDATE job_items SET state = 'waiting', {_UNDONE}"
                    " WHERE job_id = ? AND (state = 'cancelled' OR (state = 'failed' AND lasting <= ?))"
                    " RETURNING source",
                    job.id,
                    int(lasting),
                )
            )

    # Items

    def plan(self, job: Job, sources: Sequence[Source]) -> None:
        """Takes files into a job. One that is there already stays as it is, unless it or the spec has changed.

        What was done with a file that can't be read any more stays too: it is what the file said.
        """
        with self._database.transaction() as execute:
            execute("UPDATE jobs SET changed_at = ? WHERE id = ?", now(), job.id)  # two that plan at once take turns
            rows = execute(
                "SELECT source, output_name, position, sha256, work_key FROM job_items WHERE job_id = ?", job.id
            )
            known = {row["source"]: row for row in rows}
            names = {_folded(row["output_name"]) for row in rows}
            position = max((row["position"] for row in rows), default=0)
            for source in sources:
                path = str(source.path)
                sha256 = _sha256_now(source, known.get(path))
                key = work_key(job.spec, sha256)
                if path not in known:
                    position += 1
                    name = _unused(source.path.stem or source.path.name, names)
                    names.add(_folded(name))
                    execute(
                        "INSERT INTO job_items (job_id, source, position, output_name, sha256, work_key, state)"
                        " VALUES (?, ?, ?, ?, ?, ?, 'waiting')",
                        job.id, path, position, name, sha256, key,
                    )  # fmt: skip
                elif known[path]["work_key"] != key:
                    execute(
                        f"UPDATE job_items SET state = 'waiting', sha256 = ?, work_key = ?, draft = '', {_UNDONE}"
                        " WHERE job_id = ? AND source = ?",
                        sha256, key, job.id, path,
                    )  # fmt: skip

    def preview(
        self, output: Path, spec: SummarizeSpec | ExtractSpec, sources: Sequence[Source]
    ) -> tuple[list[Path], int]:
        """What `open` and `plan` would leave to be done, and how many are done; changes nothing."""
        with self._database.transaction() as execute:
            rows = execute(
                "SELECT source, sha256, work_key FROM job_items WHERE job_id = ? AND state = 'done'",
                _id_of(output, spec),
            )
        done = {row["source"]: row for row in rows}

        def is_done(source: Source) -> bool:
            row = done.get(str(source.path))
            return row is not None and row["work_key"] == work_key(spec, _sha256_now(source, row))

        left = [source.path for source in sources if not is_done(source)]
        return left, len(sources) - len(left)

    def items(self, job: Job, *, since: str = "") -> list[Item]:
        """The items of a job in their order.

        Args:
            job: Which one.
            since: Only those that were finished at this moment (ISO 8601) or later.
        """
        with self._database.transaction() as execute:
            rows = execute(
                f"SELECT {_ITEM}, result FROM job_items WHERE job_id = ? AND finished_at >= ? ORDER BY position",
                job.id,
                since,
            )
        return [_item(row) for row in rows]

    def counts(self, job: Job) -> Counts:
        """How its items stand at this moment."""
        with self._database.transaction() as execute:
            return _counts(execute(f"{_COUNT} FROM job_items WHERE job_id = ? GROUP BY job_id, state", job.id))

    def claim(self, job: Job, owner: str, node: str) -> Item | None:
        """The next item to work on, which is then this process's; None where none waits.

        What this machine has worked on before comes first, since its reading lies here; then what no machine has.

        Args:
            job: Which one.
            owner: Of `process_identity.identity`.
            node: Names the machine.
        """
        with self._database.transaction() as execute:
            found = execute(
                "SELECT source FROM job_items i WHERE job_id = ? AND state = 'waiting' ORDER BY CASE"
                "  WHEN EXISTS (SELECT 1 FROM job_items b WHERE b.sha256 = i.sha256 AND b.node = ?) THEN 0"
                "  WHEN EXISTS (SELECT 1 FROM job_items b WHERE b.sha256 = i.sha256 AND b.node <> '') THEN 2"
                f"  ELSE 1 END, position LIMIT 1{self._database.take_one}",
                job.id,
                node,
            )
            if not found:
                return None
            (row,) = execute(
                "UPDATE job_items SET state = 'running', attempts = attempts + 1, owner = ?, node = ?, seen_at = ?"
                f" WHERE job_id = ? AND source = ? RETURNING {_ITEM}, result",
                owner, node, now(), job.id, found[0]["source"],
            )  # fmt: skip
            return _item(row)

    def finish(self, item: Item, outcome: Outcome, seconds: float) -> bool:
        """Keeps what came of an item; False where it is no longer this claimant's, and nothing is kept.

        Args:
            item: As it was claimed.
            outcome: What came of it; "sha256" in its result is that of the bytes that were worked on, which may have
                changed since the item was planned.
            seconds: That it took in this attempt.
        """
        result = _storable(json.dumps(outcome.result, ensure_ascii=False, allow_nan=False))
        with self._database.transaction() as execute:
            return _end(
                execute,
                item,
                "state = 'done', draft = '', reason = '', lasting = 0, sha256 = ?, work_key = ?, result = ?, model = ?,"
                " n_pages = ?, tokens_read = ?, tokens_reused = ?, tokens_written = ?, seconds = ?, finished_at = ?",
                *_worked_on(execute, item, outcome), result, outcome.model, outcome.n_pages,
                outcome.tokens_read, outcome.tokens_reused, outcome.tokens_written, seconds, now(),
            )  # fmt: skip

    def fail(self, item: Item, reason: str, *, lasting: bool, seconds: float = 0.0) -> bool:
        """Keeps why an item can't be done.

        Args:
            item: As it was claimed.
            reason: In words for the user.
            lasting: Whether it would fail again with the same file.
            seconds: That it took.
        """
        sets = "state = 'failed', result = '', reason = ?, lasting = ?, seconds = ?, finished_at = ?"
        with self._database.transaction() as execute:
            return _end(execute, item, sets, _storable(reason), int(lasting), seconds, now())

    def give_back(self, item: Item) -> bool:
        """Lets somebody else, or a later run, do it."""
        with self._database.transaction() as execute:
            return _end(execute, item, "state = 'waiting', owner = ''")

    def keep_draft(self, item: Item, draft: str) -> None:
        """Keeps what is done of an item so far, for whoever goes on with it."""
        with self._database.transaction() as execute:
            _end(execute, item, "draft = ?, seen_at = ?", _storable(draft), now())

    def take_back(self, job: Job) -> int:
        """Sets free the items whose process is gone; how many."""
        n = 0
        with self._database.transaction() as execute:
            for row in execute(
                "SELECT source, attempts, owner, seen_at, interrupted FROM job_items"
                " WHERE job_id = ? AND state = 'running'",
                job.id,
            ):
                if not is_gone(row["owner"], row["seen_at"], UNSEEN):
                    continue
                values: tuple[str, ...] = ()
                if row["interrupted"] + 1 >= MAX_INTERRUPTED:
                    reason = f"the process went away {MAX_INTERRUPTED} times while it worked on this file"
                    sets, values = "state = 'failed', lasting = 1, reason = ?, finished_at = ?", (reason, now())
                else:
                    sets = "state = 'waiting'"
                # Still as it was found: others may have taken it back, and done it, since.
                freed = execute(
                    f"UPDATE job_items SET {sets}, interrupted = interrupted + 1, owner = ''"
                    " WHERE job_id = ? AND source = ? AND state = 'running' AND attempts = ? RETURNING source",
                    *values, job.id, row["source"], row["attempts"],
                )  # fmt: skip
                n += len(freed)
        return n

    def sign_of_life(self, job: Job, owner: str) -> None:
        """Says that this process is still there, to those on other machines."""
        with self._database.transaction() as execute:
            execute(
                "UPDATE job_items SET seen_at = ? WHERE job_id = ? AND owner = ? AND state = 'running'",
                now(), job.id, owner,
            )  # fmt: skip

    def forget(self, sha256s: Iterable[str]) -> int:
        """Removes the items of documents that were removed, with what came of them; how many."""
        with self._database.transaction() as execute:
            return sum(
                len(execute("DELETE FROM job_items WHERE sha256 = ? RETURNING source", sha256))
                for sha256 in sha256s
                if sha256
            )

    def tokens_per_second(self, model: str) -> float | None:
        """How fast this model has read in jobs so far; None where it has not."""
        with self._database.transaction() as execute:
            (row,) = execute(
                "SELECT sum(tokens_read) AS tokens, sum(seconds) AS seconds FROM job_items"
                " WHERE state = 'done' AND model = ? AND tokens_read > 0",
                model,
            )
        return row["tokens"] / row["seconds"] if row["seconds"] else None


_COUNT = (
    "SELECT job_id, state, count(*) AS n, sum(n_pages) AS n_pages, sum(tokens_read) AS tokens_read,"
    " sum(tokens_reused) AS tokens_reused, sum(tokens_written) AS tokens_written, sum(seconds) AS seconds"
)
_SUMS = ("n_pages", "tokens_read", "tokens_reused", "tokens_written", "seconds")


def _end(execute: Execute, item: Item, sets: str, *values: Any) -> bool:
    """Changes an item that is this claimant's; False where it no longer is."""
    return bool(
        execute(
            f"UPDATE job_items SET {sets} WHERE job_id = ? AND source = ? AND state = 'running' AND attempts = ?"
            " RETURNING source",
            *values, item.job_id, item.source, item.attempts,
        )
    )  # fmt: skip


def _worked_on(execute: Execute, item: Item, outcome: Outcome) -> tuple[str, str]:
    """The sha256 and work key of what was done, so that a file mended since the plan is not done once more."""
    sha256 = outcome.result.get("sha256") or item.sha256
    if sha256 != item.sha256:
        spec = spec_from_json(execute("SELECT spec FROM jobs WHERE id = ?", item.job_id)[0]["spec"])
        if work_key(spec, item.sha256) == item.work_key:  # else the spec has changed since, and it is done anew
            return sha256, work_key(spec, sha256)
    return item.sha256, item.work_key


def _sha256_now(source: Source, known: dict[str, Any] | None) -> str:
    """Of the file; where it can't be read, what it was when it was planned."""
    return source.sha256 or (known["sha256"] if known else "")


def _storable(text: str) -> str:
    """Text that a database takes: without halves of characters and, for PostgreSQL, without NUL."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def _id_of(output: Path, spec: SummarizeSpec | ExtractSpec) -> str:
    return hashlib.sha256(f"{spec.kind}\0{output}".encode()).hexdigest()[:8]


def now() -> str:
    """This moment: ISO 8601, UTC, to the microsecond."""
    return datetime.now(UTC).isoformat()


def _counts(rows: Sequence[dict[str, Any]]) -> Counts:
    by_state = {row["state"]: int(row["n"]) for row in rows}
    sums = {name: sum(row[name] or 0 for row in rows) for name in _SUMS}
    return Counts(**by_state, **sums)


def _job(row: dict[str, Any], counted: Sequence[dict[str, Any]]) -> Job:
    return Job(
        row["id"], row["kind"], Path(row["output"]), spec_from_json(row["spec"]), row["state"], row["made_at"],
        row["changed_at"], _counts(counted),
    )  # fmt: skip


def _item(row: dict[str, Any]) -> Item:
    result = json.loads(row["result"]) if row["result"] else None
    return Item(**{name: row[name] for name in _COLUMNS} | {"lasting": bool(row["lasting"]), "result": result})


def _folded(name: str) -> str:
    """Equal for names that some file systems hold for the same."""
    return unicodedata.normalize("NFC", name.casefold())


def _unused(stem: str, names: set[str]) -> str:
    name, n = stem, 1
    while _folded(name) in names:
        n += 1
        name = f"{stem}-{n}"
    return name
