"""ChatLongleaf on a made-up engine: what LangChain sees, without weights."""

import json
from collections.abc import Iterator
from typing import Annotated, TypedDict

import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import (
    AIMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.tools import tool
from langchain_tests.unit_tests import ChatModelUnitTests
from pydantic import BaseModel, Field

from longleaf.errors import ModelError, ModelNotInstalledError, UnknownModelError
from longleaf.model import READING_LABEL, ChatLongleaf, Piece, SamplingOptions, Usage
from longleaf.model.constraint import Constraint, json_rule
from longleaf.model.engine import READING_SOURCES
from longleaf.model.tool_calls import ToolMarkup


class EchoEngine:
    """Says the last message back, word by word."""

    name = "echo"
    context_tokens = 64
    tool_markup = ToolMarkup()

    def __init__(self) -> None:
        self.calls: list[dict] = []

    def token_ids(self, text: str) -> list[int]:
        return [len(word) for word in text.split()]

    def count_prompt_tokens(self, messages, tools=None) -> int:
        return sum(len(message["content"].split()) for message in messages) + 10 * len(tools or [])

    def stream(self, messages, **settings) -> Iterator[Piece]:
        self.calls.append({"messages": messages, **settings})
        words = messages[-1]["content"].split()
        for word in words:
            if settings["should_stop"] and settings["should_stop"]():
                yield Piece("", "cancelled", Usage(1, 0, 0))
                return
            yield Piece("", reasoning=word[1:]) if word.startswith("?") else Piece(word)
        yield Piece("", "stop", Usage(len(words), len(words), 2, seconds_saved=1.5))

    def choose(self, messages, options, **settings):
        self.calls.append({"messages": messages, **settings})
        return dict.fromkeys(options, 1 / len(options))

    def close(self) -> None:
        pass


@pytest.fixture
def engine():
    return EchoEngine()


@pytest.fixture
def chat(engine):
    return ChatLongleaf(model="smollm2-135m", engine=engine)


class TestUnit(ChatModelUnitTests):
    """LangChain's own suite."""

    @property
    def chat_model_class(self):
        return ChatLongleaf

    @property
    def chat_model_params(self):
        return {"model": "smollm2-135m"}

    @property
    def supports_json_mode(self):
        return True


def test_an_answer_has_text_usage_and_metadata(chat):
    answer = chat.invoke("a b c")
    assert answer.content == "abc"
    assert answer.usage_metadata == {
        "input_tokens": 3,
        "output_tokens": 3,
        "total_tokens": 6,
        "input_token_details": {"cache_read": 2},
    }
    assert answer.response_metadata["model_name"] == "smollm2-135m"
    assert answer.response_metadata["finish_reason"] == "stop"
    assert answer.response_metadata["seconds_saved"] == 1.5


def test_a_stream_adds_up_to_the_answer(chat):
    chunks = list(chat.stream("a b c"))
    assert [chunk.content for chunk in chunks] == ["a", "b", "c", ""]
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert whole.content == "abc"
    assert whole.usage_metadata["input_token_details"]["cache_read"] == 2


def test_roles_and_text_blocks(chat, engine):
    chat.invoke(
        [
            SystemMessage("s"),
            HumanMessage([{"type": "text", "text": "a"}, "b"]),
            AIMessage("c"),
            ChatMessage(role="user", content="d"),
        ]
    )
    assert engine.calls[0]["messages"] == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "ab"},
        {"role": "assistant", "content": "c"},
        {"role": "user", "content": "d"},
    ]


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (HumanMessage([{"type": "image_url", "image_url": {"url": "data:"}}]), "reads text only.*image_url"),
        (FunctionMessage("x", name="f"), "type 'function'"),
        (ToolMessage([{"type": "image"}], tool_call_id="1"), "reads text only.*image"),
    ],
)
def test_what_it_can_not_read_is_refused(chat, message, says):
    with pytest.raises(ValueError, match=says):
        chat.invoke([message])


