"""Conditions on metadata as SQL: `{"page": {"$gte": 3}, "kind": "table"}` about a row of the table `texts`.

What a condition means is what `metadata.get(key)` compared in Python would mean: a key that is missing equals None.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

__all__ = ["filter_sql"]

_MEMBERSHIPS = ("$eq", "$ne", "$in", "$nin")
_COMPARISONS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}


def filter_sql(conditions: Mapping[str, Any]) -> tuple[str, list[str]]:
    """A filter on metadata as SQL about a row of `texts`, and the values of its marks.

    Raises:
        ValueError: An operator or a value that is not compared; says which, and what is.
    """
    parts: list[str] = []
    values: list[str] = []
    for key, wanted in conditions.items():
        if key.startswith("$"):
            raise ValueError(
                f"the filter begins with {key!r}; it takes keys of the metadata, whose conditions must all hold. "
                "For anything else give a function of the document"
            )
        operations = wanted if isinstance(wanted, Mapping) else {"$eq": wanted}
        for operator, value in operations.items():
            sql, marks = _condition(key, operator, value)
            parts.append(sql)
            values += marks
    return " AND ".join(parts) or "TRUE", values


def _condition(key: str, operator: str, value: Any) -> tuple[str, list[str]]:
    # json_each rather than json_extract: a path can't name a key that has quotes in it. Values go through JSON as the
    # metadata did: the same number is then the same to the last bit.
    item = "EXISTS (SELECT 1 FROM json_each(texts.metadata) AS item WHERE item.key = ? AND"
    if operator in _COMPARISONS:
        if value is None:
            raise ValueError(f"the filter on {key!r} has {operator} None; it takes a number or a string")
        types = "('text')" if isinstance(value, str) else "('integer', 'real', 'true', 'false')"
        wanted = "(SELECT value FROM json_each(?))"
        sql = f"{item} item.type IN {types} AND item.value {_COMPARISONS[operator]} {wanted})"
        return sql, [key, _scalars(key, [value])]
    if operator not in _MEMBERSHIPS:
        known = ", ".join((*_MEMBERSHIPS, *_COMPARISONS))
        raise ValueError(f"the filter on {key!r} has the operator {operator!r}; there are: {known}")
    is_list = isinstance(value, list | tuple | set | frozenset)
    if operator in ("$in", "$nin") and not is_list:
        raise ValueError(f"the filter on {key!r} has {operator} {value!r:.60}; it takes a list")
    several = [value] if operator in ("$eq", "$ne") else list(value)
    sql = f"{item} item.type NOT IN ('array', 'object') AND item.value IN (SELECT value FROM json_each(?)))"
    marks = [key, _scalars(key, several)]
    if None in several:  # as in `metadata.get(key)`: a key that is not there is None
        sql = f"({sql} OR NOT {item} item.type <> 'null'))"
        marks.append(key)
    return (f"NOT {sql}" if operator in ("$ne", "$nin") else sql), marks


def _scalars(key: str, values: list[Any]) -> str:
    for value in values:
        is_finite = not isinstance(value, float) or math.isfinite(value)
        if not (is_finite and isinstance(value, str | int | float | None)):
            raise ValueError(
                f"the filter on {key!r} compares with {value!r:.60}; only strings, finite numbers, booleans and None "
                "are compared. For anything else give a function of the document"
            )
    return json.dumps(values)
