"""Models on servers with OpenAI's interface: by a server that says what it is told, and by llama.cpp's own."""

import contextlib
import math
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_openai")
from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from longleaf.errors import ContextOverflowError, LongleafError, ReaderError, UnknownModelError
from longleaf.ingestion import Library
from longleaf.model import ChatLongleaf, is_installed, model_path
from longleaf.retrieval import Answerer
from longleaf.retrieval import endpoint_server as server_module
from longleaf.retrieval.endpoint import EndpointReader, open_endpoint
from longleaf.retrieval.reader import DEFAULT_CONTEXT_TOKENS
from longleaf.retrieval.summary import Summarizer, SummaryOptions

from ..openai_server import Reply, ScriptedServer, llama_server, scripted_server  # noqa: TID252

pytestmark = pytest.mark.enable_socket

MODELS, CHAT, TOKENIZE = "/v1/models", "/v1/chat/completions", "/tokenize"
QUESTION = [SystemMessage("The crane lifts 120 tonnes.", additional_kwargs={"own": "mark"}), HumanMessage("How much?")]
OVERFLOWS = (
    "This model's maximum context length is 4096 tokens. However, your request has 5000 input tokens.",  # vLLM
    "request (4031 tokens) exceeds the available context size (2048 tokens), try increasing it",  # llama.cpp
    "The prompt has 9 tokens too many for the context window",
)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as script:
        script.answers[MODELS] = [models("m")]
        script.answers[CHAT] = [reply("120", " tonnes")]
        yield script


def models(*names: str, **told: Any) -> Reply:
    return Reply(body={"object": "list", "data": [{"id": name, "object": "model", **told} for name in names]})


def chunk(text: str = "", finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}


USAGE = {
    "prompt_tokens": 90,
    "completion_tokens": 2,
    "total_tokens": 92,
    "prompt_tokens_details": {"cached_tokens": 64},
}


def reply(*texts: str) -> Reply:
    end = chunk() | {"choices": [], "usage": USAGE}
    return Reply(body=[*map(chunk, texts), chunk(finish="stop"), end, "[DONE]"])


def whole_reply(text: str, tokens: list[dict[str, Any]] | None = None) -> Reply:
    message = {"role": "assistant", "content": text}
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": "stop"}
    choice |= {"logprobs": {"content": tokens}} if tokens else {}
    return Reply(
        body={"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": USAGE}
    )


def open_it(server: ScriptedServer, name: str = "m", **options: Any) -> EndpointReader:
    return open_endpoint(name, server.base_url, **{"max_retries": 0} | options)


def ask(reader: EndpointReader, messages: list[BaseMessage] = QUESTION) -> Any:
    return reader.invoke(messages, max_tokens=7, on_read=None, should_stop=None)


# What is sent


