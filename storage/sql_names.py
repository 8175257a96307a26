"""Which columns can a statement see? Read off DuckDB's own parse tree, so that a view need not join what nobody asked for."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

import duckdb

#: What may stand in a FROM and names its columns itself; anything else (a pivot, SHOW) may use all there are.
_PLAIN = frozenset(("BASE_TABLE", "SUBQUERY", "JOIN", "EMPTY", "TABLE_FUNCTION", "EXPRESSION_LIST", "CTE"))


def names_in(connection: duckdb.DuckDBPyConnection, sql: str) -> frozenset[str] | None:
    """Every name that a column reference of the statement holds, in lower case; None if it may see all columns.

    That is so with a star, a reference by number, a whole row (a table's name as a value), a natural join, columns
    renamed in their order, a pivot or DESCRIBE.
    """
    try:
        found = connection.execute("SELECT json_serialize_sql($1)", [sql]).fetchone()
        tree = json.loads(found[0]) if found else {"error": True}
    except (duckdb.Error, ValueError, RecursionError):
        return None
    if not isinstance(tree, dict) or cast(Mapping[str, Any], tree).get("error"):
        return None
    names: set[str] = set()
    tables: set[str] = set()
    last: set[str] = set()
    for node in _nodes(tree):
        kind = node.get("class")
        if kind in ("STAR", "POSITIONAL_REFERENCE") or node.get("column_name_alias"):
            return None
        if kind == "COLUMN_REF":
            parts = [str(part).lower() for part in node.get("column_names", ())]
            names.update(parts)
            last.update(parts[-1:])
        elif kind is None and "sample" in node and not str(node.get("type")).endswith("_NODE"):
            if node.get("type") not in _PLAIN or node.get("ref_type") == "NATURAL":
                return None
            tables.update(str(node.get(key) or "").lower() for key in ("alias", "table_name"))
            names.update(str(name).lower() for name in node.get("using_columns") or ())
    return None if tables & last else frozenset(names)


def _nodes(tree: Any) -> Iterator[Mapping[str, Any]]:
    stack = [tree]
    while stack:
        top = stack.pop()
        if isinstance(top, dict):
            node = cast(Mapping[str, Any], top)
            yield node
            stack += node.values()
        elif isinstance(top, list):
            stack += cast(list[Any], top)
