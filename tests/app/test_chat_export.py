"""Exported chats, to the letter; and that no document's words can be more than words in them."""

import html
import json
import re
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from longleaf.app.chat_export import file_name, to_json, to_markdown
from longleaf.app.chats import Chat, ChatDocument, KeptTurn
from longleaf.retrieval import Answer, Citation, Receipt, Route, Statement

CHAT = Chat(
    id=7, title="What were net sales?", made_at="2026-03-01T09:00:00.000000+00:00",
    changed_at="2026-03-01T09:05:00.000000+00:00", parent_chat=None, collection=None,
    documents=(ChatDocument("ab" * 32, "10_K report.pdf"), ChatDocument("cd" * 32, "notes.txt")), n_turns=3,
)  # fmt: skip
RECEIPT = Receipt(
    pages_total=120, pages_read=2, pages_searched=118, pages_ocr=3, pages_unread=0, pages_dropped=0,
    tokens_document=43_946, tokens_budget=3_857, tokens_prompt=512, tokens_reused=0, seconds_saved=0.0, passages=12,
    seconds={"search": 0.12, "total": 4.25}, warnings=("notes.txt: encoding guessed",), search="full text",
)  # fmt: skip
SALES = Citation(
    "10_K report.pdf", "ab" * 32, 60, "57", "Total $274,515", "2020 *2019*", 3, 17, ((1.0, 2.0, 3.0, 4.0),), True
)
NOTE = Citation("notes.txt", "cd" * 32, 2, "2", "sales\nrose", "", 0, 10, (), True)
FOUND = Answer(
    question="What were net sales?", answer="Sales were $274,515. They rose. Hooray.", found=True,
    route=Route("retrieval", "the document has 43,946 tokens"), citations=(SALES, NOTE),
    statements=(
        Statement("Sales were $274,515.", True, (0,)),
        Statement("They rose.", True, (0, 1)),
        Statement("Hooray.", False, ()),
    ),
    nearest=(), confidence=0.9, signals=None, reply="Sales were …", receipt=RECEIPT, model="tiny",
)  # fmt: skip
NOT_FOUND = replace(
    FOUND, answer="Not found in what was read.", found=False, citations=(), statements=(), nearest=(NOTE,), reply="x"
)
RECEIPT_ROWS = """\
- route: retrieval: the document has 43,946 tokens
- read: 2 of 120 pages, 118 searched, 3 by OCR, 0 dropped
- search: full text
- tokens: 512 given to the model; the documents have 43,946
- model: tiny
- seconds: 4.2 (search 0.1)
- warning: notes.txt: encoding guessed"""


def turn(position: int = 1, answer: Answer | None = None, **changes) -> KeptTurn:
    values = {
        "id": position, "chat_id": 7, "position": position, "question": "What were net sales?",
        "state": "answered" if answer else "waiting", "attempt": 1, "draft": "",
        "answer_json": json.dumps(answer.to_dict()) if answer else None, "error": "", "note": "",
        "asked_at": "2026-03-01T10:00:00.123456+01:00",
        "answered_at": "2026-03-01T09:00:04.500000+00:00" if answer else None,
    }  # fmt: skip
    return KeptTurn(**(values | changes))


def test_a_chat_with_an_answer_and_one_that_was_not_found() -> None:
    turns = [turn(1, FOUND), turn(2, NOT_FOUND, question="And\nprofit?", note="A document of this chat was removed.")]
    assert to_markdown(CHAT, turns) == (
        rf"""# What were net sales?

- documents: 10\_K report.pdf; notes.txt
- begun: 2026-03-01 09:00:00 UTC

## 1. What were net sales?

Sales were \$274,515. \[1\] They rose. \[1\] \[2\] Hooray. *(no support found on the pages)*

**Citations**

1. 10\_K report.pdf, p. 60 (printed 57): “Total \$274,515” under “2020 \*2019\*”
2. notes.txt, p. 2: “sales rose”

**Receipt**

- asked: 2026-03-01 09:00:00 UTC
- answered: 2026-03-01 09:00:04 UTC
{RECEIPT_ROWS}

## 2. And profit?

**Not found in what was read.**

**Nearest to the question, without answering it**

- notes.txt, p. 2: “sales rose”

*A document of this chat was removed.*

**Receipt**

- asked: 2026-03-01 09:00:00 UTC
- answered: 2026-03-01 09:00:04 UTC
{RECEIPT_ROWS}
"""
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"state": "waiting"}, "*Not answered yet.*"),
        (
            {"state": "answering", "draft": "Sales\nwere *"},
            "*Not answered yet; what is written so far is not checked:*\n\n> Sales were \\*",
        ),
        ({"state": "stopped", "draft": "- half"}, "*Stopped before the answer was complete.*\n\n> \\- half"),
        ({"state": "failed", "error": "a_b.pdf: gone"}, "*No answer:* a\\_b.pdf: gone"),
    ],
)
def test_a_turn_without_an_answer_says_why(changes: dict[str, str], said: str) -> None:
    text = to_markdown(replace(CHAT, collection="10-K's", documents=()), [turn(**changes)])
    assert text == (
        "# What were net sales?\n\n- documents: none that is still kept\n- collection: 10-K's\n"
        f"- begun: 2026-03-01 09:00:00 UTC\n\n## 1. What were net sales?\n\n{said}\n\n"
        "**Receipt**\n\n- asked: 2026-03-01 09:00:00 UTC\n"
    )