def test_a_call_overrides_the_fields(engine):
    chat = ChatLongleaf(model="smollm2-135m", engine=engine, temperature=0.5, stop=["x"], max_tokens=7, seed=3)
    chat.invoke("a")
    chat.invoke("a", temperature=0.1, stop=["y"], max_tokens=8)
    first, second = engine.calls
    assert (first["sampling"], first["stop"], first["max_tokens"]) == (SamplingOptions(0.5, seed=3), ["x"], 7)
    assert (second["sampling"], second["stop"], second["max_tokens"]) == (SamplingOptions(0.1, seed=3), ["y"], 8)


def test_reasoning_is_apart_from_the_text(chat):
    answer = chat.invoke("?hm ?so 42")
    assert answer.content == "42"
    assert answer.content_blocks == [{"type": "reasoning", "reasoning": "hmso"}, {"type": "text", "text": "42"}]
    whole = None
    for chunk in chat.stream("?hm ?so 42"):
        whole = chunk if whole is None else whole + chunk
    assert (whole.content, whole.additional_kwargs["reasoning_content"]) == ("42", "hmso")


def test_the_readings_label_comes_from_the_messages(chat, engine):
    chat.invoke([SystemMessage("a", additional_kwargs={READING_LABEL: "report.pdf"}), HumanMessage("b")])
    chat.invoke("b")
    assert [call["label"] for call in engine.calls] == ["report.pdf", ""]


def test_the_readings_sources_are_those_of_all_messages_for_answers_and_choices(chat, engine):
    about = [{READING_SOURCES: ["one"]}, {}, {READING_SOURCES: ["two", "one"], READING_LABEL: "two.pdf"}]
    messages = [SystemMessage("a", additional_kwargs=kwargs) for kwargs in about]
    chat.invoke(messages)
    list(chat.stream(messages))
    chat.choose(messages, ["yes", "no"])
    chat.choose([HumanMessage("b")], ["yes", "no"])
    found = [(call["label"], call["sources"]) for call in engine.calls]
    assert found == [("two.pdf", ("one", "two"))] * 3 + [("", ())]


def test_an_option_nobody_knows_is_refused(chat):
    with pytest.raises(ValueError, match="does not take tempreature"):
        chat.invoke("a", tempreature=1)


def test_cancelling(chat):
    answer = chat.invoke("a b", should_stop=lambda: True)
    assert answer.response_metadata["finish_reason"] == "cancelled"


def test_a_timeout_is_an_error(engine):
    with pytest.raises(ModelError, match="no answer within"):
        ChatLongleaf(model="smollm2-135m", engine=engine, timeout=1e-9).invoke("a b")


def test_tokens_are_the_engines(chat):
    assert chat.get_num_tokens("a b c") == 3
    assert chat.get_token_ids("a bb") == [1, 2]
    assert chat.get_num_tokens_from_messages([HumanMessage("a b")]) == 2
    assert chat.context_tokens == 64
    assert chat.choose([HumanMessage("a")], ["x", "y"]) == {"x": 0.5, "y": 0.5}


def test_the_context_defaults_to_what_the_model_is_run_with():
    assert ChatLongleaf(model="smollm2-135m").context_tokens == 2048
    assert ChatLongleaf(model="qwen2.5-1.5b").context_tokens == 4096
    assert ChatLongleaf(model="qwen2.5-1.5b", context_tokens=16384).context_tokens == 16384
    with pytest.raises(ModelError, match="trained for 8192"):
        _ = ChatLongleaf(model="smollm2-135m", context_tokens=9000).context_tokens


