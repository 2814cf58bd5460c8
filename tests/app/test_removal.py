"""A document that is removed leaves nothing: every file of the library is looked through for its words and tokens."""

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reportlab.pdfgen.canvas import Canvas
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from longleaf.app.chats import Chats
from longleaf.app.jobs import JobStore, ReaderSpec, Source, SummarizeSpec
from longleaf.app.jobs.database import SqliteJobs
from longleaf.app.jobs.store import Outcome
from longleaf.app.removal import Gone, remove_document
from longleaf.errors import DocumentNotFoundError
from longleaf.ingestion import Document, Library
from longleaf.model import ChatLongleaf, DecoderEngine, ReadingStore, load_model
from longleaf.model import readings as readings_module
from longleaf.model.chat_template import ChatTemplate
from longleaf.retrieval import Answerer
from longleaf.retrieval import store as store_module
from longleaf.retrieval.summary import Summarizer, SummaryOptions

from .conftest import Run

TEMPLATE = "{% for message in messages %}<|user|>{{ message.content }}<|end|>{% endfor %}<|user|>"
WORDS = {
    "title": "Obsidrium",
    "author": "Vellamund",
    "heading": "Krantiplex",
    "first": "Zumbelwark",
    "second": "Hjortafly",
    "table": "Quorvantis",
    "footer": "Ybbelstein",
}
"""Words that stand in the document alone; none begins like another, as the full text keeps beginnings once."""

PLACES = {"longleaf.db", "longleaf.db-wal", "files", "readings", "vectors", "locks"}