def test_the_document_comes_first_and_the_reply_is_counted_with_what_came_from_the_cache(
    server: ScriptedServer,
) -> None:
    said = ask(open_it(server, api_key="secret-1"))
    assert said.text == "120 tonnes"
    assert said.usage_metadata["input_tokens"] == 90
    assert said.usage_metadata["output_tokens"] == 2
    assert said.usage_metadata["input_token_details"]["cache_read"] == 64
    assert said.response_metadata["finish_reason"] == "stop"
    assert server.bodies(CHAT) == [
        {
            "model": "m",
            "messages": [
                {"role": "system", "content": "The crane lifts 120 tonnes."},
                {"role": "user", "content": "How much?"},
            ],
            "temperature": 0,
            "max_tokens": 7,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ]
    assert {asked.headers["authorization"] for asked in server.asked} == {"Bearer secret-1"}


def test_a_choice_is_read_from_the_probabilities_of_the_first_word(server: ScriptedServer) -> None:
    told = {"Yes": 0.5, " no": 0.2, "yes": 0.1, "Perhaps": 0.2}
    likely = [{"token": token, "logprob": math.log(share), "bytes": None} for token, share in told.items()]
    tokens = [{"token": "\n", "logprob": 0.0, "bytes": None, "top_logprobs": []}, likely[0] | {"top_logprobs": likely}]
    server.answers[CHAT] = [whole_reply("Yes.", tokens)]
    shares = open_it(server).choose(QUESTION, ("yes", "no"))
    assert shares == {"yes": pytest.approx(0.75), "no": pytest.approx(0.25)}
    assert server.bodies(CHAT)[0]["logprobs"] is True


def test_a_choice_is_read_from_the_reply_where_no_probabilities_are_told(server: ScriptedServer) -> None:
    server.answers[CHAT] = [
        Reply(400, {"error": {"message": "this server has no logprobs"}}),
        whole_reply("Yes."),
        whole_reply("Perhaps."),
    ]
    reader = open_it(server)
    assert reader.choose(QUESTION, ("yes", "no")) == {"yes": 1.0, "no": 0.0}
    assert reader.choose(QUESTION, ("yes", "no")) == {"yes": 0.5, "no": 0.5}
    assert ["logprobs" in body for body in server.bodies(CHAT)] == [True, False, False]
    server.answers[CHAT] = [whole_reply("No.")]  # neither told nor refused
    assert open_it(server).choose(QUESTION, ("yes", "no")) == {"yes": 0.0, "no": 1.0}


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_is_busy_is_asked_again(server: ScriptedServer, status: int) -> None:
    busy = Reply(status, {"error": {"message": "busy"}}, {"Retry-After-Ms": "1"})
    server.answers[MODELS].insert(0, busy)
    server.answers[CHAT] = [busy, busy, reply("120")]
    assert ask(open_it(server, max_retries=3)).text == "120"
    assert len(server.bodies(CHAT)) == 3


def test_a_model_that_takes_no_temperature_is_asked_without_it_from_then_on(server: ScriptedServer) -> None:
    refusal = Reply(400, {"error": {"message": "Unsupported value: 'temperature' does not support 0."}})
    server.answers[CHAT] = [refusal, reply("120"), whole_reply("no")]
    reader = open_it(server)
    assert ask(reader).text == "120"
    assert reader.choose(QUESTION, ("yes", "no"))["no"] == 1.0
    assert ["temperature" in body for body in server.bodies(CHAT)] == [True, False, False]


# What the server tells of itself


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"max_model_len": 262_144, "owned_by": "vllm"}, 262_144),
        ({"context_tokens": 4_096, "owned_by": "longleaf"}, 4_096),
        ({"meta": {"n_ctx": 2_048, "n_ctx_train": 8_192}, "owned_by": "llamacpp"}, 2_048),
        ({"meta": {"n_ctx_train": 8_192}, "owned_by": "llamacpp"}, 1_024),  # by /props: it was trained for more
        ({"meta": None, "max_model_len": None}, None),
    ],
)
def test_the_context_is_what_the_server_runs_the_model_with(
    server: ScriptedServer, told: dict[str, Any], expected: int | None
) -> None:
    server.answers[MODELS] = [models("m", **told)]
    server.answers["/props"] = [Reply(body={"default_generation_settings": {"n_ctx": 1_024}})]
    reader = open_it(server)
    assert reader.context_tokens == (expected or DEFAULT_CONTEXT_TOKENS)
    assert any("context is not known" in note for note in reader.notes) == (expected is None)
    assert open_it(server, context_tokens=700).context_tokens == 700


def test_a_context_that_the_server_does_not_have_is_refused_at_once(server: ScriptedServer) -> None:
    server.answers[MODELS] = [models("m", max_model_len=4_096)]
    with pytest.raises(ContextOverflowError, match=r"4,096 tokens, and 8,192 are asked for"):
        open_it(server, context_tokens=8_192)


@pytest.mark.parametrize(
    ("told", "field"),
    [({"count": 3, "max_model_len": 4_096, "tokens": [5, 6, 7]}, "prompt"), ({"tokens": [5, 6, 7]}, "content")],
)
def test_tokens_are_counted_by_the_server_once_for_each_text(
    server: ScriptedServer, told: dict[str, Any], field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "_SLOW_COUNT_S", 60.0)  # this machine may be busy
    server.answers[TOKENIZE] = [Reply(body=told)]
    reader = open_it(server)
    opening = len(server.bodies(TOKENIZE))
    assert [reader.get_num_tokens(text) for text in ("one two", "", "one two", "three")] == [3, 0, 3, 3]
    assert [body[field] for body in server.bodies(TOKENIZE)[opening:]] == ["one two", "three"]
    assert not any("estimated" in note for note in reader.notes)
    assert reader.tokenizer_name == f"m at {server.base_url}"