def test_models_that_are_not_there(tmp_path):
    with pytest.raises(ModelNotInstalledError, match="longleaf model pull smollm2-135m"):
        ChatLongleaf(model="smollm2-135m", models_dir=tmp_path).invoke("a")
    with pytest.raises(UnknownModelError, match="gpt-9"):
        ChatLongleaf(model="gpt-9").invoke("a")
    with pytest.raises(ModelNotInstalledError, match="no such file"):
        ChatLongleaf(model=str(tmp_path / "x.gguf")).invoke("a")
    with pytest.raises(ModelError, match="makes embeddings"):
        ChatLongleaf(model="minilm", models_dir=tmp_path).invoke("a")


# Tools and forms


class SayEngine(EchoEngine):
    """Says what it is told to, in pieces of five characters."""

    def __init__(self, text: str, reason: str = "stop") -> None:
        super().__init__()
        self.text, self.reason = text, reason

    def stream(self, messages, **settings) -> Iterator[Piece]:
        self.calls.append({"messages": messages, **settings})
        for start in range(0, len(self.text), 5):
            yield Piece(self.text[start : start + 5])
        yield Piece("", self.reason, Usage(3, 2, 0))


def saying(text: str, reason: str = "stop") -> ChatLongleaf:
    return ChatLongleaf(model="smollm2-135m", engine=SayEngine(text, reason))


@tool
def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


class Invoice(BaseModel):
    """An invoice."""

    title: str
    amount: float = Field(description="in euros")


class InvoiceDict(TypedDict):
    """An invoice."""

    title: Annotated[str, ..., "what it is for"]
    amount: float


CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'
INVOICE = '{"title": "Pencils", "amount": 12.5}'


def added(chunks):
    whole = None
    for chunk in chunks:
        whole = chunk if whole is None else whole + chunk
    return whole


def test_calls_of_tools_are_apart_from_the_text_also_in_a_stream():
    chat = saying(f"Let me see.\n{CALL}\n{CALL}").bind_tools([add])
    for answer in (chat.invoke("1 + 2?"), added(chat.stream("1 + 2?"))):
        assert answer.content == "Let me see."
        assert [(call["name"], call["args"]) for call in answer.tool_calls] == [("add", {"a": 1, "b": 2})] * 2
        assert len({call["id"] for call in answer.tool_calls}) == 2
        assert answer.invalid_tool_calls == []
        assert answer.usage_metadata["total_tokens"] == 5
    chunks = [chunk for message in chat.stream("1 + 2?") for chunk in message.tool_call_chunks]
    assert [chunk["name"] for chunk in chunks if chunk["name"]] == ["add", "add"]
    assert "".join(chunk["args"] for chunk in chunks if chunk["index"] == 1) == '{"a": 1, "b": 2}'
    assert len(chunks) > 4


async def test_async_answers_have_calls_too():
    chat = saying(CALL).bind_tools([add])
    assert (await chat.ainvoke("1 + 2?")).tool_calls[0]["args"] == {"a": 1, "b": 2}
    assert added([chunk async for chunk in chat.astream("1 + 2?")]).tool_calls[0]["args"] == {"a": 1, "b": 2}


def test_a_cut_call_is_an_invalid_one():
    answer = saying(CALL[:50], "length").bind_tools([add]).invoke("1 + 2?")
    assert answer.tool_calls == []
    assert [(call["name"], call["args"]) for call in answer.invalid_tool_calls] == [("add", '{"a": 1, ')]
    assert answer.response_metadata["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("choice", "grammar"),
    [
        (None, "start: TEXT? | head"),
        ("auto", "start: TEXT? | head"),
        ("any", 'start: "<tool_call>"'),
        ("required", 'start: "<tool_call>"'),
        (True, 'start: "<tool_call>"'),
        ("Invoice", 'start: "<tool_call>"'),
        ({"type": "function", "function": {"name": "Invoice"}}, 'start: "<tool_call>"'),
        ({"type": "tool", "name": "Invoice"}, 'start: "<tool_call>"'),
        ({"type": "any"}, 'start: "<tool_call>"'),
    ],
)
def test_the_choice_of_tools(choice, grammar):
    chat = saying("x")
    chat.bind_tools([add, Invoice], tool_choice=choice).invoke("a")
    call = chat.engine.calls[0]
    assert [tool["function"]["name"] for tool in call["tools"]] == ["add", "Invoice"]
    assert call["constraint"].grammar.startswith(grammar)
    assert ('"name\\": \\"add' in call["constraint"].grammar) is ("Invoice" not in str(choice))


