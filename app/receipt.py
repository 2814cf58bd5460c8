"""An answer's receipt in words, for the terminal and the browser alike."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from longleaf.retrieval import Answer, Receipt

__all__ = ["receipt_rows"]


def receipt_rows(answer: "Answer") -> list[tuple[str, str]]:
    """What was read for this answer: (name, text), in the order to be shown; "warning" may stand more than once."""
    receipt = answer.receipt
    steps = ", ".join(f"{name} {seconds:.1f}" for name, seconds in receipt.seconds.items() if name != "total")
    return [
        ("route", f"{answer.route.name}: {answer.route.reason}"),
        ("read", _pages(receipt)),
        *([("search", receipt.search)] if receipt.search else []),
        *([("tokens", _tokens(receipt))] if receipt.tokens_budget is not None else []),
        ("model", answer.model),
        ("seconds", f"{receipt.seconds['total']:.1f} ({steps})"),
        *(("warning", warning) for warning in receipt.warnings),
    ]


def _pages(receipt: "Receipt") -> str:
    unread = f", {receipt.pages_unread} without readable text" if receipt.pages_unread else ""
    unread += f", {receipt.pages_not_asked} not asked" if receipt.pages_not_asked else ""
    return (
        f"{receipt.pages_read} of {receipt.pages_total} pages, {receipt.pages_searched} searched, "
        f"{receipt.pages_ocr} by OCR, {receipt.pages_dropped} dropped{unread}"
    )


def _tokens(receipt: "Receipt") -> str:
    reused = ""
    if receipt.tokens_reused:
        saved = f", which saved {receipt.seconds_saved:.1f} s" if receipt.seconds_saved >= 0.1 else ""
        reused = f", {receipt.tokens_reused:,} of them from a reading{saved}"
    return f"{receipt.tokens_prompt:,} given to the model{reused}; the documents have {receipt.tokens_document:,}"