def test_tokens_are_estimated_where_the_server_counts_none_or_slowly(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = open_it(server)
    server.answers[TOKENIZE] = [Reply(body={"count": 3})]
    monkeypatch.setattr(server_module, "_SLOW_COUNT_S", -1.0)
    for reader in (without, open_it(server)):
        assert reader.get_num_tokens("abcdef") == 3
        assert reader.get_num_tokens("äöüäöü") == 5  # twelve bytes
        assert any("estimated" in note for note in reader.notes)
        assert "estimated" in reader.tokenizer_name
    assert len(server.bodies(TOKENIZE)) == 3  # none of them for these texts


def test_a_server_that_no_longer_counts_is_an_error_and_no_estimate_among_counts(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "_SLOW_COUNT_S", 60.0)
    server.answers[TOKENIZE] = [Reply(body={"count": 3})]
    reader = open_it(server)
    server.answers[TOKENIZE] = [Reply(500, {"error": {"message": "no tokenizer"}})]
    with pytest.raises(ReaderError, match="no tokenizer"):
        reader.get_num_tokens("one")


def test_the_only_model_needs_no_name_and_an_unknown_name_is_answered_with_those_there_are(
    server: ScriptedServer,
) -> None:
    assert open_it(server, "").model_name == "m"
    server.answers[MODELS][0].body["data"][:0] = [{"id": "reader", "context_tokens": 4_096}]
    assert open_it(server, "").model_name == "reader"  # `longleaf serve` lists its embedder too, without a context
    names = [f"other-{i}" for i in range(20)]
    server.answers[MODELS] = [models("jamba2-3b", *names)]
    with pytest.raises(UnknownModelError, match=r"no model 'jamba-3b'.*it has jamba2-3b, other-0.*and 13 more"):
        open_it(server, "jamba-3b")
    with pytest.raises(UnknownModelError, match=r"has several models: name one with --model openai:NAME"):
        open_it(server, "")
    server.answers[MODELS] = [Reply(body={"data": []})]
    with pytest.raises(UnknownModelError, match="no model now"):
        open_it(server, "")


# What goes wrong


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (
            Reply(401, {"error": {"message": "Invalid API key"}}),
            r"401: Invalid API key\): give its key as LONGLEAF_READER",
        ),
        (Reply(403, {"detail": "Forbidden"}), r"403: Forbidden\): give its key"),
        (Reply(404, {"detail": "Not Found"}), r"nothing there \(404: Not Found\): see that --base-url"),
        (Reply(500, {"error": {"message": "out of memory"}}), r"fails \(500: out of memory\): see the server's log"),
        (Reply(502, "<html><body>Bad Gateway</body></html>"), r"fails \(502: it sent a web page\)"),
        (Reply(429, {"error": {"message": "slow down"}}), r"limits how often.*slow down"),
        (Reply(200, "<!DOCTYPE html><html><body>Hello</body></html>"), "brings a web page in place of the list"),
        (Reply(200, {"object": "error"}), "something else in place of the list"),
    ],
)
def test_a_server_that_is_none_or_refuses_is_told_when_the_reader_is_opened(
    server: ScriptedServer, answer: Reply, says: str
) -> None:
    server.answers[MODELS] = [answer]
    with pytest.raises(ReaderError, match=says) as raised:
        open_it(server)
    assert str(raised.value).startswith(server.base_url)
    assert "\n" not in str(raised.value)


def test_an_address_without_v1_is_told_what_it_may_be(server: ScriptedServer) -> None:
    with pytest.raises(ReaderError, match=r"the address may be http://127\.0\.0\.1:\d+/v1"):
        open_endpoint("m", server.base_url.removesuffix("/v1"), max_retries=0)


def test_a_server_that_is_not_there_is_named_without_the_password_in_its_address() -> None:
    with pytest.raises(ReaderError, match=r"^http://127\.0\.0\.1:9/v1 can't be reached \(.*refused\)") as raised:
        open_endpoint("m", "http://anna:secret@127.0.0.1:9/v1/", max_retries=0)
    assert "secret" not in str(raised.value)
    with pytest.raises(ReaderError, match="is no address of a server"):
        open_endpoint("m", "localhost:8000")


