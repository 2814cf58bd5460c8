"""The command line with a reader on a server: which address and key are used, and what is told when it fails."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_openai")

from longleaf.app.settings import load_settings
from longleaf.app.workbench import is_path, open_answerer, open_library, reader_name
from longleaf.errors import LongleafError, ReaderError

from ..openai_server import Reply, ScriptedServer, scripted_server  # noqa: TID252
from .conftest import Run

pytestmark = pytest.mark.enable_socket

CHAT = "/v1/chat/completions"


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "LONGLEAF_READER_KEY", "LONGLEAF_BASE_URL", "LONGLEAF_READER_TIMEOUT_S"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as script:
        script.answers["/v1/models"] = [Reply(body={"data": [{"id": "org/m-3b", "max_model_len": 4_096}]})]
        pieces = [_chunk("120 tonnes"), _chunk("", "stop"), _chunk("") | {"choices": [], "usage": _usage(210, 3, 128)}]
        script.answers[CHAT] = [Reply(body=[*pieces, "[DONE]"]), _yes()]
        yield script


def _chunk(text: str, finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def _yes() -> Reply:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Yes."}, "finish_reason": "stop"}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    return Reply(body=body | {"usage": _usage(220, 2, 200)})


def _usage(given: int, written: int, cached: int) -> dict[str, Any]:
    total = {"prompt_tokens": given, "completion_tokens": written, "total_tokens": given + written}
    return total | {"prompt_tokens_details": {"cached_tokens": cached}}


def test_ask_answers_with_a_server_s_model_and_counts_its_tokens(
    run: Run, report: Path, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGLEAF_BASE_URL", server.base_url)
    ran = run("ask", report, "How much does the largest crane lift?", "--model", "openai:org/m-3b", "--json")
    assert ran.code == 0, ran.err
    answer = json.loads(ran.out)
    assert answer["found"]
    assert answer["answer"] == "120 tonnes"
    assert answer["citations"][0]["page"] == 1
    assert answer["model"] == "org/m-3b"
    assert answer["receipt"]["tokens_prompt"] == 210
    assert answer["receipt"]["tokens_reused"] == 128
    assert "one for each 2.5 bytes" in answer["route"]["reason"]
    assert server.bodies(CHAT)[0]["messages"][0]["content"].startswith("You answer questions about the text below")


def test_an_address_alone_means_its_only_model(home: Path, server: ScriptedServer, monkeypatch: Any) -> None:
    monkeypatch.delenv("LONGLEAF_READER")
    settings = load_settings(base_url=server.base_url)
    with open_library(settings) as library:
        answerer = open_answerer(settings, library)
        assert answerer.reader is not None
        assert answerer.reader.model_name == "org/m-3b"
        assert answerer.reader.context_tokens == 4_096
        answerer.close()
    assert load_settings(base_url=server.base_url, reader="none").reader == "none"


def test_openai_s_key_goes_to_openai_alone(server: ScriptedServer, monkeypatch: Any, home: Path) -> None:
    def keys_sent() -> set[str]:
        server.asked.clear()
        settings = load_settings(base_url=server.base_url, reader="openai:")
        with open_library(settings) as library:
            open_answerer(settings, library).close()
        return {asked.headers["authorization"] for asked in server.asked}

    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-openai")
    assert keys_sent() == {"Bearer none"}
    monkeypatch.setenv("LONGLEAF_READER_KEY", "own-key")
    assert keys_sent() == {"Bearer own-key"}
    shown = repr(load_settings())
    assert "own-key" not in shown
    assert "sk-of-openai" not in shown


def test_without_an_address_and_without_openai_s_key_both_are_named(run: Run, report: Path) -> None:
    ran = run("ask", report, "How much?", "--model", "openai:gpt-5")
    assert ran.code == 1
    assert "openai:gpt-5 is a model of a server, and its address is missing: give --base-url" in ran.err
    assert "OPENAI_API_KEY" in ran.err


@pytest.mark.parametrize(
    ("path", "reply", "says"),
    [
        ("/v1/models", Reply(401, {"error": {"message": "Unauthorized"}}), "LONGLEAF_READER_KEY"),
        ("/v1/models", Reply(200, "<html></html>"), "a web page"),
        ("/v1/models", Reply(200, {"data": [{"id": "a"}, {"id": "b"}]}), "it has a, b"),
        (CHAT, Reply(400, {"error": {"message": "maximum context length is 9 tokens"}}), "--context-tokens"),
        (CHAT, Reply(body=[_chunk("120")], cut=True), "broke the connection off"),
    ],
)
def test_a_failure_is_one_line_that_names_the_address(
    run: Run, report: Path, server: ScriptedServer, monkeypatch: Any, path: str, reply: Reply, says: str
) -> None:
    monkeypatch.setenv("LONGLEAF_BASE_URL", server.base_url)
    server.answers[path] = [reply]
    ran = run("ask", report, "How much?", "--model", "openai:org/m-3b", "--json")
    assert ran.code == 1
    lines = ran.err.strip().splitlines()
    assert says in lines[-1]
    assert server.base_url in lines[-1]
    assert "Traceback" not in ran.err


def test_settings_say_what_is_wrong_with_an_address_and_show_no_key(monkeypatch: Any) -> None:
    with pytest.raises(LongleafError, match="LONGLEAF_BASE_URL"):
        load_settings(base_url="localhost:8000")
    with pytest.raises(LongleafError, match="LONGLEAF_READER_KEY: ") as raised:
        load_settings(reader_key=["secret"])
    assert "secret" not in str(raised.value)


def test_variables_that_are_empty_are_as_good_as_unset(monkeypatch: Any, run: Run, report: Path) -> None:
    for name in ("LONGLEAF_BASE_URL", "LONGLEAF_READER_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "")
    settings = load_settings()
    assert (settings.base_url, settings.reader_key, settings.reader) == (None, None, "none")
    ran = run("ask", report, "How much?", "--model", "openai:gpt-5")
    assert (ran.code, "its address is missing" in ran.err) == (1, True)


def test_a_server_s_model_is_no_file_though_it_may_be_named_by_one(home: Path) -> None:
    settings = load_settings(reader="openai:models/jamba.gguf", base_url="http://127.0.0.1:9/v1")
    assert not is_path(settings.reader)
    assert reader_name(settings) == "openai:models/jamba.gguf"
    with open_library(settings) as library, pytest.raises(ReaderError, match="can't be reached"):
        open_answerer(settings, library)
