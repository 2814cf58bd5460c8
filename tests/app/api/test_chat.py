"""POST /v1/chat/completions: shapes, what is asked of the reader, and what is refused."""

import pytest

from .conftest import chat, events

PATH = "/v1/chat/completions"


async def test_an_answer_has_openais_shape_and_tells_what_a_reading_spared(client, engine) -> None:
    response = await client.post(PATH, json=chat("?Hm Hello there"))
    assert response.status_code == 200
    assert response.headers["x-request-id"].startswith("req_")
    answer = response.json()
    assert answer["id"].startswith("chatcmpl-")
    assert (answer["object"], answer["model"]) == ("chat.completion", "smollm2-135m")
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["message"] == {
        "role": "assistant", "content": "Hellothere", "refusal": None, "reasoning_content": "Hm",
    }  # fmt: skip
    assert answer["usage"] == {
        "prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6, "prompt_tokens_details": {"cached_tokens": 2},
    }  # fmt: skip


async def test_a_stream_is_made_of_chunks_and_ends_with_usage_and_done(client) -> None:
    body = chat("?Hm Hello there", stream=True, stream_options={"include_usage": True})
    response = await client.post(PATH, json=body)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    *chunks, last, done = events(response.text)
    assert done == "[DONE]"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk["id"] for chunk in chunks} == {last["id"]}
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": ""}, {"reasoning_content": "Hm"}, {"content": "Hello"}, {"content": "there"},
        {},
    ]  # fmt: skip
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * 4 + ["stop"]
    assert all(chunk["usage"] is None for chunk in chunks)
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 6)

    without = events((await client.post(PATH, json=chat(stream=True))).text)
    assert all("usage" not in chunk for chunk in without[:-1])


async def test_what_is_asked_reaches_the_reader(client, engine) -> None:
    options = {"max_completion_tokens": 2, "temperature": 0.5, "top_p": 0.9, "seed": 7, "stop": "END", "top_k": 5}
    hints = {"user": "anna", "store": False, "n": 1, "presence_penalty": 0, "metadata": {"a": "b"}}
    answer = (await client.post(PATH, json=chat("one two three", **options, **hints))).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    (call,) = engine.calls
    assert (call["max_tokens"], call["stop"]) == (2, ["END"])
    sampling = call["sampling"]
    assert (sampling.temperature, sampling.top_p, sampling.seed, sampling.top_k) == (0.5, 0.9, 7, 5)


async def test_messages_of_all_roles_and_parts_are_read(client, engine) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"x": 1}'}}
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What"}, {"type": "text", "text": " now?"}]},
        {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None, "annotations": []},
        {"role": "tool", "content": "seven", "tool_call_id": "c1"},
    ]
    assert (await client.post(PATH, json=chat() | {"messages": messages})).status_code == 200
    read = engine.calls[0]["messages"]
    assert [message["role"] for message in read] == ["system", "user", "assistant", "tool"]
    assert read[1]["content"] == "What now?"
    assert read[2]["tool_calls"][0]["function"] == {"name": "look", "arguments": {"x": 1}}
    assert read[3]["tool_call_id"] == "c1"


TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
CALL = '<tool_call>\n{"name": "look", "arguments": {"x": "y z"}}\n</tool_call>'


async def test_a_call_of_a_tool_is_no_text(client, engine) -> None:
    answer = (await client.post(PATH, json=chat(CALL, tools=[TOOL]))).json()
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    (call,) = choice["message"]["tool_calls"]
    assert call["id"].startswith("call_")
    # The engine drops the blanks between words.
    assert (call["type"], call["function"]) == ("function", {"name": "look", "arguments": '{"x":"yz"}'})
    assert engine.calls[0]["constraint"] is not None

    text = (await client.post(PATH, json=chat(CALL, tools=[TOOL], stream=True))).text
    deltas = [chunk["choices"][0] for chunk in events(text)[:-1]]
    pieces = [call for delta in deltas for call in delta["delta"].get("tool_calls", [])]
    assert pieces[0]["function"]["name"] == "look"
    assert {piece["index"] for piece in pieces} == {0}
    assert "".join(piece["function"]["arguments"] for piece in pieces) == '{"x":"yz"}'
    assert deltas[-1]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"messages": []}, None, "missing_required_parameter"),
        (chat(model=None) | {"model": 3}, "model", "invalid_value"),
        (chat() | {"messages": []}, "messages", "invalid_value"),
        (chat(colour="blue"), "colour", "unknown_parameter"),
        (chat(temperature=3), "temperature", "invalid_value"),
        (chat(max_tokens=0), "max_tokens", "invalid_value"),
        (chat(max_tokens=100_000), "max_tokens", None),
        (chat(n=2), "n", None),
        (chat(logprobs=True), "logprobs", "unsupported_parameter"),
        (chat(frequency_penalty=0.5), "frequency_penalty", "unsupported_parameter"),
        (chat(stop=["a", "b", "c", "d", "e"]), "stop", None),
        (chat(tool_choice="required"), "tool_choice", None),
        (chat(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "x"}}), "tool_choice", None),
        (chat(tools=[{"type": "web_search"}]), "tools[0]", None),
        (chat(response_format={"type": "xml"}), "response_format", None),
        (chat([{"type": "image_url", "image_url": {"url": "x"}}]), "messages[0].content[0]", "unsupported_content"),
        (chat("word " * 64), "messages", "context_length_exceeded"),
        (chat("upside down"), "messages", None),
    ],
)
async def test_what_can_not_be_answered_is_refused_before_it_waits(client, engine, body, param, code) -> None:
    response = await client.post(PATH, json=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == ("invalid_request_error", code)
    assert param is None or error["param"] == param
    assert not engine.calls


async def test_other_models_bodies_and_addresses_are_refused_in_the_same_form(client) -> None:
    response = await client.post(PATH, json=chat() | {"model": "gpt-4o"})
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")
    assert "smollm2-135m" in response.json()["error"]["message"]
    response = await client.post(PATH, content=b"{", headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_json")
    response = await client.post(PATH, content=b"hello")
    assert (response.status_code, "Content-Type" in response.json()["error"]["message"]) == (400, True)
    assert (await client.get("/v1/nothing")).json()["error"]["message"] == "Invalid URL (GET /v1/nothing)"
    assert (await client.get(PATH)).status_code == 405


async def test_an_error_that_nobody_foresaw_says_nothing_of_the_prompt(client, caplog) -> None:
    response = await client.post(PATH, json=chat("plover boom"))
    assert (response.status_code, response.json()["error"]["type"]) == (500, "server_error")
    assert response.headers["x-should-retry"] == "false"
    text = (await client.post(PATH, json=chat("plover boom", stream=True))).text
    error = events(text)[-1]["error"]
    assert error["code"] == "internal_error"
    assert "RuntimeError" in caplog.text
    assert "plover" not in caplog.text + error["message"] + response.text


async def test_half_a_character_is_no_error_of_ours(client) -> None:
    body = b'{"model": "\\ud83d", "messages": [{"role": "user", "content": "x"}]}'
    response = await client.post(PATH, content=body, headers={"content-type": "application/json"})
    assert response.status_code == 404