CALLS: dict[str, Callable[[EndpointReader], Any]] = {
    "invoke": ask,
    "stopped": lambda reader: reader.invoke(QUESTION, max_tokens=7, on_read=None, should_stop=lambda: False),
    "choose": lambda reader: reader.choose(QUESTION, ("yes", "no")),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (Reply(401, {"error": {"message": "Invalid API key"}}), ReaderError, "give its key as LONGLEAF_READER_KEY"),
        (Reply(404, {"error": {"message": "The model `m` does not exist."}}), UnknownModelError, "no model 'm'"),
        (Reply(429, {"error": {"message": "quota"}}), ReaderError, r"limits how often .*quota"),
        (Reply(503, {"error": {"message": "loading"}}), ReaderError, "loading"),
        (Reply(400, {"error": {"message": "bad roles"}}), ReaderError, "bad roles"),
        (Reply(200, "<html><body>Log in</body></html>"), ReaderError, "not reply as an OpenAI-compatible server"),
        *((Reply(400, {"error": {"message": text}}), ContextOverflowError, "--context-tokens") for text in OVERFLOWS),
    ],
)
def test_a_refused_call_names_the_server_what_it_said_and_the_way_out(
    server: ScriptedServer, answer: Reply, kind: type[LongleafError], says: str, call: str
) -> None:
    reader = open_it(server)
    server.answers[CHAT] = [answer]
    with pytest.raises(kind, match=says) as raised:
        CALLS[call](reader)
    assert server.base_url in str(raised.value)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Reply(body=[chunk("120")], cut=True), r"broke the connection off"),
        (Reply(body=[chunk("120")]), "ended its reply in the middle"),
        (Reply(body=[chunk("120"), {"error": {"message": "CUDA out of memory"}}]), "CUDA out of memory"),
        (Reply(body=[]), "not reply as an OpenAI-compatible server|ended its reply in the middle"),
    ],
)
def test_a_reply_that_breaks_off_is_an_error_and_no_answer(server: ScriptedServer, answer: Reply, says: str) -> None:
    server.answers[CHAT] = [answer]
    seen = []
    with pytest.raises(ReaderError, match=says) as raised:
        seen += open_it(server).stream(QUESTION, max_tokens=7, on_read=None, should_stop=None)
    assert server.base_url in str(raised.value)


def test_a_server_that_falls_silent_is_not_waited_for_any_longer_than_said(server: ScriptedServer) -> None:
    over = threading.Event()
    server.answers[CHAT] = [Reply(body=[chunk("120")], then=lambda _: over.wait(30), cut=True)]
    try:
        with pytest.raises(ReaderError, match=r"sent nothing for 0 s.*LONGLEAF_READER_TIMEOUT_S"):
            ask(open_it(server, timeout_s=0.3))
    finally:
        over.set()


# Stopping


@pytest.mark.parametrize("said", [[], ["120", " tonnes"]], ids=["before the first piece", "in the middle"])
def test_a_stop_closes_the_connection(server: ScriptedServer, said: list[str]) -> None:
    silent, gone = say_and_wait(server, said)
    pieces = list(open_it(server).stream(QUESTION, max_tokens=7, on_read=None, should_stop=silent.is_set))
    assert [str(piece.text) for piece in pieces[:-1]] == said[: len(pieces) - 1]
    assert pieces[-1].response_metadata == {"finish_reason": "cancelled"}
    assert gone.wait(30)


def test_whoever_leaves_a_stream_closes_its_connection(server: ScriptedServer) -> None:
    _, gone = say_and_wait(server, ["120", " tonnes"])
    stream = open_it(server).stream(QUESTION, max_tokens=7, on_read=None, should_stop=None)
    assert next(stream).text == "120"
    stream.close()  # type: ignore[attr-defined]
    assert gone.wait(30)


def say_and_wait(server: ScriptedServer, said: list[str]) -> tuple[threading.Event, threading.Event]:
    """Has the server begin a reply and fall silent: events for that, and for the end of the connection."""
    silent, gone = threading.Event(), threading.Event()

    def wait_for_the_end(handler: BaseHTTPRequestHandler) -> None:
        silent.set()
        handler.connection.settimeout(30)
        with contextlib.suppress(ConnectionError):  # it was reset: what came last was not read
            assert handler.connection.recv(1) == b""
        gone.set()

    server.answers[CHAT] = [Reply(body=[chunk(text) for text in said], then=wait_for_the_end, cut=True)]
    return silent, gone


# llama.cpp's own server

HARBOUR = """\
Annual Report of the Harbour Board

The board owns four cranes. The largest crane lifts 120 tonnes and was built in Odense in 1998.

Fees

Berth fees are the main source of income of the harbour board in every year. They came to 8,412 crowns in 2024.

Works

The quay was rebuilt in 1998 after the storm, at a cost of twelve million crowns. The works took three years.
"""

