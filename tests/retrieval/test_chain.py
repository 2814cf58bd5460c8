"""`LongDocumentChain`: what it takes and gives, streams and threads, what callbacks see, and other people's parts."""

import asyncio
import json
import random
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.documents import Document as LangChainDocument
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_core.tracers.base import BaseTracer
from langchain_core.tracers.schemas import Run
from langchain_core.vectorstores import InMemoryVectorStore
from pydantic import Field

from longleaf.errors import DocumentNotFoundError, QuestionError, ReaderError
from longleaf.ingestion import Document, Library
from longleaf.model import ChatLongleaf, is_installed
from longleaf.retrieval.chain import LongDocumentChain
from longleaf.retrieval.retriever import LongleafRetriever

REPORT = """\
Annual Report of the Harbour Board

The board owns four cranes. The largest crane lifts 120 tonnes and was built in Odense in 1998.
Ice closed the harbour for nine days in February.
\f\
The harbour master is Ingrid Dahl. She has held the post since 2011.
"""
YARD = "The shipyard at Gdansk has one crane, which was painted green in 2019."
QUESTION = "Where was the largest crane built?"


class Replies(BaseChatModel):
    """Somebody else's chat model: replies by a word of the question, and says yes when asked yes or no."""

    replies: dict[str, str] = Field(default_factory=lambda: {"crane": "Odense in 1998", "master": "Ingrid Dahl"})
    error: Any = None
    seen: list[str] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "replies"

    def _reply(self, messages: list[BaseMessage]) -> str:
        if self.error is not None:
            raise self.error
        self.seen.append(str(messages[0].content))
        question = str(messages[-1].content)
        if "yes or no" in question:
            return "yes"
        return next((reply for word, reply in self.replies.items() if word in question), "not in the text")

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(self._reply(messages)))])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for word in self._reply(messages).split(" "):
            yield ChatGenerationChunk(message=AIMessageChunk(content=word + " "))


class Recorder(BaseTracer):
    """Keeps the tree of runs, as LangSmith and its like would be sent it."""

    def __init__(self) -> None:
        super().__init__()
        self.roots: list[Run] = []

    def _persist_run(self, run: Run) -> None:
        self.roots.append(run)

    def tree(self) -> list[str]:
        """Each run as "parent > name", in order of their beginning."""
        lines: list[str] = []

        def walk(run: Run) -> None:
            for child in run.child_runs:
                lines.append(f"{run.name} > {child.name}")
                walk(child)

        for root in self.roots:
            walk(root)
        return lines

    def runs(self) -> list[Run]:
        found, left = [], [*self.roots]
        while left:
            run = left.pop()
            found.append(run)
            left.extend(run.child_runs)
        return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "harbour.txt"
    path.write_text(REPORT)
    return path


@pytest.fixture
def report(library: Library, file: Path) -> Document:
    return library.add(file).document


@pytest.fixture
def chain(library: Library) -> LongDocumentChain:
    return LongDocumentChain(Replies(), library=library)


# What it takes and gives


def test_a_file_is_added_and_answered_from_with_its_page(chain: LongDocumentChain, file: Path) -> None:
    output = chain.invoke({"question": QUESTION, "documents": [file]})
    assert output["answer"] == "Odense in 1998"
    assert output["found"] is True
    assert [(c["document"], c["page"], c["verified"]) for c in output["citations"]] == [("harbour.txt", 1, True)]
    assert output["receipt"]["pages_total"] == 2
    assert json.loads(json.dumps(output, allow_nan=False)) == output


def test_documents_may_be_named_in_every_way(
    chain: LongDocumentChain, library: Library, report: Document, file: Path, tmp_path: Path
) -> None:
    other = tmp_path / "yard.txt"
    other.write_text(YARD)
    library.add(other)
    library.collections.put("harbours", [report])
    ways: list[dict[str, Any]] = [
        {"documents": way}
        for way in (str(file), [str(file)], ["harbour.txt"], (report.sha256,), [report.id], [report], report)
    ]
    for way in [*ways, {"collection": "harbours"}]:
        output = chain.invoke({"question": QUESTION, **way})
        assert (output["answer"], output["receipt"]["pages_total"]) == ("Odense in 1998", 2), way
    assert chain.invoke({"question": QUESTION})["receipt"]["pages_total"] == 3  # all documents


