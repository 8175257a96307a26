"""SQL for people over one version: DuckDB in memory, views that show ids as hex and rules by name, everything else shut.

What keeps a hostile statement in: exactly one statement that DuckDB's own parser calls a SELECT; no file, network,
extension or setting within reach (``enable_external_access`` off, only this version's objects allowed, configuration
locked); limits on time, rows, memory and threads; and the views, which are the only tables there are.
"""

import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb

from schemas.errors import CorruptStore, UsageError
from schemas.lineage import DatasetRef, Manifest
from storage.questions.late import whole_rows_sql
from storage.questions.sql_names import literal, names_beside_star, names_in, parsed
from storage.questions.views import View
from storage.seek import Reader, legible, role_part
from storage.store import Store

MAX_ROWS = 1000
MAX_SECONDS = 20.0
MEMORY = "1GB"


class Answer(View):
    """The first rows of a result; ``more`` says that there were more than the limit."""

    ref: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    more: bool


def query(
    store: Store,
    version: DatasetRef | str,
    sql: str,
    *,
    max_rows: int = MAX_ROWS,
    max_seconds: float = MAX_SECONDS,
) -> Answer:
    """The rows that a SELECT gives over a version's views (``views_of`` names them).

    Raises ``UsageError`` for anything but one SELECT, for a mistake in it, and for one that takes too long.
    """
    ref = store.resolve(version) if isinstance(version, str) else version
    manifest = store.describe(ref)
    with locked(store, manifest) as connection:
        _must_be_one_select(connection, sql)
        tree = parsed(connection, sql)
        with _within(connection, max_seconds) as overdue:
            try:
                late = names_beside_star(tree, "examples")
                if late is None or not _chosen_first(connection, store, manifest, sql, late, max_rows + 1):
                    _shown(connection, views_of(store, manifest, names_in(tree)))
                result = connection.execute(sql)
                columns = tuple(column[0] for column in result.description or ())
                rows = result.fetchmany(max_rows + 1)
            except duckdb.InterruptException:
                if not overdue.is_set():
                    raise
                raise UsageError(
                    f"the query ran longer than {max_seconds:g} s and was stopped; add a WHERE or a LIMIT"
                ) from None
            except duckdb.OutOfMemoryException:
                raise UsageError(f"the query needs more than {MEMORY} of memory; add a WHERE or a LIMIT") from None
            except duckdb.Error as error:
                if isinstance(error, duckdb.IOException) or _cut_short(error):
                    raise CorruptStore(f"{ref}: {_first_line(error)}; run `provender verify {ref}`") from error
                names = ", ".join(views_of(store, manifest))
                raise UsageError(f"the query cannot be run: {_first_line(error)}; tables are {names}") from error
    plain = tuple(tuple(_plain(value) for value in row) for row in rows[:max_rows])
    return Answer(ref=str(ref), columns=columns, rows=plain, more=len(rows) > max_rows)


@contextmanager
def locked(store: Store, manifest: Manifest) -> Generator[duckdb.DuckDBPyConnection, None, None]:
    """A connection that can read this version's objects and do nothing else; it has no tables yet."""
    connection = duckdb.connect(
        ":memory:",
        config={
            "threads": 2,
            "memory_limit": MEMORY,
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "allow_community_extensions": "false",
            "allow_persistent_secrets": "false",
            "temp_directory": "",
            "python_enable_replacements": "false",
        },
    )
    try:
        files = sorted({str(path) for _, paths in _sources(store, manifest) for path in paths})
        connection.execute(f"SET allowed_paths = [{', '.join(literal(file) for file in files)}]")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        for operator, negated in (("~~*", ""), ("!~~*", "NOT ")):  # what ILIKE means, at half its price
            connection.execute(f'CREATE MACRO "{operator}"(a, b) AS {negated}lower(a) LIKE lower(b)')
        yield connection
    finally:
        connection.close()


