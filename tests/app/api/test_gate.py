"""Who gets in, what a body may have, and what is told in logs and metrics."""

import json
import logging
from pathlib import Path

import pytest

from longleaf.app.api.keys import ApiKeys, read_key_file, split_keys
from longleaf.app.api.options import ApiOptions, check_address
from longleaf.errors import LongleafError

from .conftest import chat, client_of, until

PATH = "/v1/chat/completions"
KEY, OTHER = "k" * 20, "o" * 20


async def test_a_key_is_asked_for_where_there_is_one(start) -> None:
    app = await start(keys=(KEY, OTHER))
    await until(lambda: not app.state.api.not_ready)
    for given, words in (("", "didn't provide"), ("x" * 20, "Incorrect"), (KEY[:-1], "Incorrect")):
        async with client_of(app, given) as client:
            refused = await client.post(PATH, json=chat())
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
            assert words in refused.json()["error"]["message"]
            assert (await client.get("/metrics")).status_code == 401
            assert (await client.get("/openapi.json")).status_code == 401
            assert (await client.get("/health")).status_code == 200
            assert (await client.get("/ready")).status_code == 200
    for given in (KEY, OTHER):
        async with client_of(app, given) as client:
            assert (await client.post(PATH, json=chat())).status_code == 200
    async with client_of(await start(keys=(KEY,), open_metrics=True)) as client:
        assert (await client.get("/metrics")).status_code == 200


def test_without_a_key_only_this_machine_is_let_in() -> None:
    for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"):
        check_address(host, ApiOptions())
    for host in ("0.0.0.0", "::", "10.0.0.7", "example.org", ""):
        with pytest.raises(LongleafError, match="LONGLEAF_API_KEYS"):
            check_address(host, ApiOptions())
        check_address(host, ApiOptions(keys=(KEY,)))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "localhost:8000"}, 200),
        ({"host": "[::1]:8000"}, 200),
        ({"host": "127.0.0.1", "origin": "http://localhost:8501"}, 200),
        ({"host": "127.0.0.1", "origin": "http://[::1]"}, 200),
        ({"host": "[::1"}, 403),
        ({"host": "rebound.example:8000"}, 403),
        ({"host": "127.0.0.1", "origin": "https://evil.example"}, 403),
        ({"host": "127.0.0.1", "origin": "null"}, 403),
    ],
)
async def test_pages_of_other_sites_do_not_get_in_without_a_key(client, headers, status) -> None:
    assert (await client.get("/v1/models", headers=headers)).status_code == status


def test_keys_come_from_a_list_and_from_a_file(tmp_path: Path) -> None:
    assert split_keys(" one, two ,,") == ["one", "two"]
    file = tmp_path / "keys"
    file.write_text(f"# ours\n{KEY}\n\n")
    file.chmod(0o600)
    assert read_key_file(file) == [KEY]
    file.write_text("# none\n")
    with pytest.raises(LongleafError, match="no API key"):
        read_key_file(file)
    with pytest.raises(LongleafError, match="No such file"):
        read_key_file(tmp_path / "nowhere")
    with pytest.raises(LongleafError, match="16 characters"):
        ApiKeys(["short"])
    assert ApiKeys([KEY]).owner(f"Basic {KEY}") is None
    assert KEY not in str(ApiKeys([KEY]).owner(f"Bearer {KEY}"))


async def test_a_body_that_is_too_large_is_refused_with_and_without_its_length(start) -> None:
    app = await start(max_body_bytes=200)

    async def blocks():
        for _ in range(10):
            yield b" " * 100

    async with client_of(app) as client:
        for body in (b" " * 201, blocks()):
            refused = await client.post(PATH, content=body, headers={"content-type": "application/json"})
            assert (refused.status_code, refused.json()["error"]["code"]) == (413, "body_too_large")
        assert (await client.post(PATH, json=chat())).status_code == 200


async def test_the_log_has_a_line_for_each_request_and_no_word_of_a_prompt(start, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    app = await start(keys=(KEY,))
    async with client_of(app, KEY) as client:
        await client.post(PATH, json=chat("my secret plan"))
        await client.post(PATH, json=chat("my secret plan", stream=True))
        await client.post(PATH, json=chat("my secret plan", temperature="secret"))
        await client.post("/v1/embeddings", json={"model": "letters", "input": "secret"})
        await client.get("/v1/secret?name=secret")
    lines = [json.loads(record.message) for record in caplog.records if record.name == "longleaf.access"]
    assert [line["status"] for line in lines] == [200, 200, 400, 200, 404]
    assert [line["endpoint"] for line in lines] == [PATH, PATH, PATH, "/v1/embeddings", "other"]
    for line in lines[:2]:
        assert (line["tokens_prompt"], line["tokens_reused"], line["tokens_written"]) == (3, 2, 3)
        assert line["waited_s"] >= 0
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("longleaf")]
    assert not any("secret" in text or KEY in text for text in ours)


async def test_metrics_count_requests_tokens_and_who_waits(client) -> None:
    await client.post(PATH, json=chat("one two three"))
    await client.post(PATH, json=chat(n=3))
    text = (await client.get("/metrics")).text
    for line in (
        f'longleaf_requests_total{{code="200",endpoint="POST {PATH}"}} 1.0',
        f'longleaf_requests_total{{code="400",endpoint="POST {PATH}"}} 1.0',
        f'longleaf_request_seconds_count{{endpoint="{PATH}"}} 2.0',
        "longleaf_tokens_read_total 1.0",
        "longleaf_tokens_reused_total 2.0",
        "longleaf_tokens_written_total 3.0",
        'longleaf_waiting{queue="reader"} 0.0',
        'longleaf_running{queue="embedder"} 0.0',
        "longleaf_readings_bytes 0.0",
    ):
        assert line in text.splitlines()


async def test_the_description_names_every_endpoint_and_there_is_no_page_from_elsewhere(client) -> None:
    described = (await client.get("/openapi.json")).json()
    assert {"/v1/chat/completions", "/v1/models", "/v1/embeddings", "/v1/documents", "/v1/ask"} <= described[
        "paths"
    ].keys()
    assert described["components"]["schemas"]["AskRequest"]["example"]
    assert (await client.get("/docs")).status_code == 404
