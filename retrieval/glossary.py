"""What the terms of financial reports stand for: the places and line items to look for when a question names one.

A question about "working capital" is answered by two lines of the balance sheet that never say so; one about "the P&L"
by a table titled "Consolidated Statements of Operations". The entries are what any textbook of accounting says and what
US GAAP and IFRS call the statements. Other fields can be added in the same form.
"""

import re
from collections.abc import Iterator

__all__ = ["places_named"]

_BALANCE_SHEET = (
    "consolidated balance sheets statements of financial position total current assets total assets accounts payable "
    "total current liabilities total liabilities shareholders stockholders equity"
)
_INCOME_STATEMENT = (
    "consolidated statements of income operations earnings total net sales revenue cost of sales goods sold gross "
    "profit operating income income before income taxes net income per share basic diluted"
)
_CASH_FLOWS = (
    "consolidated statements of cash flows operating activities net income depreciation and amortization net cash "
    "provided by operating activities investing activities capital expenditures purchases of property financing "
    "activities dividends paid"
)
_TAX_RATE = "effective tax rate provision for income taxes income before income taxes statutory rate"

_ENTRIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    # The statements, by all their names
    (r"balance sheets?|statements? of financial (?:position|condition)", (_BALANCE_SHEET,)),
    (
        r"income statements?|p ?& ?l|profit and loss|statements? of (?:consolidated )?(?:income|operations|earnings)",
        (_INCOME_STATEMENT,),
    ),
    (r"cash ?flows? statements?|statements? of (?:consolidated )?cash ?flows?", (_CASH_FLOWS,)),
    # What is read off one statement
    (r"working capital|current ratio|quick ratio|acid[- ]test|cash ratio|liquidity ratios?", (_BALANCE_SHEET,)),
    (r"debt[- ]to[- ]equity|net debt|total debt|leverage ratio|equity ratio|book value", (_BALANCE_SHEET,)),
    (
        r"(?:operating|gross|net|profit|ebit) (?:income |profit )?(?:% |percent )?margins?|cogs"
        r"|costs? of (?:goods sold|sales|revenues?)|ebit|interest coverage|gross profit|operating (?:income|profit)"
        r"|net (?:income|earnings|profit|loss)|earnings per share|eps"
        r"|revenues? (?:growth|cagr)"
        r"|(?:growth|change|cagr|increase|decrease) (?:in|of) (?:total |net )?(?:revenues?|sales)",
        (_INCOME_STATEMENT,),
    ),
    (
        r"free cash ?flow|fcf|cap(?:ital )?ex(?:penditures?)?|(?:operating|investing|financing) cash ?flows?"
        r"|cash (?:flows? )?from (?:operations|operating activities)|cash dividends?|dividends? paid"
        r"|(?:share|stock) (?:repurchases|buybacks)|depreciation|d ?& ?a",
        (_CASH_FLOWS,),
    ),
    (r"effective (?:income )?tax rate", (_TAX_RATE, _INCOME_STATEMENT)),
    # What needs two of them
    (
        r"days (?:payables?|sales|inventory|receivables?)(?: outstanding)?|dpo|dso|dio|cash conversion cycle"
        r"|(?:inventory|receivables?|payables?|(?:fixed |total )?assets?) turnover"
        r"|return on (?:total )?(?:assets|equity)|roa|roe|roic",
        (_BALANCE_SHEET, _INCOME_STATEMENT),
    ),
    (r"operating cash ?flow ratio|cash ?flow to debt", (_BALANCE_SHEET, _CASH_FLOWS)),
    (r"ebitda|(?:dividend )?payout ratio|retention ratio|cash ?flow conversion", (_INCOME_STATEMENT, _CASH_FLOWS)),
)
_COMPILED = tuple((re.compile(rf"(?<!\w)(?:{pattern})(?!\w)", re.IGNORECASE), places) for pattern, places in _ENTRIES)


def places_named(question: str) -> list[str]:
    """What to search for besides the question itself, a text for each place; in the order of the entries, each once."""

    def found() -> Iterator[str]:
        for pattern, places in _COMPILED:
            if pattern.search(question):
                yield from places

    return list(dict.fromkeys(found()))
