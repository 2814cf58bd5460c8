"""ChatLongleaf on a made-up engine: what LangChain sees, without weights."""

from collections.abc import Iterator

import pytest
from langchain_core.messages import AIMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_tests.unit_tests import ChatModelUnitTests

from longleaf.errors import ModelError, ModelNotInstalledError, UnknownModelError
from longleaf.model import READING_LABEL, ChatLongleaf, Piece, SamplingOptions, Usage


class EchoEngine:
    """Says the last message back, word by word."""

    name = "echo"
    context_tokens = 64

    def __init__(self) -> None:
        self.calls: list[dict] = []

    def token_ids(self, text: str) -> list[int]:
        return [len(word) for word in text.split()]

    def count_prompt_tokens(self, messages) -> int:
        return sum(len(message["content"].split()) for message in messages)

    def stream(self, messages, **settings) -> Iterator[Piece]:
        self.calls.append({"messages": messages, **settings})
        words = messages[-1]["content"].split()
        for word in words:
            if settings["should_stop"] and settings["should_stop"]():
                yield Piece("", "cancelled", Usage(1, 0, 0))
                return
            yield Piece("", reasoning=word[1:]) if word.startswith("?") else Piece(word)
        yield Piece("", "stop", Usage(len(words), len(words), 2, seconds_saved=1.5))

    def choose(self, messages, options):
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
        (ToolMessage("x", tool_call_id="1"), "does not call tools"),
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
