"""Which columns can a statement see? Read off DuckDB's own parse tree, so that a view need not join what nobody asked for."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

import duckdb

Tree = Mapping[str, Any]

#: What may stand in a FROM and names its columns itself; anything else (a pivot, SHOW) may use all there are.
_PLAIN = frozenset(("BASE_TABLE", "SUBQUERY", "JOIN", "EMPTY", "TABLE_FUNCTION", "EXPRESSION_LIST", "CTE"))
#: Functions that say something else when asked again, or make several rows of one.
NOT_TWICE = frozenset(
    (
        "random", "setseed", "uuid", "uuidv4", "uuidv7", "gen_random_uuid", "nextval", "currval", "stats", "error",
        "write_log", "sleep_ms", "current_query", "current_query_id", "current_transaction_id", "current_connection_id",
        "txid_current", "unnest", "unlist", "generate_subscripts",
    )
)  # fmt: skip
#: What a star may say besides leaving out columns of the one table.
_STAR_CHANGES = ("replace_list", "rename_list", "columns", "expr", "qualified_exclude_list")


def parsed(connection: duckdb.DuckDBPyConnection, sql: str) -> Tree | None:
    """DuckDB's parse tree of a statement; None for what it cannot put into one (DESCRIBE, mistakes)."""
    try:
        found = connection.execute(f"SELECT json_serialize_sql({literal(sql)})").fetchone()
        tree = json.loads(found[0]) if found else {"error": True}
    except (duckdb.Error, ValueError, RecursionError):
        return None
    if not isinstance(tree, dict) or cast(Tree, tree).get("error"):
        return None
    return cast(Tree, tree)


def literal(text: str) -> str:
    """The text as a constant of SQL. Not a parameter: at the first one that it is given DuckDB's client loads pandas."""
    return "'" + text.replace("'", "''") + "'"


def names_in(tree: Tree | None) -> frozenset[str] | None:
    """Every name that a column reference of the statement holds, in lower case; None if it may see all columns.

    That is so with a star, a reference by number, a whole row (a table's name as a value), a natural join, columns
    renamed in their order, a pivot or DESCRIBE.
    """
    return None if tree is None else _names(tree, ())


def names_beside_star(tree: Tree | None, table: str) -> frozenset[str] | None:
    """The names that ``SELECT *, … FROM table WHERE … ORDER BY … LIMIT …`` holds beside its star; None for other forms.

    Such a statement gives the same rows when only those are there that it chose before: it groups nothing, makes one row
    of each, chooses no number of rows by an offset, a share or a sample, and calls nothing whose answer changes.
    """
    statements = tree.get("statements") or () if tree is not None else ()
    node: Tree = statements[0].get("node", {}) if len(statements) == 1 else {}
    source: Tree = node.get("from_table") or {}
    stars = [item for item in node.get("select_list") or () if item.get("class") == "STAR"]
    others = [item for item in node.get("select_list") or () if item.get("class") != "STAR"]
    plain = (
        node.get("type") == "SELECT_NODE"
        and source.get("type") == "BASE_TABLE"
        and str(source.get("table_name")).lower() == table
        and len(stars) == 1
        and not any(stars[0].get(key) for key in _STAR_CHANGES)
        and not any(str(item.get("alias") or "").lower() == "position" for item in others)
        and not any(node.get(key) for key in ("group_expressions", "group_sets", "having", "qualify", "sample"))
        and not (node.get("cte_map") or {}).get("map")
        and node.get("aggregate_handling") == "STANDARD_HANDLING"
        and source.get("sample") is None
        and all(_keeps_rows(one) for one in node.get("modifiers") or ())
        and not any(_not_twice(one, source) for one in _nodes(node))
    )
    excluded = {str(name).lower() for name in stars[0].get("exclude_list") or ()} if plain else set[str]()
    if not plain or "position" in excluded:
        return None
    names = _names(cast(Tree, tree), stars)
    return None if names is None else names | excluded


def _keeps_rows(modifier: Tree) -> bool:
    """Whether an ORDER BY or LIMIT chooses the same rows out of those it chose."""
    kind = modifier.get("type")
    if kind == "ORDER_MODIFIER":  # a constant is the number of a column
        kinds = [order["expression"].get("class") for order in modifier.get("orders") or ()]
        return not {"CONSTANT", "STAR"} & set(kinds)
    limit: Tree = modifier.get("limit") or {}
    return kind == "LIMIT_MODIFIER" and modifier.get("offset") is None and limit.get("class") == "CONSTANT"


def _not_twice(node: Tree, source: Tree) -> bool:
    if node.get("class") in ("WINDOW", "SUBQUERY"):
        return True
    if node.get("class") == "FUNCTION":
        return str(node.get("function_name")).lower() in NOT_TWICE
    return _is_table(node) and node is not source


def _is_table(node: Tree) -> bool:
    return node.get("class") is None and "sample" in node and not str(node.get("type")).endswith("_NODE")


def _names(tree: Tree, stars: Any) -> frozenset[str] | None:
    names: set[str] = set()
    tables: set[str] = set()
    last: set[str] = set()
    for node in _nodes(tree):
        kind = node.get("class")
        if (kind == "STAR" and not any(node is star for star in stars)) or kind == "POSITIONAL_REFERENCE":
            return None
        if node.get("column_name_alias"):
            return None
        if kind == "COLUMN_REF":
            parts = [str(part).lower() for part in node.get("column_names", ())]
            names.update(parts)
            last.update(parts[-1:])
        elif _is_table(node):
            if node.get("type") not in _PLAIN or node.get("ref_type") == "NATURAL":
                return None
            tables.update(str(node.get(key) or "").lower() for key in ("alias", "table_name"))
            names.update(str(name).lower() for name in node.get("using_columns") or ())
    return None if tables & last else frozenset(names)


def _nodes(tree: Any) -> Iterator[Tree]:
    stack = [tree]
    while stack:
        top = stack.pop()
        if isinstance(top, dict):
            node = cast(Tree, top)
            yield node
            stack += node.values()
        elif isinstance(top, list):
            stack += cast(list[Any], top)