def test_several_calls_where_none_is_due_and_otherwise_on_demand():
    chat = saying("x")
    for choice, parallel in (("auto", None), ("any", None), ("auto", False), ("any", True)):
        chat.bind_tools([add], tool_choice=choice, parallel_tool_calls=parallel).invoke("a")
    several = ['("\\n" "<tool_call>" inside)*' in call["constraint"].grammar for call in chat.engine.calls]
    assert several == [True, False, False, True]


def test_no_choice_and_a_wrong_one():
    chat = saying(CALL)
    answer = chat.bind_tools([add], tool_choice="none").invoke("a")
    assert (answer.content, answer.tool_calls) == (CALL, [])
    assert chat.engine.calls[0]["tools"] is None
    assert chat.engine.calls[0]["constraint"] is None
    with pytest.raises(ValueError, match=r"tool_choice is 'sub'.*one of add"):
        chat.bind_tools([add], tool_choice="sub")


def test_calls_and_results_are_given_back(chat, engine):
    call = {"name": "add", "args": {"a": 1}, "id": "7", "type": "tool_call"}
    use = {"type": "tool_use", "id": "7", "name": "add", "input": {"a": 1}}
    chat.invoke(
        [
            HumanMessage("a"),
            AIMessage([{"type": "text", "text": "b"}, use, {"type": "reasoning", "reasoning": "c"}], tool_calls=[call]),
            ToolMessage([{"type": "text", "text": "2"}], tool_call_id="7", name="add"),
            HumanMessage("d"),
        ]
    )
    assert engine.calls[0]["messages"][1:3] == [
        {
            "role": "assistant",
            "content": "b",
            "tool_calls": [{"id": "7", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}],
        },
        {"role": "tool", "content": "2", "tool_call_id": "7", "name": "add"},
    ]


def test_tools_count_as_tokens_of_the_prompt(chat):
    assert chat.get_num_tokens_from_messages([HumanMessage("a b")], tools=[add]) == 12


@pytest.mark.parametrize("method", ["json_schema", "json_mode", "function_calling"])
@pytest.mark.parametrize("schema", [Invoice, InvoiceDict, Invoice.model_json_schema()])
def test_an_answer_in_the_form_of_a_schema(schema, method):
    name = "Invoice" if schema is not InvoiceDict else "InvoiceDict"
    call = f'<tool_call>\n{{"name": "{name}", "arguments": {INVOICE}}}\n</tool_call>'
    chat = saying(call if method == "function_calling" else INVOICE).with_structured_output(schema, method=method)
    expected = {"title": "Pencils", "amount": 12.5}
    if schema is Invoice:
        expected = Invoice(**expected)
    assert chat.invoke("a") == expected
    *_, last = chat.stream("a")
    assert last == expected


def test_a_dict_is_streamed_as_it_grows():
    *first, last = saying(INVOICE).with_structured_output(InvoiceDict).stream("a")
    assert {"title": "Penc"} in first
    assert last == {"title": "Pencils", "amount": 12.5}


async def test_an_answer_in_the_form_of_a_schema_async():
    chat = saying(INVOICE).with_structured_output(Invoice)
    assert await chat.ainvoke("a") == Invoice(title="Pencils", amount=12.5)
    assert [answer async for answer in chat.astream("a")][-1] == Invoice(title="Pencils", amount=12.5)