def test_pages_are_kept_to(chain: LongDocumentChain, report: Document) -> None:
    output = chain.invoke({"question": QUESTION, "documents": [report], "pages": [2, 2]})
    assert output["found"] is False
    assert output["receipt"]["pages_not_asked"] == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"documents": ["a.pdf"]}, "question"),
        ({"question": "  "}, "empty"),
        ({"question": QUESTION, "document": "a.pdf"}, "document: Extra"),
        ({"question": QUESTION, "documents": ["a.pdf"], "collection": "c"}, "documents and collection"),
        ({"question": QUESTION, "pages": [3]}, "pages"),
        (QUESTION, "takes a dict"),
    ],
)
def test_an_input_of_another_form_is_refused_in_words(
    chain: LongDocumentChain, report: Document, given: Any, message: str
) -> None:
    with pytest.raises(QuestionError, match=message):
        chain.invoke(given)


def test_what_is_not_in_the_library_is_an_error(chain: LongDocumentChain) -> None:
    with pytest.raises(DocumentNotFoundError):
        chain.invoke({"question": QUESTION, "documents": ["nowhere.pdf"]})
    with pytest.raises(DocumentNotFoundError):
        chain.invoke({"question": QUESTION, "collection": "nowhere"})


def test_without_a_reader_the_best_sentence_is_the_answer(library: Library, report: Document) -> None:
    output = LongDocumentChain(library=library).invoke({"question": "How many days did ice close the harbour?"})
    assert output["answer"] == "Ice closed the harbour for nine days in February."


def test_an_unknown_context_is_stated_and_one_that_is_given_counts(library: Library, report: Document) -> None:
    assumed = LongDocumentChain(Replies(), library=library).invoke({"question": QUESTION})
    assert "taken as 8,192 tokens" in assumed["route"]["reason"]
    given = LongDocumentChain(Replies(), library=library, context_tokens=300).invoke({"question": QUESTION})
    assert given["route"]["name"] == "retrieval"
    assert "a context of 300" in given["route"]["reason"]


def test_schemas_describe_what_goes_in_and_comes_out(chain: LongDocumentChain, report: Document) -> None:
    assert set(chain.get_input_jsonschema()["properties"]) == {"question", "documents", "collection", "pages"}
    output = chain.invoke({"question": QUESTION})
    answer = chain.get_output_schema().model_validate(output)
    assert answer.root.citations[0].page == 1  # type: ignore[attr-defined]
    assert "citations" in chain.get_output_jsonschema()["$defs"]["Answer"]["properties"]


def test_it_is_a_step_of_larger_programs(chain: LongDocumentChain, report: Document) -> None:
    program = (
        RunnableLambda(lambda text: {"question": text})
        | RunnablePassthrough.assign(result=chain)
        | (lambda x: f"{x['question']} {x['result']['answer']}, p. {x['result']['citations'][0]['page']}")
    )
    assert program.invoke(QUESTION) == f"{QUESTION} Odense in 1998, p. 1"
    assert chain.pipe(lambda x: x["answer"]).invoke({"question": QUESTION}) == "Odense in 1998"
    assert chain.with_config(tags=["x"]).invoke({"question": QUESTION})["found"]


def test_an_error_of_the_reader_names_it(library: Library, report: Document) -> None:
    chain = LongDocumentChain(Replies(error=ConnectionError("refused")), library=library)
    with pytest.raises(ReaderError, match=r"Replies.*refused.*network"):
        chain.invoke({"question": QUESTION})


# Streams, threads, coroutines


def test_pieces_of_a_stream_add_up_to_the_draft_and_the_answer(chain: LongDocumentChain, report: Document) -> None:
    pieces = list(chain.stream({"question": QUESTION}))
    assert [set(piece) for piece in pieces[:-1]] == [{"draft"}] * (len(pieces) - 1)
    assert len(pieces) > 2
    whole = pieces[0]
    for piece in pieces[1:]:
        whole = whole + piece  # type: ignore[operator]
    output = chain.invoke({"question": QUESTION})
    assert whole.pop("draft").strip() == whole["reply"] == output["reply"]
    assert {k: v for k, v in whole.items() if k != "receipt"} == {k: v for k, v in output.items() if k != "receipt"}


