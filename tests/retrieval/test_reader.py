"""Any chat model as a reader: what it is asked, what is assumed of it, and what becomes of its errors."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import Field

from longleaf.errors import ModelError, ReaderError
from longleaf.model import ChatLongleaf
from longleaf.retrieval.reader import DEFAULT_CONTEXT_TOKENS, ChatModelReader, as_reader

QUESTION = [HumanMessage("Is it so? Reply yes or no.")]


class PlainChat(BaseChatModel):
    """A chat model as a provider's package has it: it takes `max_tokens`, and nothing else of ours."""

    model: str = "plain-1"
    reply: str = "Yes."
    max_tokens: int | None = None
    error: Any = None
    calls: list[dict[str, Any]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "plain"

    def _called(self, kwargs: dict[str, Any]) -> None:
        self.calls.append(kwargs | {"limit": self.max_tokens})
        if self.error is not None:
            raise self.error

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        self._called(kwargs)
        usage = {"input_tokens": 9, "output_tokens": 2, "total_tokens": 11, "input_token_details": {"cache_read": 4}}
        message = AIMessage(self.reply, usage_metadata=usage)  # type: ignore[arg-type]
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        self._called(kwargs)
        for word in self.reply.split(" "):
            yield ChatGenerationChunk(message=AIMessageChunk(content=word + " "))


class CountingChat(PlainChat):
    def get_num_tokens(self, text: str) -> int:
        return len(text.split())


class OnlineCountingChat(PlainChat):
    def get_num_tokens(self, text: str) -> int:
        raise ConnectionError("no network")


class StatusError(Exception):
    def __init__(self, status_code: int, message: str) -> None:
        super().__init__(message)
        self.status_code = status_code


def test_a_longleaf_model_is_a_reader_as_it_is() -> None:
    chat = ChatLongleaf(model="smollm2-135m")
    assert as_reader(chat) is chat
    with pytest.raises(ValueError, match="ChatLongleaf"):
        as_reader(chat, context_tokens=1_000)


def test_tokens_are_counted_by_a_model_that_can_and_estimated_for_one_that_would_ask_the_network() -> None:
    assert as_reader(CountingChat()).get_num_tokens("one two three") == 3
    for chat in (PlainChat(), OnlineCountingChat()):  # sockets are off here: LangChain's default would raise
        reader = as_reader(chat)
        assert reader.get_num_tokens("abcdef") == 3
        assert reader.get_num_tokens("äöü") == 3  # six bytes
        assert reader.get_num_tokens("") == 0
        assert isinstance(reader, ChatModelReader)
        assert any("estimated" in note for note in reader.notes)
        assert reader.tokenizer_name != reader.model_name


def test_a_tokenizer_given_to_the_model_counts() -> None:
    reader = as_reader(PlainChat(custom_get_token_ids=lambda text: [0] * len(text)))
    assert reader.get_num_tokens("four") == 4


@pytest.mark.parametrize(
    ("profile", "given", "expected", "is_noted"),
    [
        (None, None, DEFAULT_CONTEXT_TOKENS, True),
        ({"max_input_tokens": 200_000}, None, 200_000, False),
        ({"max_input_tokens": 200_000}, 50_000, 50_000, False),
        (None, 50_000, 50_000, False),
    ],
)
def test_the_context_is_the_one_given_then_the_profiles_then_a_safe_one_with_a_note(
    profile: Any, given: int | None, expected: int, is_noted: bool
) -> None:
    reader = as_reader(CountingChat(profile=profile), given)
    assert isinstance(reader, ChatModelReader)
    assert reader.context_tokens == expected
    assert bool(reader.notes) == is_noted


def test_a_call_passes_the_limit_and_no_option_that_the_model_does_not_know() -> None:
    chat = PlainChat()
    reply = as_reader(chat).invoke(QUESTION, max_tokens=7, on_read=lambda *_: None, should_stop=None)
    assert reply.text == "Yes."
    assert reply.usage_metadata is not None
    assert reply.usage_metadata["input_token_details"]["cache_read"] == 4
    assert chat.calls == [{"limit": 7}]
    assert chat.max_tokens is None  # the user's own model stays as it was


def test_a_limit_that_the_user_set_stays() -> None:
    chat = PlainChat(max_tokens=500)
    as_reader(chat).invoke(QUESTION, max_tokens=7, on_read=None, should_stop=None)
    assert chat.calls == [{"limit": 500}]


def test_a_model_that_reasons_is_not_cut_off_in_its_thoughts() -> None:
    chat = PlainChat(profile={"reasoning_output": True})
    as_reader(chat).invoke(QUESTION, max_tokens=7, on_read=None, should_stop=None)
    assert chat.calls == [{"limit": None}]


@pytest.mark.parametrize(
    ("reply", "yes"),
    [("Yes.", 1.0), ("no", 0.0), ("**NO**, it does not", 0.0), ("Well, yes", 1.0), ("Perhaps", 0.5), ("", 0.5)],
)
def test_a_choice_is_read_from_the_reply(reply: str, yes: float) -> None:
    assert as_reader(PlainChat(reply=reply)).choose(QUESTION, ("yes", "no")) == {"yes": yes, "no": 1 - yes}


def test_a_stream_adds_up_to_the_reply_and_stops_between_pieces() -> None:
    reader = as_reader(PlainChat(reply="one two three four"))
    pieces = list(reader.stream(QUESTION, max_tokens=7, on_read=None, should_stop=None))
    assert "".join(str(piece.text) for piece in pieces).split() == ["one", "two", "three", "four"]
    seen: list[str] = []
    for piece in reader.stream(QUESTION, max_tokens=7, on_read=None, should_stop=lambda: len(seen) == 2):
        seen.append(str(piece.text))
    assert "".join(seen).split() == ["one", "two"]
    assert piece.response_metadata["finish_reason"] == "cancelled"


def test_a_reply_asked_for_at_once_can_be_stopped_too() -> None:
    polls: list[int] = []

    def stop_at_the_third() -> bool:
        polls.append(1)
        return len(polls) == 3

    reply = as_reader(PlainChat(reply="one two three four")).invoke(
        QUESTION, max_tokens=7, on_read=None, should_stop=stop_at_the_third
    )
    assert str(reply.text).split() == ["one", "two", "three"]
    assert reply.response_metadata["finish_reason"] == "cancelled"


@pytest.mark.parametrize(
    ("error", "way_out"),
    [
        (StatusError(401, "invalid x-api-key"), "check the key"),
        (StatusError(429, "slow down"), "limits how often"),
        (StatusError(400, "prompt is too long: 250000 tokens"), "context_tokens"),
        (StatusError(503, "overloaded"), "ask again later"),
        (ConnectionError("refused"), "check the network"),
        (RuntimeError("odd"), "documentation"),
    ],
)
@pytest.mark.parametrize("call", ["invoke", "stream", "choose"])
def test_an_error_of_the_provider_names_the_model_and_the_way_out(call: str, error: Exception, way_out: str) -> None:
    reader = as_reader(PlainChat(error=error))
    calls: dict[str, Callable[[], Any]] = {
        "invoke": lambda: reader.invoke(QUESTION, max_tokens=5, on_read=None, should_stop=None),
        "stream": lambda: list(reader.stream(QUESTION, max_tokens=5, on_read=None, should_stop=None)),
        "choose": lambda: reader.choose(QUESTION, ("yes", "no")),
    }
    with pytest.raises(ReaderError, match=way_out) as raised:
        calls[call]()
    assert "plain-1" in str(raised.value)
    assert str(error) in str(raised.value)
    assert raised.value.__cause__ is error
    assert isinstance(raised.value, ModelError)
