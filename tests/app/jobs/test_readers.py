"""Jobs with real readers: the embedded one, and a server with OpenAI's interface that goes away in the middle."""

import json
import re
from pathlib import Path

import pytest

from longleaf.app.settings import load_settings
from longleaf.model import is_installed, model_path

from ...openai_server import llama_server  # noqa: TID252
from ..conftest import Run  # noqa: TID252

pytestmark = [pytest.mark.slow, pytest.mark.enable_socket]

LOG = "The log of Fastnet lighthouse.\nOn day 4 the lamp burnt 12 gallons of oil. Two ships passed.\n"


def folder_of(tmp_path: Path, n: int) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    for number in range(n):
        (folder / f"{number}.txt").write_text(LOG.replace("day 4", f"day {number}"))
    (folder / "empty.pdf").write_bytes(b"")
    return folder


@pytest.mark.skipif(not is_installed("embedded"), reason="no weights here: run `longleaf model pull embedded`")
def test_extract_reads_a_document_once_and_gives_values_of_the_schema(run: Run, tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text(LOG)
    (tmp_path / "form.json").write_text(
        json.dumps(
            {
                "type": "object",
                "properties": {
                    "oil": {"type": "integer", "description": "How many gallons of oil did the lamp burn on day 4?"},
                    "captain": {"type": "string", "description": "What is the name of the captain of the Titanic?"},
                },
            }
        )
    )
    words = ["extract", tmp_path / "log.txt", "-o", tmp_path / "out", "--schema", tmp_path / "form.json", "--json"]
    ran = run(*words, "-m", "embedded")
    assert ran.code == 0, ran.err
    (line,) = [json.loads(line) for line in (tmp_path / "out" / "answers.jsonl").read_text().splitlines()]
    oil, captain = line["cells"]
    assert (oil["value"], oil["found"], oil["citations"][0]["page"]) == (12, True, 1)
    assert "12 gallons of oil" in oil["citations"][0]["quote"]
    assert (captain["value"], captain["found"]) == (None, False)
    (item,) = json.loads(ran.out)["items"]
    assert item["tokens_reused"] > 0, "the second question starts from the reading"
    table = (tmp_path / "out" / "answers.csv").read_text("utf-8-sig").splitlines()
    assert table[0].endswith("pages,oil,oil (page),oil (quote),captain,captain (page),captain (quote)")


@pytest.mark.skipif(not is_installed("smollm2-135m"), reason="no weights here: run `longleaf model pull smollm2-135m`")
def test_a_server_that_goes_away_leaves_the_rest_to_the_next_run(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("longleaf.app.jobs.runner.FIRST_WAIT_S", 0.01)
    weights = model_path("smollm2-135m", load_settings().models_dir)
    folder, out = folder_of(tmp_path, 4), tmp_path / "out"
    words = ["summarize", folder, "-o", out, "--length", "short", "-m", "openai:tiny", "--workers", "2", "--base-url"]
    with llama_server(weights) as url:
        assert run(*words, url).code == 1  # the empty file
    done = {path.name: path.read_text() for path in out.glob("*.md")}
    assert sorted(done) == ["0.md", "1.md", "2.md", "3.md"]

    for number in (7, 8):
        (folder / f"{number}.txt").write_text(LOG.replace("day 4", f"day {number}"))
    away = run(*words, url)
    assert away.code == 1
    assert re.search(r"longleaf: .*can't be reached|longleaf: .*does not answer", " ".join(away.err.split())), away.err
    assert "Traceback" not in away.err
    assert {path.name: path.read_text() for path in out.glob("*.md")} == done

    with llama_server(weights) as again:
        ran = run(*words, again, "--json")
    items = {Path(item["source"]).name: item for item in json.loads(ran.out)["items"]}
    assert {name: item["state"] for name, item in items.items()} == {
        **{f"{number}.txt": "done" for number in (0, 1, 2, 3, 7, 8)},
        "empty.pdf": "failed",
    }
    assert items["0.txt"]["attempts"] == 1, "another address is no other work"
    assert items["7.txt"]["model"] == "tiny"
    assert items["7.txt"]["tokens_read"] > 0