real = [
    pytest.mark.slow,
    pytest.mark.skipif(not is_installed("smollm2-135m"), reason="no weights here: longleaf model pull smollm2-135m"),
]


@pytest.fixture(scope="module")
def llama() -> Iterator[str]:
    pytest.importorskip("xllamacpp")
    with llama_server(Path(model_path("smollm2-135m")), n_ctx=1_024, api_key="sixteen-letters-1") as base_url:
        yield base_url


@pytest.fixture
def real_reader(llama: str, monkeypatch: pytest.MonkeyPatch) -> EndpointReader:
    monkeypatch.setattr(server_module, "_SLOW_COUNT_S", 60.0)  # this machine may be busy
    return open_endpoint("", llama, "sixteen-letters-1", max_retries=0)


class TestLlamaCpp:
    pytestmark = real

    def test_it_tells_its_context_and_counts_as_our_own_tokenizer_does(self, real_reader: EndpointReader) -> None:
        assert real_reader.model_name == "tiny"
        assert real_reader.context_tokens == 1_024
        ours = ChatLongleaf(model="smollm2-135m")
        for text in (HARBOUR, "äöü 12,345.67", "one"):
            assert real_reader.get_num_tokens(text) == ours.get_num_tokens(text)

    def test_a_question_is_answered_with_citations_and_counted(
        self, real_reader: EndpointReader, library: Library, tmp_path: Path
    ) -> None:
        document = add(library, tmp_path)
        answerer = Answerer(library, real_reader, None, min_confidence=0.0)
        answer = answerer.ask("How much does the largest crane lift?", [document])
        assert answer.route.name == "whole-document"
        assert answer.model == "tiny"
        assert answer.reply
        assert answer.receipt.tokens_prompt > 100
        assert [citation.page for citation in answer.citations] == [1] * len(answer.citations)
        assert answer.citations
        again = answerer.ask("When was the quay rebuilt?", [document])
        # Both prompts begin with the document, which the server has from the first of them.
        assert again.receipt.tokens_reused > 0.7 * again.receipt.tokens_prompt

    def test_a_long_document_is_summarised_by_its_sections(
        self, real_reader: EndpointReader, library: Library, tmp_path: Path
    ) -> None:
        document = add(library, tmp_path, HARBOUR * 8)
        made = Summarizer(Answerer(library, real_reader, None), part_tokens=500).summarize(
            document, options=SummaryOptions("short")
        )
        receipt = made.receipt
        assert receipt.route == "sections"
        assert receipt.parts_done == receipt.parts >= 2
        assert receipt.pages_left == ()
        assert receipt.merge_levels == 1
        assert receipt.tokens_prompt > 500
        assert receipt.tokens_written > 0
        assert made.model == "tiny"
        assert {citation.page for citation in made.citations} <= set(receipt.pages_read)

    def test_it_tells_how_likely_a_choice_is(self, real_reader: EndpointReader) -> None:
        question = HumanMessage("Does the crane lift 120 tonnes? Reply yes or no.")
        shares = real_reader.choose([QUESTION[0], question], ("yes", "no"))
        assert 0 < shares["no"] < 1
        assert sum(shares.values()) == pytest.approx(1.0)

    def test_it_can_be_stopped_and_asked_again(self, real_reader: EndpointReader) -> None:
        polls: list[int] = []

        def stop() -> bool:
            polls.append(1)
            return len(polls) > 3

        stopped = real_reader.invoke(QUESTION, max_tokens=500, on_read=None, should_stop=stop)
        assert stopped.response_metadata["finish_reason"] == "cancelled"
        assert real_reader.invoke(QUESTION, max_tokens=2, on_read=None, should_stop=None).text

    def test_a_prompt_too_long_and_a_wrong_key_are_told(self, real_reader: EndpointReader, llama: str) -> None:
        with pytest.raises(ContextOverflowError, match=r"1024 tokens.*--context-tokens"):
            real_reader.invoke([HumanMessage("hello " * 2_000)], max_tokens=2, on_read=None, should_stop=None)
        with pytest.raises(ReaderError, match=r"401: Invalid API Key.*LONGLEAF_READER_KEY"):
            open_endpoint("tiny", llama, "another-key", max_retries=0)


def add(library: Library, folder: Path, text: str = HARBOUR) -> Any:
    file = folder / "harbour.txt"
    file.write_text(text)
    return library.add(file).document