def test_a_stream_goes_through_a_program(chain: LongDocumentChain, report: Document) -> None:
    program = RunnableLambda(lambda text: {"question": text}) | chain
    pieces = list(program.stream(QUESTION))
    assert len(pieces) > 2
    assert pieces[-1]["answer"] == "Odense in 1998"


def test_a_batch_answers_each_question_in_order_though_all_add_the_same_file(
    chain: LongDocumentChain, library: Library, file: Path
) -> None:
    questions = [QUESTION, "Who is the harbour master?"] * 4
    inputs = [{"question": question, "documents": [file]} for question in questions]
    outputs = chain.batch(inputs, {"max_concurrency": 4})
    assert [output["answer"] for output in outputs] == ["Odense in 1998", "Ingrid Dahl"] * 4
    assert [output["citations"][0]["page"] for output in outputs] == [1, 2] * 4
    assert len(library.documents()) == 1


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Threads take turns after every few instructions, so that what they should not share breaks at once."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("eager_threads")
def test_many_questions_at_once_to_long_pages_are_answered_as_one_by_one(library: Library, tmp_path: Path) -> None:
    vocabulary = [
        "operational",
        "responsibilities",
        "authorities",
        "fishermen",
        "navigation",
        "officials",
        "dredging",
        "conservation",
    ]
    pick = random.Random(0)
    long = tmp_path / "long.txt"
    long.write_text(
        "\f".join(
            f"The officer of section {n} is Number {n}. "
            + " ".join(f"The {' '.join(pick.choices(vocabulary, k=9))} are old." for _ in range(12))
            for n in range(12)
        )
    )
    chain = LongDocumentChain(library=library)
    document = library.add(long).document
    inputs = [{"question": f"Who is the officer of section {n}?", "documents": [document]} for n in range(12)]
    one_by_one = [chain.invoke(given) for given in inputs]
    assert all(output["found"] for output in one_by_one)
    together = chain.batch(inputs, {"max_concurrency": 6})
    for output, expected in zip(together, one_by_one, strict=True):
        del output["receipt"], expected["receipt"]  # it has the seconds
        assert output == expected


def test_one_bad_question_of_a_batch_leaves_the_others(chain: LongDocumentChain, report: Document) -> None:
    good, bad = chain.batch([{"question": QUESTION}, {"question": ""}], return_exceptions=True)
    assert good["found"]
    assert isinstance(bad, QuestionError)


def test_coroutines_answer_as_calls_do(chain: LongDocumentChain, report: Document) -> None:
    async def run() -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
        one = await chain.ainvoke({"question": QUESTION})
        many = await chain.abatch([{"question": QUESTION}, {"question": "Who is the harbour master?"}])
        return one, many, [piece async for piece in chain.astream({"question": QUESTION})]

    one, many, pieces = asyncio.run(run())
    assert one["answer"] == "Odense in 1998"
    assert [output["answer"] for output in many] == ["Odense in 1998", "Ingrid Dahl"]
    assert len(pieces) > 2
    assert pieces[-1]["answer"] == "Odense in 1998"


def test_a_call_can_be_stopped(chain: LongDocumentChain, report: Document) -> None:
    output = chain.bind(should_stop=lambda: True).invoke({"question": QUESTION})
    assert output["stopped"] is True
    assert output["citations"] == []


def test_a_call_with_an_option_that_it_does_not_know_is_refused(chain: LongDocumentChain, report: Document) -> None:
    with pytest.raises(TypeError, match="should_halt"):
        chain.invoke({"question": QUESTION}, should_halt=lambda: True)


# What callbacks see

STEPS = ["index", "route", "search", "pick", "read", "check"]