def test_the_schema_is_asked_for_after_the_users_last_words_and_held_to():
    chat = saying(INVOICE)
    chat.with_structured_output(Invoice).invoke([SystemMessage("page 1"), HumanMessage("a"), AIMessage("b")])
    call = chat.engine.calls[0]
    assert [message["content"] for message in call["messages"][::2]] == ["page 1", "b"]
    asking, schema = call["messages"][1]["content"].rsplit("\n", 1)
    assert asking.startswith("a\n\n")
    assert json.loads(schema) == {
        "description": "An invoice.",
        "properties": {"title": {"type": "string"}, "amount": {"description": "in euros", "type": "number"}},
        "required": ["title", "amount"],
        "type": "object",
    }
    assert call["constraint"].grammar.endswith(json_rule(Invoice.model_json_schema()))


def test_json_mode_asks_for_nothing_and_holds_to_any_object():
    chat = saying(INVOICE)
    chat.with_structured_output(Invoice, method="json_mode").invoke("a")
    assert chat.engine.calls[0]["messages"] == [{"role": "user", "content": "a"}]
    assert chat.engine.calls[0]["constraint"] == Constraint.json_object()


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_a_cut_answer_is_an_error_that_says_so(method):
    chat = saying(INVOICE[:9], "length")
    for run in (
        chat.with_structured_output(Invoice, method=method).invoke,
        lambda text: [*chat.with_structured_output(Invoice, method=method).stream(text)],
    ):
        with pytest.raises(ModelError, match="cut before it was complete; raise max_tokens"):
            run("a")
    answer = chat.with_structured_output(Invoice, method=method, include_raw=True).invoke("a")
    assert answer["raw"].response_metadata["finish_reason"] == "length"
    assert answer["parsed"] is None
    assert isinstance(answer["parsing_error"], ModelError)


def test_what_came_is_there_beside_what_was_made_of_it():
    answer = saying(INVOICE).with_structured_output(Invoice, include_raw=True).invoke("a")
    assert (answer["raw"].content, answer["parsing_error"]) == (INVOICE, None)
    assert answer["parsed"] == Invoice(title="Pencils", amount=12.5)
    wrong = saying("{}").with_structured_output(Invoice, method="json_mode", include_raw=True).invoke("a")
    assert wrong["parsed"] is None
    assert isinstance(wrong["parsing_error"], OutputParserException)


def test_recursion_survives_on_its_way_into_the_grammar():
    class Part(BaseModel):
        parts: list["Part"] = []

    chat = saying("{}")
    chat.with_structured_output(Part).invoke("a")
    assert "$ref" in chat.engine.calls[0]["constraint"].grammar


def test_tools_and_a_form_for_the_answer_go_together():
    chat = saying(INVOICE)
    form = {"type": "json_schema", "json_schema": {"name": "invoice", "schema": Invoice.model_json_schema()}}
    answer = chat.bind_tools([add], response_format=form).invoke("a")
    assert json.loads(answer.content)["amount"] == 12.5
    assert "(answer | " in chat.engine.calls[0]["constraint"].grammar


def test_a_constraint_of_ones_own(chat, engine):
    constraint = Constraint.regex("yes|no")
    chat.invoke("a", constraint=constraint)
    assert engine.calls[0]["constraint"] is constraint
    with pytest.raises(ValueError, match="one grammar"):
        chat.bind_tools([add]).invoke("a", constraint=constraint)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "schema"),
    ],
)
def test_forms_that_do_not_exist(chat, arguments, says):
    with pytest.raises(ValueError, match=says):
        chat.invoke("a", **arguments)
    with pytest.raises(ValueError, match="got 'xml'"):
        chat.with_structured_output(Invoice, method="xml")


def test_a_call_can_be_cancelled():
    chat = ChatLongleaf(model="smollm2-135m", engine=EchoEngine()).bind_tools([add])
    answer = chat.invoke("a b", should_stop=lambda: True)
    assert (answer.response_metadata["finish_reason"], answer.tool_calls) == ("cancelled", [])