class HashEmbedder:
    """A vector for each text, which no other text has."""

    name = "hash"
    n_dimensions = 48

    def encode(self, texts: Sequence[str], progress: object = None) -> np.ndarray:
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") for text in texts]
        drawn = np.array([np.random.default_rng(seed).normal(size=self.n_dimensions) for seed in seeds])
        return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)

    def encode_question(self, text: str) -> np.ndarray:
        return self.encode([text])[0]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama of one layer with random weights; 262 tokens, of which 256 are bytes."""
    folder = tmp_path_factory.mktemp("tiny")
    vocab, d, d_head, d_ff = 262, 16, 8, 24
    drawn = torch.Generator().manual_seed(1)

    def weight(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=drawn) * shape[-1] ** -0.5

    layer = "model.layers.0."
    tensors = {f"{layer}self_attn.{name}_proj.weight": weight(2 * d_head, d) for name in "qkvo"}
    tensors |= {f"{layer}mlp.{name}_proj.weight": weight(d_ff, d) for name in ("gate", "up")}
    tensors |= {f"{layer}mlp.down_proj.weight": weight(d, d_ff)}
    tensors |= {f"{layer}{name}_layernorm.weight": torch.ones(d) for name in ("input", "post_attention")}
    tensors |= {"model.norm.weight": torch.ones(d)}
    tensors |= {"model.embed_tokens.weight": weight(vocab, d), "lm_head.weight": weight(vocab, d)}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "model_type": "llama", "vocab_size": vocab, "hidden_size": d, "intermediate_size": d_ff,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-6, "rope_theta": 1e4, "tie_word_embeddings": False, "bos_token_id": None,
        "eos_token_id": 0, "hidden_act": "silu",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@dataclass(frozen=True)
class Desk:
    """A library with a reader that keeps readings, whatever their length."""

    library: Library
    answerer: Answerer
    chats: Chats
    readings: ReadingStore
    engine: DecoderEngine

    @property
    def without_reader(self) -> Answerer:
        return Answerer(self.library, None, self.answerer.embedder, store=self.answerer.store, min_confidence=0.0)

    def remove(self, document: Document) -> Gone:
        return remove_document(document, self.library, self.answerer.store, self.chats, self.readings)

    def of(self, document: Document) -> int:
        return sum(document.sha256 in reading.sources for reading in self.readings.list())


OpenDesk = Callable[..., Desk]


@pytest.fixture
def open_desk(library: Library, weights: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenDesk]:
    monkeypatch.setattr("longleaf.model.reading_session._MIN_DISK_TOKENS", 32)
    monkeypatch.setattr(store_module, "EXACT_FROM_SQLITE", 0)  # so that there is an index beside the library
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    opened: list[Desk] = []

    def open_desk(context_tokens: int) -> Desk:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=258, initial_alphabet=alphabet, special_tokens=["<|end|>", "<|user|>"], show_progress=False
        )
        tokenizer.train_from_iterator([], trainer)
        readings = ReadingStore(library.home / "readings", min_tokens=8, segment_tokens=128)
        engine = DecoderEngine(
            load_model(weights, dtype=torch.float32), ChatTemplate(TEMPLATE, tokenizer),
            name="tiny", context_tokens=context_tokens, store=readings,
        )  # fmt: skip
        answerer = Answerer(library, ChatLongleaf(model="smollm2-135m", engine=engine), HashEmbedder())
        opened.append(Desk(library, answerer, Chats(library), readings, engine))
        return opened[-1]

    yield open_desk
    for desk in opened:
        desk.answerer.close()
        desk.engine.close()
    torch.set_num_threads(n_threads)


def secret_pdf(folder: Path) -> Path:
    path = folder / "secret.pdf"
    canvas = Canvas(str(path), pagesize=(400, 500))
    canvas.setTitle(f"The {WORDS['title']} accounts")
    canvas.setAuthor(WORDS["author"])
    sentences = {
        1: f"The {WORDS['first']} paid 4,711 crowns for the crane of the northern quay.",
        2: f"The {WORDS['second']} was sold in 1998 to the harbour board for its cranes.",
    }
    for number, sentence in sentences.items():
        canvas.bookmarkPage(f"p{number}")
        canvas.addOutlineEntry(f"{WORDS['heading']} {number}", f"p{number}")
        text = canvas.beginText(40, 460)
        text.setFont("Helvetica", 10)
        for line in (f"{WORDS['heading']} {number}", sentence, f"{WORDS['table']} fees  8,412  7,990", *LINES[:6]):
            text.textLine(line)
        canvas.drawText(text)
        canvas.drawString(40, 20, WORDS["footer"])
        canvas.showPage()
    canvas.save()
    return path


LINES = [f"Line {n} tells of ferries, ropes and the weather of the year {1900 + n}." for n in range(40)]


@pytest.fixture
def other(library: Library, tmp_path: Path) -> Document:
    path = tmp_path / "ferries.txt"
    path.write_text("\n".join(LINES[:12]) + "\n\f" + "\n".join(LINES[12:20]))
    return library.add(path).document


def vectors_of(library: Library, document: Document) -> dict[str, bytes]:
    rows = library.connection().execute(
        "SELECT vector FROM embeddings JOIN passages ON passages.id = passage_id WHERE document_id = ?", (document.id,)
    )
    return {f"vector {n}": bytes(row["vector"]) for n, row in enumerate(rows.fetchall())}


def traces(desk: Desk, document: Document) -> dict[str, bytes]:
    """What may not be left: words, names, and the tokens and vectors that were made of them."""
    kept = {f"word {word}": word.lower().encode() for word in WORDS.values()}
    kept |= {f"half a word {word}": word[2:].lower().encode() for word in WORDS.values()}
    read = [word for name, word in WORDS.items() if name not in ("title", "author")]
    kept |= {f"tokens of {word}": np.array(desk.engine.token_ids(word), np.uint16).tobytes() for word in read}
    return kept | {"name": b"secret.pdf", "sha256": document.sha256.encode()} | vectors_of(desk.library, document)


def found(home: Path, traces: dict[str, bytes]) -> dict[str, set[str]]:
    """In which files of the library each trace stands, by content or by the file's name."""
    where: dict[str, set[str]] = {name: set() for name in traces}
    for path in home.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        both = (content, content.lower(), path.name.encode())
        for name, trace in traces.items():
            if any(trace in each for each in both):
                where[name].add(path.relative_to(home).parts[0])
    return where