def _cut_short(error: duckdb.Error) -> bool:
    """Whether an object's file has no end, or none that says what it holds; a statement cannot name files."""
    return isinstance(error, duckdb.InvalidInputException) and any(
        word in str(error) for word in ("No magic bytes", "too small to be a Parquet file", "Footer length")
    )


def _shown(connection: duckdb.DuckDBPyConnection, views: Mapping[str, str]) -> None:
    for name, body in views.items():
        connection.execute(f"CREATE OR REPLACE VIEW {name} AS {body}")


def _chosen_first(
    connection: duckdb.DuckDBPyConnection, store: Store, manifest: Manifest, sql: str, names: frozenset[str], most: int
) -> bool:
    """Makes ``examples`` the rows that the statement chooses; False, and nothing made, if it cannot be run.

    It is run over the columns it names first; whole rows are read only of those that this gives.
    """
    seen = names & frozenset(EXAMPLES_VIEW) | {"position"}
    views = views_of(store, manifest, seen)
    columns = ", ".join(name for name in EXAMPLES_VIEW if name in seen)
    try:
        _shown(connection, {"examples": f"SELECT {columns} FROM ({views['examples']})"})
        result = connection.execute(sql)
        at = [column[0] for column in result.description or ()].index("position")
        positions = list(dict.fromkeys(row[at] for row in result.fetchmany(most)))
    except (duckdb.InterruptException, duckdb.OutOfMemoryException, duckdb.IOException):
        raise
    except duckdb.Error:  # told over the whole view, in words that name all of its columns
        return False
    if not positions:
        _shown(connection, {"examples": f"FROM ({views_of(store, manifest)['examples']}) WHERE false"})
        return True
    files = {name: [str(path) for path in paths] for name, paths in _sources(store, manifest)}
    with legible(f"examples of {manifest.ref}"):
        whole = whole_rows_sql(Reader(store), manifest, files, positions)
    _shown(connection, {"examples": f"{_WHOLE.format(position='e.position')} FROM ({whole}) e"})
    return True


def views_of(store: Store, manifest: Manifest, seen: frozenset[str] | None = None) -> dict[str, str]:
    """The views of a version and their SQL: ``examples`` are its members, not only those it created.

    ``seen`` are the names that a statement can see (None: all): a view leaves out what would need a join for nothing.
    """
    files = {name: [str(path) for path in paths] for name, paths in _sources(store, manifest)}
    views = {"members": _members_sql(manifest, files), "examples": _examples_sql(manifest, files, seen)}
    judged = [role for role, _ in manifest.step.inputs if role_part(manifest, role)]
    with_id = seen is None or "id" in seen
    if judged:
        views["verdicts"] = " UNION ALL ".join(_verdicts_sql(store, manifest, role, files, with_id) for role in judged)
    if "scores" in files:
        scores = f"SELECT row_number() OVER () - 1 AS position, * FROM {_read(files['scores'])}"
        views["scores"] = f"SELECT m.id, s.* FROM ({scores}) s JOIN members m USING (position)" if with_id else scores
    hexed = {
        "calls": "SELECT lower(hex(key)) AS call, * EXCLUDE (key) FROM {table}",
        "refused": "SELECT line, text, reason, evidence, list_transform(calls, c -> lower(hex(c))) AS calls FROM {table}",
        "links": (
            'SELECT "row", parents, list_transform(calls, c -> lower(hex(c))) AS calls, "index", evidence FROM {table}'
        ),
        "train": "SELECT lower(hex(id)) AS id, * EXCLUDE (id) FROM {table}",
    }
    views.update({name: sql.format(table=_read(files[name])) for name, sql in hexed.items() if name in files})
    return views


