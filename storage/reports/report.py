"""The report of a version: one HTML file with its style and pictures inside, no script, nothing fetched, safe to mail."""

import os
import tempfile
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemBytecodeCache, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from schemas.errors import StoreError, StoreUnwritable
from schemas.lineage import DatasetRef
from storage.questions.figures import remembered
from storage.questions.lasting import lasting
from storage.questions.lineage import Lineage, lineage
from storage.questions.recorded_recipe import recipe_yaml
from storage.questions.samples import Sample, dropped_samples, kept_samples
from storage.questions.show import show
from storage.questions.simplex import Simplex, simplex_of
from storage.questions.training import telling
from storage.questions.views import Damage, FunnelRow, Metric, ReasonCount, VersionPage, View
from storage.questions.words import amount, amount_note, method_tag, number, seconds, size, usd, when
from storage.reports import draw
from storage.reports.draw_graph import graph
from storage.reports.draw_simplex import simplex, told
from storage.seek import Reader, legible
from storage.store import Store

_HERE = Path(__file__).parent


class Report(View):
    """Everything the report shows."""

    page: VersionPage
    kept: tuple[Sample, ...]
    dropped: tuple[Sample, ...]
    graph: Lineage
    triangles: tuple[Simplex, ...] = ()  # mixtures of three sources that were measured


def report_of(store: Store, version: DatasetRef | str) -> Report:
    """The report of a ref or tag as a value."""
    ref = store.resolve(version) if isinstance(version, str) else version
    page = show(store, version)
    try:
        kept, dropped = samples_of(store, ref)
    except (StoreError, OSError):  # named under the page's damage; the rest of the report stands
        kept, dropped = (), ()
    triangles, damage = _triangles(store, ref)
    page = page.model_copy(update={"damage": tuple(dict.fromkeys((*page.damage, *damage)))})
    return Report(page=page, kept=kept, dropped=dropped, graph=lineage(store, ref, most=60), triangles=triangles)


def samples_of(store: Store, ref: DatasetRef) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Members to read, and rows that were dropped on the way to them; read once for a version."""
    reader, steps = Reader(store), store.upstream(ref)

    def work() -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
        return kept_samples(store, ref), dropped_samples(store, steps)

    manifest = reader.manifest(ref)
    key = (manifest.commit_id, "report samples")
    return remembered(reader, manifest, "report samples", lambda: lasting(reader, steps, key, work))


def _triangles(store: Store, ref: DatasetRef) -> tuple[tuple[Simplex, ...], list[Damage]]:
    """The measured mixtures of three sources behind a version, and those whose runs cannot be read."""
    reader = Reader(store)
    found: list[Simplex] = []
    damage: list[Damage] = []
    try:
        with legible(str(ref)):
            steps = store.upstream(ref)
    except StoreError as error:
        return (), [Damage(place=str(ref), problem=str(error))]
    for manifest in steps:
        try:
            with legible(str(manifest.ref)):
                one = simplex_of(reader, manifest, method_tag(manifest))
        except StoreError as error:
            damage.append(Damage(place=str(manifest.ref), problem=str(error)))
            continue
        found += [one] if one else []
    return tuple(found), damage


def write_report(store: Store, version: DatasetRef | str, path: str | Path) -> Path:
    """Writes the report of a ref or tag; the file appears whole or not at all. Returns its path."""
    return write_whole(Path(path), html(report_of(store, version)))


def html(report: Report) -> str:
    """The report as one page."""
    page = report.page
    return (
        environment()
        .get_template("report.html.jinja")
        .render(
            page=page,
            kept=report.kept,
            dropped=report.dropped,
            graph=report.graph,
            triangles=report.triangles,
            title=f"{page.tags[0].name}@v{page.tags[0].number}" if page.tags else page.ref,
            recipe=recipe_yaml(page.recipe),
            style=Markup(style()),  # our own file, no text from a dataset
            **no_links(),
        )
    )


def _compiled_before() -> FileSystemBytecodeCache | None:
    """Templates as Jinja compiled them the last time, in its own folder below the temporary one; none where it is unsafe.

    Compiling is half of what the first page of a server costs. The folder is this user's alone (Jinja refuses another's);
    entries are found by the text of the template.
    """
    try:
        return FileSystemBytecodeCache()
    except (RuntimeError, OSError):
        return None


def environment(*folders: Path) -> Environment:
    """Templates with everything escaped; ``folders`` come before the shared ones."""
    made = Environment(
        loader=FileSystemLoader([*map(str, folders), str(_HERE)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        bytecode_cache=_compiled_before(),
    )
    filters: dict[str, Any] = {
        f.__name__: f
        for f in (
            usd,
            seconds,
            number,
            size,
            percent,
            signed,
            span,
            bar_rows,
            commas,
            amount,
            amount_note,
            when,
            telling,
        )
    }
    shared: dict[str, Any] = {
        "draw": draw,
        "draw_versions": graph,
        "draw_simplex": simplex,
        "told_simplex": told,
        "reason_fate": reason_fate,
    }
    made.filters.update(filters)
    made.globals.update(shared)
    return made


def no_links() -> dict[str, Any]:
    """The link functions of a page that stands alone."""
    return {
        "rows_link": lambda ref, fate, rule: None,
        "source_link": lambda ref, source, license=None: None,
        "version_link": lambda ref: None,
        "example_link": lambda id_: None,
        "blast_link": lambda kind, name: None,
        "hits_link": lambda benchmark: None,
        "calls_link": lambda ref=None, state=None: None,
    }


def style() -> str:
    """The style sheet that report and browser share."""
    return (_HERE / "report.css").read_text(encoding="utf-8")


def commas(value: int) -> str:
    """``1234`` as "1,234"."""
    return f"{value:,}"


def percent(fraction: float | None) -> str:
    """``0.256`` as "25.6 %", None as "unknown"."""
    return "unknown" if fraction is None else f"{100 * fraction:.1f} %"


def signed(value: float) -> str:
    """A change with its sign, which is as wide as a plus."""
    return f"{'+' if value > 0 else ''}{number(value)}".replace("-", "−", 1)


def span(metric: Metric) -> tuple[float, float]:
    """A scale that holds a metric's figures with some air."""
    known = [
        v
        for v in (metric.value, metric.low, metric.high, metric.before, metric.before_low, metric.before_high)
        if v is not None
    ]
    low, high = min(known), max(known)
    air = (high - low) * 0.15 or abs(high) * 0.1 or 1.0
    return low - air, high + air


def bar_rows(row: FunnelRow) -> int:
    """How many rows a step's bar stands for."""
    return max(row.rows_in + row.created, row.rows_out) + row.refused


def reason_fate(page: VersionPage, reason: ReasonCount) -> str:
    """What happened to the rows that a rule named: all that a step edited, it did not reject."""
    row = next(row for row in page.funnel if row.step.ref == reason.ref)
    return "reject" if row.rejected else "edit" if row.edited else "quarantine"


def write_whole(path: Path, text: str) -> Path:
    """The text in a file, which is replaced whole; ``StoreUnwritable`` if the folder refuses."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, suffix=".tmp", delete=False, errors="surrogatepass"
        ) as file:
            file.write(text)
        Path(file.name).chmod(0o644)
        os.replace(file.name, path)
    except OSError as error:
        raise StoreUnwritable(f"{path} cannot be written ({error.strerror or error}); name another place") from error
    return path