def test_a_stopped_answer_shows_what_was_written_as_unchecked() -> None:
    stopped = replace(NOT_FOUND, answer="Stopped before the answer was complete.", nearest=(), reply="Sa", stopped=True)
    text = to_markdown(CHAT, [turn(1, stopped, state="stopped")])
    assert "**Stopped before the answer was complete.**\n\n> Sa\n\n**Receipt**" in text
    assert "- stopped: 2026-03-01 09:00:04 UTC\n" in text


def test_a_quote_that_was_not_found_on_its_page_says_so() -> None:
    text = to_markdown(CHAT, [turn(1, replace(FOUND, citations=(replace(SALES, verified=False, heading=""), NOTE)))])
    assert "1. 10\\_K report.pdf, p. 60 (printed 57): “Total \\$274,515” (not found on the page)\n" in text


def test_an_answer_of_another_version_is_exported_without_its_receipt() -> None:
    kept = FOUND.to_dict()
    del kept["receipt"]["pages_total"]
    text = to_markdown(CHAT, [turn(1, FOUND, answer_json=json.dumps(kept))])
    assert "They rose. \\[1\\] \\[2\\]" in text
    assert text.endswith("- answered: 2026-03-01 09:00:04 UTC\n- model: tiny\n")


EVIL = [
    "# heading", "1. list", "- list", "+ list", "* list", "> quote", "===", "---", "```", "    code", "a | b",
    "<b>x</b>", "<!-- x", "[a](javascript:alert(1))", "![a](http://x/y.png)", "&amp; &#35;", "*a* _b_ ~~c~~ `d`", "$x$",
    "\\", "a\\", "www.evil.example http://evil.example x@evil.example", "## closed ##",
    "[^1]: note", "[1]: http://x", "5) x",
]  # fmt: skip


def shown_in(markdown: str) -> tuple[list[str], str]:
    """The kinds of elements that a text is rendered to, and its words."""
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(markdown)
    kinds = [token.type for token in tokens]
    kinds += [child.type for token in tokens for child in token.children or () if child.type != "text_special"]
    words = MarkdownIt("gfm-like", {"linkify": False}).render(markdown)
    return kinds, html.unescape(re.sub(r"<[^>]+>", "", words))


@given(st.one_of(st.sampled_from(EVIL), st.text(min_size=1), st.text("*_`#[]()<>!|~-+=1. \n\\&$", min_size=1)))
@example("\\")
@example("a\x0b- b")
def test_words_stay_words_wherever_they_stand(words: str) -> None:
    line = re.sub(r"[\x00-\x1f\x7f-\x9f]", "\ufffd", " ".join(words.split())) or "x"
    words = words if words.split() else "x"

    def exported(text: str) -> str:
        citation = replace(SALES, document=text, quote=text, heading=text, page_label=text)
        answer = replace(FOUND, citations=(citation, NOTE), statements=(Statement(text, True, (0,)),))
        failed = turn(2, state="failed", error=text, question=text, draft=text, note=text)
        return to_markdown(replace(CHAT, title=text), [turn(1, answer, question=text), failed])

    kinds, text = shown_in(exported(words))
    plain_kinds, plain_text = shown_in(exported("plain"))
    assert [kind for kind in kinds if kind != "text"] == [kind for kind in plain_kinds if kind != "text"]
    assert text == plain_text.replace("plain", line)


@pytest.mark.parametrize("link", ["http://evil.example", "https://evil.example", "WWW.evil.example", "x@evil.example"])
def test_an_address_does_not_become_a_link_by_itself(link: str) -> None:
    text = to_markdown(replace(CHAT, title=link), [])
    assert link not in text
    assert shown_in(text)[1].startswith(link)


def test_json_has_everything_and_comes_back() -> None:
    failed = turn(2, state="failed", error="gone", draft="ñ", note="n")
    text = to_json(CHAT, [turn(1, FOUND), failed])
    assert "ñ" in text
    assert json.loads(text) == {
        "format": "longleaf-chat",
        "version": 1,
        "chat": {
            "id": 7, "title": "What were net sales?", "made_at": CHAT.made_at, "changed_at": CHAT.changed_at,
            "parent_chat": None, "collection": None, "n_turns": 3,
            "documents": [
                {"sha256": "ab" * 32, "name": "10_K report.pdf"}, {"sha256": "cd" * 32, "name": "notes.txt"},
            ],
        },
        "turns": [
            {
                "position": 1, "question": "What were net sales?", "state": "answered",
                "asked_at": "2026-03-01T10:00:00.123456+01:00", "answered_at": "2026-03-01T09:00:04.500000+00:00",
                "answer": FOUND.to_dict(), "draft": "", "error": "", "note": "",
            },
            {
                "position": 2, "question": "What were net sales?", "state": "failed",
                "asked_at": "2026-03-01T10:00:00.123456+01:00", "answered_at": None,
                "answer": None, "draft": "ñ", "error": "gone", "note": "n",
            },
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("What were net sales?", "chat-7-what-were-net-sales.md"),
        ("../../etc/passwd\x00", "chat-7-etc-passwd.md"),
        ("¿?", "chat-7.md"),
        ("Größe der Flotte", "chat-7-größe-der-flotte.md"),
        ("one two three four five six seven eight nine ten", "chat-7-one-two-three-four-five-six-seven-eight.md"),
        ("x" * 60, f"chat-7-{'x' * 40}.md"),
    ],
)
def test_a_file_name_that_every_system_takes(title: str, name: str) -> None:
    assert file_name(replace(CHAT, title=title), ".md") == name