def _sources(store: Store, manifest: Manifest) -> list[tuple[str, Sequence[Any]]]:
    """The objects that the views read, by the name of a part; a home's examples are ``examples of <n>``."""
    found = [(name, store.paths(manifest.ref, name)) for name in manifest.parts if not name.startswith("sidecar/")]
    homes = list(manifest.homes or (manifest.ref,))
    judged = [dict(manifest.step.inputs)[role] for role, _ in manifest.step.inputs if role_part(manifest, role)]
    for ref in judged:
        source = store.describe(ref)
        found.append((f"members of {ref}", store.paths(ref, "members")))
        homes += [home for home in source.homes or (ref,) if home not in homes]
    found += [(f"examples of {home}", store.paths(home, "examples")) for home in homes]
    return [(name, paths) for name, paths in found if paths]


def _read(files: Sequence[str], *, numbered: bool = False) -> str:
    """A table function over objects of ours, as one literal; their names are digests, quoted all the same."""
    return (
        f"read_parquet([{', '.join(literal(name) for name in files)}]{', file_row_number = true' if numbered else ''})"
    )


_EMPTY = 'SELECT 0::UBIGINT AS position, 0::USMALLINT AS home, 0::UINTEGER AS "row" WHERE false'


def _positions_sql(
    ref: DatasetRef, homes: Sequence[DatasetRef], files: Mapping[str, Sequence[str]], members: str
) -> str:
    if members in files:
        return f'SELECT row_number() OVER () - 1 AS position, home, "row" FROM {_read(files[members])}'
    own = files.get(f"examples of {ref}")
    number = list(homes).index(ref) if ref in homes else 0
    if own is None:
        return _EMPTY
    return (
        f"SELECT row_number() OVER () - 1 AS position, {number}::USMALLINT AS home, "
        f'(row_number() OVER () - 1)::UINTEGER AS "row" FROM (SELECT id FROM {_read(own)})'
    )


def _homes_sql(homes: Sequence[DatasetRef], files: Mapping[str, Sequence[str]], columns: str) -> str:
    """Examples of all homes with their home's number and row."""
    tables = [
        f'SELECT {number}::USMALLINT AS home, (row_number() OVER () - 1)::UINTEGER AS "row", {columns} '
        f"FROM {_read(files[f'examples of {home}'])}"
        for number, home in enumerate(homes)
        if f"examples of {home}" in files
    ]
    return " UNION ALL ".join(tables) or f"{_EMPTY.replace('0::UBIGINT AS position, ', '')}"


def _members_sql(manifest: Manifest, files: Mapping[str, Sequence[str]]) -> str:
    homes = manifest.homes or (manifest.ref,)
    if not any(f"examples of {home}" in files for home in homes):
        return "SELECT 0::UBIGINT AS position, ''::VARCHAR AS id WHERE false"
    if "train" in files:
        return f"SELECT position::UBIGINT AS position, lower(hex(id)) AS id FROM {_read(files['train'])}"
    positions = _positions_sql(manifest.ref, homes, files, "members")
    return (
        f"SELECT p.position, lower(hex(e.id)) AS id FROM ({positions}) p "
        f'JOIN ({_homes_sql(homes, files, "id")}) e USING (home, "row")'
    )


#: Columns of ``examples`` that the copy of a published version does not repeat.
_NOT_IN_TRAIN = frozenset(("content_hash", "synthetic_depth", "extra"))
_TURNS = "{0}.messages[1].content AS first_turn, {0}.messages[-1].content AS last_turn, {0}.messages"
#: The columns of ``examples`` in order, and how they are made of a row as it is stored.
EXAMPLES_VIEW = (
    "position", "id", "content_hash", "source", "first_turn", "last_turn", "messages", "tools", "worse", "license",
    "synthetic_depth", "extra",
)  # fmt: skip
_WHOLE = (
    "SELECT {position}, lower(hex(e.id)) AS id, lower(hex(e.content_hash)) AS content_hash, e.source, "
    + _TURNS.format("e")
    + ", e.tools, e.worse, e.license, e.synthetic_depth, e.extra"
)