def test_a_removed_document_leaves_nothing_in_any_file(open_desk: OpenDesk, other: Document, tmp_path: Path) -> None:
    desk = open_desk(context_tokens=4200)
    library, chats = desk.library, desk.chats
    secret = library.add(secret_pdf(tmp_path)).document
    desk.answerer.prepare([secret, other])
    question = "What was paid for the crane of the northern quay?"  # a word of it would stay: it is the user's
    # Answers and summaries with citations, kept; then everything that a reader is shown.
    chat, shared = chats.make([secret]), chats.make([secret, other])
    for each, documents in ((chat, [secret]), (shared, [secret, other])):
        answer = desk.without_reader.ask(question, documents)
        assert answer.citations
        chats.finish(chats.ask(each, question), answer)
    chats.keep_draft(chats.ask(shared, "And what was sold?"), f"The {WORDS['second']} was")
    assert Summarizer(desk.without_reader).summarize(secret, options=SummaryOptions("long")).citations
    for documents in ([secret], [secret, other], [other]):
        desk.answerer.ask(question, documents)  # read whole where it fits, or excerpts; and asked whether it says so
        desk.answerer.ask(question, documents, route="retrieval")
    Summarizer(desk.answerer).summarize(secret, options=SummaryOptions("short"))
    narrow = open_desk(context_tokens=1500)
    Summarizer(narrow.answerer, part_tokens=600).summarize(secret, options=SummaryOptions("short", language="Danish"))
    jobs = JobStore(SqliteJobs(library))
    job = jobs.open(tmp_path / "out", SummarizeSpec(reader=ReaderSpec(reader="tiny")))
    jobs.plan(job, [Source(tmp_path / secret.file_name, secret.sha256), Source(tmp_path / "x.txt", other.sha256)])
    for text in (f"{WORDS['table']} fees", "Line 1 tells of ferries."):
        item = jobs.claim(job, "anna", "here")
        assert item is not None
        jobs.keep_draft(item, f"{text} draft")
        assert jobs.finish(item, Outcome({"text": text, "sha256": item.sha256}), 1.0)
    desk.answerer.store.save_indexes()
    desk.answerer.store.index("hash").save()
    library.connection().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()  # words in the file and in the log
    searched = traces(desk, secret)
    before = found(library.home, searched)
    assert not [name for name, places in before.items() if not places], "the test looks for what is not there"
    assert {name for places in before.values() for name in places} >= PLACES
    n_secret, n_other = desk.of(secret), desk.of(other)

    gone = desk.remove(secret)

    assert (gone.readings, gone.removed.pages, gone.chats.chats, gone.chats.turns) == (n_secret, 2, 1, 2)
    assert gone.readings_bytes > 0
    left = {name: places for name, places in found(library.home, searched).items() if places}
    assert left == {}
    assert [item.sha256 for item in jobs.items(job)] == [other.sha256]
    assert 0 < desk.of(other) < n_other, "what was read of other documents alone stays"
    assert len(desk.readings.list()) == desk.of(other), "every reading says what it is of"
    library.close()
    assert not any(found(library.home, searched).values())