@pytest.mark.parametrize("call", ["invoke", "stream", "ainvoke", "astream"])
def test_each_step_is_a_run_and_the_models_calls_are_inside_the_reading(
    chain: LongDocumentChain, report: Document, call: str
) -> None:
    recorder = Recorder()
    config: Any = {"callbacks": [recorder], "tags": ["ours"], "metadata": {"user": "u1"}, "run_name": "ask"}
    given = {"question": QUESTION}

    async def stream() -> list[Any]:
        return [piece async for piece in chain.astream(given, config)]

    calls = {
        "invoke": lambda: chain.invoke(given, config),
        "stream": lambda: list(chain.stream(given, config)),
        "ainvoke": lambda: asyncio.run(chain.ainvoke(given, config)),
        "astream": lambda: asyncio.run(stream()),
    }
    calls[call]()
    assert recorder.tree() == [
        *(f"ask > {step}" for step in STEPS[:5]),
        "read > Replies",  # the answer
        "read > Replies",  # whether the text states it
        "ask > check",
    ]
    for run in recorder.runs():
        assert run.tags is not None
        assert "ours" in run.tags
        assert run.extra["metadata"]["user"] == "u1"
        assert run.error is None
    by_name = {run.name: run for run in recorder.runs()}
    assert by_name["route"].outputs is not None
    assert by_name["route"].outputs["route"] == "whole-document"
    assert by_name["check"].outputs == {
        "quotes": ["The largest crane lifts 120 tonnes and was built in Odense in 1998."]
    }
    assert by_name["ask"].outputs is not None
    assert by_name["ask"].outputs["answer"] == "Odense in 1998"


def test_a_retrievers_run_is_inside_the_search_and_an_error_marks_its_step(library: Library, report: Document) -> None:
    recorder = Recorder()
    chain = LongDocumentChain(Replies(error=ConnectionError("refused")), library=library)
    retriever = LongleafRetriever(library=library)
    with pytest.raises(ReaderError):
        chain.invoke({"question": QUESTION, "retriever": retriever}, {"callbacks": [recorder]})
    assert "search > LongleafRetriever" in recorder.tree()
    by_name = {run.name: run for run in recorder.runs()}
    assert by_name["search"].error is None
    assert "refused" in str(by_name["read"].error)
    assert "check" not in by_name


# Other people's retrievers


class Given(BaseRetriever):
    """Returns the Documents that it was given."""

    given: list[LangChainDocument]

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[LangChainDocument]:
        return self.given


def test_texts_of_a_foreign_store_are_cited_by_what_they_say_of_themselves(chain: LongDocumentChain) -> None:
    store = InMemoryVectorStore(DeterministicFakeEmbedding(size=8))
    store.add_documents(
        [
            LangChainDocument("Odense in 1998 saw the largest crane built.", metadata={"source": "a.pdf", "page": 6}),
            LangChainDocument("Cranes are birds.", metadata={"title": "Birds"}),
        ]
    )
    output = chain.invoke({"question": QUESTION, "retriever": store.as_retriever()})
    assert output["found"]
    (citation,) = output["citations"]
    assert (citation["document"], citation["page"], citation["page_label"]) == ("a.pdf", 6, "6")
    assert (citation["quote"], citation["boxes"]) == ("Odense in 1998 saw the largest crane built.", [])
    assert citation["verified"] is True
    assert output["receipt"]["search"] == "VectorStoreRetriever"
    assert output["receipt"]["passages"] == 2
    assert "VectorStoreRetriever" in output["route"]["reason"]


def test_what_a_foreign_text_does_not_say_is_not_found(library: Library) -> None:
    chain = LongDocumentChain(Replies(replies={"crane": "Gdansk in 1871"}), library=library)
    retriever = Given(given=[LangChainDocument("The largest crane was built in Odense in 1998.")])
    output = chain.invoke({"question": QUESTION, "retriever": retriever})
    assert output["found"] is False
    assert output["nearest"][0]["document"] == "document 1"
    assert (output["nearest"][0]["page"], output["nearest"][0]["page_label"]) == (0, "")