def _examples_sql(manifest: Manifest, files: Mapping[str, Sequence[str]], seen: frozenset[str] | None) -> str:
    """Rows in the order in which they are stored: a sort of whole conversations would read every one for the first."""
    homes = manifest.homes or (manifest.ref,)
    columns = "id, content_hash, source, messages, tools, worse, license, synthetic_depth, extra"
    if not any(f"examples of {home}" in files for home in homes):
        return "SELECT 0::UBIGINT AS position, ''::VARCHAR AS id WHERE false"
    if "train" in files and seen is not None and not seen & _NOT_IN_TRAIN:
        return (
            f"SELECT t.position::UBIGINT AS position, lower(hex(t.id)) AS id, t.source, {_TURNS.format('t')}, "
            f"t.tools, t.worse, t.license FROM {_read(files['train'])} t"
        )
    positions = _positions_sql(manifest.ref, homes, files, "members")
    return (
        _WHOLE.format(position="p.position")
        + f' FROM ({_homes_sql(homes, files, columns)}) e JOIN ({positions}) p USING (home, "row")'
    )


def _verdicts_sql(
    store: Store, manifest: Manifest, role: str, files: Mapping[str, Sequence[str]], with_id: bool
) -> str:
    """Fates of one input with ids and rule names; rule names are data, quoted as literals."""
    ref = dict(manifest.step.inputs)[role]
    homes = store.describe(ref).homes or (ref,)
    names = ", ".join(["NULL", *(literal(rule.name) for rule in manifest.rules)])
    told = f"SELECT '{role}' AS role, v.position, {'lower(hex(e.id)) AS id, ' if with_id else ''}"
    told += (
        "['keep', 'reject', 'edit', 'quarantine'][v.fate + 1] AS fate, "
        f"[{names}][v.rule + 1] AS rule, v.score, v.evidence "
        f"FROM (SELECT row_number() OVER () - 1 AS position, * FROM {_read(files[f'verdicts/{role}'])}) v"
    )
    if not with_id:
        return told
    positions = _positions_sql(ref, homes, files, f"members of {ref}")
    return f'{told} JOIN ({positions}) p USING (position) JOIN ({_homes_sql(homes, files, "id")}) e USING (home, "row")'


def _must_be_one_select(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    if "\x00" in sql or any(0xD800 <= ord(char) < 0xE000 for char in sql):
        raise UsageError("the query holds a character that is no text (NUL or half a surrogate pair); leave it out")
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise UsageError(f"the query cannot be read: {_first_line(error)}") from error
    kinds = [statement.type for statement in statements]
    if kinds == [duckdb.StatementType.SELECT] and _first_word(sql) == "pragma":
        raise UsageError(
            "only one SELECT is answered, this is PRAGMA; `describe examples` lists the columns of a table"
        )
    if kinds != [duckdb.StatementType.SELECT]:
        told = ", ".join(str(kind).rpartition(".")[2] for kind in kinds) or "nothing"
        raise UsageError(f"only one SELECT is answered, this is {told}; the store is read, never changed")


def _first_word(sql: str) -> str:
    """The statement's first token that is no comment, in lower case, by DuckDB's own tokenizer."""
    tokens = duckdb.tokenize(sql)
    for (start, kind), (end, _) in zip(tokens, [*tokens[1:], (len(sql), None)], strict=True):
        if kind != duckdb.token_type.comment:
            return sql.encode()[start:end].decode(errors="replace").strip().lower()
    return ""


@contextmanager
def _within(connection: duckdb.DuckDBPyConnection, seconds: float) -> Generator[threading.Event, None, None]:
    """Interrupts what still runs after so many seconds."""
    overdue = threading.Event()

    def stop() -> None:
        overdue.set()
        connection.interrupt()

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield overdue
    finally:
        timer.cancel()
        timer.join()


def _plain(value: Any) -> Any:
    """A value that JSON can hold."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if abs(value) != float("inf") and value == value else None
    return str(value)


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split("\n\n")[0].split())[:300]