def test_what_a_killed_process_left_of_its_reading_goes_at_once(
    open_desk: OpenDesk, other: Document, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = open_desk(context_tokens=2600)
    secret = desk.library.add(secret_pdf(tmp_path)).document
    write = readings_module.write_tensors

    def killed(path: Path, kind: str, *rest: Any) -> None:
        if kind == "snapshot":
            monkeypatch.setattr(readings_module, "delete", lambda path: 0)  # nobody is left to clean up
            raise OSError("as good as killed")
        write(path, kind, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(readings_module, "write_tensors", killed)
        desk.answerer.ask("What was paid?", [secret])
    monkeypatch.undo()
    tokens = {"tokens": np.array(desk.engine.token_ids(WORDS["first"]), np.uint16).tobytes()}
    assert desk.readings.list() == []
    assert found(desk.library.home, tokens) == {"tokens": {"readings"}}
    desk.remove(secret)
    assert found(desk.library.home, tokens) == {"tokens": set()}


def test_readings_of_an_earlier_version_go_by_their_labels(open_desk: OpenDesk, other: Document) -> None:
    desk = open_desk(context_tokens=2600)
    labels = {
        "ferries.txt": True,
        "a.pdf, ferries.txt (pages 3-9), b.pdf": True,
        "": True,  # excerpts: of what, nobody knows
        "old ferries.txt": False,
        "ferries.txt.pdf": False,
    }
    for label in labels:
        state = desk.engine._opened()[0].decoder.new_state()
        desk.engine._opened()[0].decoder.prefill(random.Random(label).choices(range(2, 200), k=40), state)
        assert desk.readings.keep(state, seconds=1.0, label=label)
    for path in desk.readings.folder.glob("*/snapshots/*"):
        as_an_earlier_version_wrote_it(path)
    assert {reading.knows_sources for reading in desk.readings.list()} == {False}
    desk.library.rename(other, "Ferries of the north")
    desk.remove(other)
    assert {reading.label for reading in desk.readings.list()} == {label for label, gone in labels.items() if not gone}


def as_an_earlier_version_wrote_it(path: Path) -> None:
    from longleaf.model.state_file import read_metadata, read_tensors, write_tensors

    tensors, metadata = read_tensors(path, "snapshot", read_metadata(path, "snapshot")["fingerprint"])
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    kept = {key: value for key, value in metadata.items() if key not in ("sources", "longleaf", "version")}
    write_tensors(path, "snapshot", kept.pop("fingerprint"), tensors, kept)


def test_removing_what_is_gone_is_an_error_and_harms_nothing(open_desk: OpenDesk, other: Document) -> None:
    desk = open_desk(context_tokens=2600)
    desk.remove(other)
    with pytest.raises(DocumentNotFoundError):
        desk.remove(other)


def test_a_renamed_document_is_not_read_again(open_desk: OpenDesk, other: Document) -> None:
    desk = open_desk(context_tokens=2600)
    first = desk.answerer.ask("What was paid?", [other], route="whole-document")
    renamed = desk.library.rename(other, "Ferries of the north")
    n_tokens = desk.answerer.count_tokens([renamed])
    again = open_desk(context_tokens=2600).answerer.ask("Who paid?", [renamed], route="whole-document")
    assert first.receipt.tokens_document == n_tokens == again.receipt.tokens_document
    assert again.receipt.tokens_reused >= n_tokens


def test_the_command_removes_readings_too_and_says_how_many(run: Run, home: Path, report: Path, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("Other words.")
    added, other = (each["document"] for each in json.loads(run("add", report, tmp_path / "other.txt", "--json").out))
    removed_earlier = "0" * 64
    from .test_reading_commands import CONFIG, DecoderState

    store = ReadingStore(home / "readings")
    for seed, sources in enumerate(
        [[added["sha256"]], [other["sha256"], added["sha256"]], [other["sha256"]], [removed_earlier], []]
    ):
        state = DecoderState.empty(CONFIG, "f" * 64, torch.float32, torch.float32, torch.device("cpu"))
        state.note(range(seed, 300 + seed))
        assert store.keep(state, seconds=1.0, sources=sources)
    (removed,) = json.loads(run("remove", "harbour.txt", "--yes", "--json").out)
    assert (removed["name"], removed["pages"], removed["readings"]) == ("harbour.txt", 2, 3)
    assert removed["readings_bytes"] > 0
    assert removed["chats"] == {"chats": 0, "turns": 0}
    assert removed["document"]["sha256"] == added["sha256"]
    assert {reading.sources for reading in store.list()} == {(other["sha256"],), ()}