@pytest.mark.parametrize("cut", [0, 29])
def test_our_passages_come_back_as_evidence_on_their_stored_page(
    chain: LongDocumentChain, library: Library, report: Document, cut: int
) -> None:
    passages = LongleafRetriever(library=library).invoke(QUESTION)
    for passage in passages:  # as a text splitter does: a piece of the text under the metadata of the whole
        passage.page_content = passage.page_content[cut:]
        passage.metadata["page"] = float(passage.metadata["page"])  # as some stores give it back
    output = chain.invoke({"question": QUESTION, "retriever": Given(given=passages)})
    (citation,) = output["citations"]
    assert (citation["document"], citation["sha256"], citation["page"]) == (report.name, report.sha256, 1)
    page = library.page(report, 1).text
    assert page[citation["start"] : citation["end"]] == citation["quote"]
    assert "Odense in 1998" in citation["quote"]


def test_a_passage_that_its_page_does_not_hold_is_not_taken_for_the_librarys(
    chain: LongDocumentChain, library: Library, report: Document
) -> None:
    metadata = {"sha256": report.sha256, "page": 1, "start": 0, "end": 40, "document": "harbour.txt"}
    altered = LangChainDocument("The largest crane was built in Odense in 1998, they say.", metadata=metadata)
    output = chain.invoke({"question": QUESTION, "retriever": Given(given=[altered])})
    (citation,) = output["citations"]
    assert citation["sha256"] == ""
    assert citation["quote"] == altered.page_content


def test_a_retriever_that_finds_nothing_is_not_found(chain: LongDocumentChain) -> None:
    output = chain.invoke({"question": QUESTION, "retriever": Given(given=[])})
    assert output["found"] is False
    assert output["nearest"] == []


def test_best_passages_stand_first_before_the_reader(library: Library) -> None:
    reader = Replies()
    given = [LangChainDocument(f"The crane number {n} was built in Odense.", id=f"d{n}") for n in range(3)]
    LongDocumentChain(reader, library=library).invoke({"question": QUESTION, "retriever": Given(given=given)})
    assert "[d0]" in reader.seen[0]
    assert reader.seen[0].index("[d0]") < reader.seen[0].index("[d1]") < reader.seen[0].index("[d2]")


# A real reader


@pytest.fixture(scope="module")
def smollm2() -> Iterator[ChatLongleaf]:
    if not is_installed("smollm2-135m"):
        pytest.skip("no weights here: run `longleaf model pull smollm2-135m`")
    chat = ChatLongleaf(model="smollm2-135m")
    yield chat
    chat.close()


def test_a_real_reader_reads_answers_and_reads_the_document_once(
    library: Library, report: Document, smollm2: ChatLongleaf
) -> None:
    chain = LongDocumentChain(smollm2, library=library)
    first = chain.invoke({"question": "Who is the harbour master?"})
    assert first["model"] == "smollm2-135m"
    assert first["reply"]
    assert first["receipt"]["tokens_prompt"] > 100
    again = chain.invoke({"question": QUESTION})
    assert again["receipt"]["tokens_reused"] > 50  # the document stands before the question
    for output in (first, again):
        assert all(citation["verified"] for citation in output["citations"])


def test_leaving_a_stream_stops_a_real_reader_and_frees_it(
    library: Library, report: Document, smollm2: ChatLongleaf
) -> None:
    chain = LongDocumentChain(smollm2, library=library)

    async def leave() -> dict[str, Any]:
        pieces = chain.astream({"question": QUESTION})
        first = await anext(pieces)
        await pieces.aclose()  # type: ignore[attr-defined]
        return first

    assert "draft" in asyncio.run(leave())
    stream = chain.stream({"question": QUESTION})
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    answered = threading.Thread(target=lambda: smollm2.invoke("Hi", max_tokens=2), daemon=True)
    answered.start()
    answered.join(60)
    assert not answered.is_alive()


def test_a_real_reader_is_stopped_while_it_reads(library: Library, tmp_path: Path, smollm2: ChatLongleaf) -> None:
    long = tmp_path / "long.txt"
    long.write_text("\f".join(f"Page {n}. " + "The crane at the quay was painted green. " * 60 for n in range(2)))
    chain = LongDocumentChain(smollm2, library=library)
    reads: list[int] = []
    output = chain.invoke(
        {"question": "What colour is the crane?", "documents": [long]},
        progress=lambda stage, done, _total: reads.append(done) if "reads" in stage else None,
        should_stop=lambda: bool(reads),
    )
    assert output["stopped"] is True
    assert output["reply"] == ""
    assert output["route"]["name"] == "whole-document"
