"""Croissant 1.1 metadata beside the published rows: what the file holds, its licence, and what the version was made from."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from schemas.errors import UsageError
from schemas.lineage import DatasetRef, Manifest
from storage.export.openlineage import times
from storage.export.portable import portable_json
from storage.export.write import Exported, export_report
from storage.questions.show import show
from storage.questions.views import Composition, VersionPage
from storage.questions.words import method_tag, named
from storage.reports.report import write_whole
from storage.store import Store

Json = dict[str, Any]

SPEC = "http://mlcommons.org/croissant/1.1"

#: The names that Croissant's appendix recommends, as far as they are used here, and PROV-O's.
CONTEXT: Json = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "prov": "http://www.w3.org/ns/prov#",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "recordSet": "cr:recordSet",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}

#: SPDX's spelling, which its pages' addresses need.
_SPDX = {
    name.lower(): name
    for name in (
        "Apache-2.0", "MIT", "CC0-1.0", "CC-BY-4.0", "CC-BY-3.0", "CC-BY-SA-4.0", "CC-BY-SA-3.0", "CC-BY-NC-4.0",
        "CC-BY-NC-SA-4.0", "ODC-By-1.0", "BSD-3-Clause", "BSD-2-Clause", "GPL-3.0-only", "GPL-3.0-or-later", "Unlicense",
    )
}  # fmt: skip

_COLUMNS: Mapping[str, str] = {
    "id": "The example's identity: 16 bytes as hex; `provender trace` tells its story.",
    "content_hash": "Digest of the messages, the tools and the worse answer, as hex.",
    "source": "Where the example, or its first ancestor, entered.",
    "messages": "The conversation; in a preference example it ends with the better answer.",
    "tools": "Tool definitions as JSON.",
    "worse": "The turns that the better answer replaces, in a preference example.",
    "license": "The licence that the row's source states.",
    "synthetic_depth": "0 for given text; n for text a model wrote from examples of depth n - 1.",
    "extra": "Other columns of the original row as JSON.",
    "role": "Who speaks.",
    "content": "What is said.",
}

_FILES: Mapping[str, tuple[str, str]] = {
    "parquet": (".parquet", "application/x-parquet"),
    "messages": (".jsonl", "application/jsonlines"),
}


def write_croissant(
    store: Store,
    version: DatasetRef | str,
    folder: str | Path,
    *,
    name: str,
    rows: str = "parquet",
    url: str | None = None,
    creator: str | None = None,
    out: str | Path | None = None,
) -> Exported:
    """Writes the rows (``parquet``, or ``messages`` as JSON lines) and ``<name>.croissant.json`` beside them.

    ``url`` is the page where the set will be published and ``creator`` who publishes it; both are required by Croissant, so
    they are stated as unknown where nobody tells them. ``out`` names the metadata file, which must lie in ``folder`` since
    it names the rows relative to itself. Raises ``UsageError``, ``BadName``, ``MissingDataset``, ``StoreUnwritable``.
    """
    if rows not in _FILES:
        raise UsageError(f"rows as {rows[:40]!a} are not described by Croissant; choose one of {', '.join(_FILES)}")
    ending, media_type = _FILES[rows]
    ref = store.resolve(version) if isinstance(version, str) else version
    place = Path(folder)
    written = Path(out) if out is not None else place / f"{name.replace('/', '-')}.croissant.json"
    if written.resolve().parent != place.resolve():
        raise UsageError(f"{written} does not lie beside the rows in {place}; name a file in that folder")
    done = export_report(store.batches(ref), rows, place, name=name)
    file = next((path for path in done.paths if path.name.endswith(ending) and "not_exported" not in path.name), None)
    if file is None or file == written:
        raise UsageError(f"{written} would replace the rows; name another metadata file")
    described = describe(file, media_type)
    value = croissant(show(store, ref), store.upstream(ref), described, url=url, creator=creator)
    write_whole(written, portable_json(value, indent=2) + "\n")
    return Exported(sorted([*done.paths, written]), done.rows, done.not_exported)


def describe(file: Path, media_type: str) -> tuple[Json, Json]:
    """The ``FileObject`` and the ``RecordSet`` of a Parquet or JSON lines file of rows, read from the file itself."""
    with file.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    made: Json = {
        "@type": "cr:FileObject",
        "@id": file.name,
        "name": file.name,
        "contentUrl": file.name,
        "contentSize": f"{file.stat().st_size} B",
        "encodingFormat": media_type,
        "sha256": digest,
    }
    lines = file.suffix == ".jsonl"
    empty = not file.stat().st_size
    frame = pl.LazyFrame({"id": []}) if empty else pl.scan_ndjson(file) if lines else pl.scan_parquet(file)
    schema = frame.collect_schema()
    fields = [_field("rows", file.name, column, kind) for column, kind in schema.items()]
    records: Json = {
        "@type": "cr:RecordSet",
        "@id": "rows",
        "name": "rows",
        "description": "One record per example, in the version's order; repeats of a mixture are records of their own.",
        "field": fields,
    }
    if "id" in schema and not frame.select(pl.col("id").is_duplicated().any()).collect().item():
        records["key"] = {"@id": "rows/id"}
    return made, records


def croissant(
    page: VersionPage,
    upstream: Sequence[Manifest],
    described: tuple[Json, Json],
    *,
    url: str | None = None,
    creator: str | None = None,
) -> Json:
    """The JSON-LD of a version whose rows lie in the described file. ``upstream`` is its lineage, sources first."""
    tag = page.tags[0] if page.tags else None
    name = f"{tag.name}@v{tag.number}" if tag else page.ref
    published = (tag.created_at if tag else times(upstream[-1])[1])[:10]
    home = url or _urn(page.ref)
    made, records = described
    roots = [manifest for manifest in upstream if not manifest.step.inputs]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "identifier": _urn(page.ref),  # no "@id": readers that follow references would run in a circle
        "conformsTo": SPEC,
        "name": name,
        "description": (
            f"{page.headline}. Made by Provender: every row has a pedigree. The language of the examples was not measured."
        ),
        "license": _licenses(page.composition),
        "url": home,
        "creator": {"@type": "Organization", "name": creator or "unknown (made with Provender)"},
        "datePublished": published,
        "dateCreated": times(upstream[-1])[1],
        "version": f"{tag.number}.0.0" if tag else f"0.0.0+{page.ref.partition('@')[2]}",
        "isLiveDataset": False,
        "keywords": ["instruction tuning", "fine-tuning"],
        "citeAs": _cite(name, page, creator, published, url),
        "isBasedOn": [
            {"@type": "sc:Dataset", "name": source, "license": _licenses(rows)}
            for source, rows in _by_source(page.composition).items()
        ],
        "prov:wasDerivedFrom": [_entity(manifest) for manifest in roots if str(manifest.ref) != page.ref],
        "prov:wasGeneratedBy": [_activity(manifest) for manifest in upstream],
        "distribution": [made],
        "recordSet": [records],
    }


def _urn(ref: str) -> str:
    return f"urn:provender:{ref}"


def _entity(manifest: Manifest) -> Json:
    return {
        "@type": "prov:Entity",
        "@id": _urn(str(manifest.ref)),
        "prov:label": method_tag(manifest),
        "sha256": manifest.digest,
        "identifier": [f"{what} {digest}" for what, digest in sorted(manifest.step.content.items())],
    }


def _activity(manifest: Manifest) -> Json:
    started, ended = times(manifest)
    return {
        "@type": "prov:Activity",
        "@id": _urn(f"step:{manifest.ref}"),
        "prov:label": named(manifest.ref.stage, method_tag(manifest)),
        "prov:startedAtTime": started,
        "prov:endedAtTime": ended,
        "prov:used": [{"@id": _urn(ref)} for ref in dict.fromkeys(str(ref) for _, ref in manifest.step.inputs)],
        "prov:generated": {"@id": _urn(str(manifest.ref))},
    }


def _by_source(composition: Sequence[Composition]) -> dict[str, list[Composition]]:
    found: dict[str, list[Composition]] = {}
    for row in sorted(composition, key=lambda row: row.source):
        found.setdefault(row.source, []).append(row)
    return found


def _licenses(composition: Sequence[Composition]) -> list[str | Json]:
    """Addresses of licences SPDX knows, others by the name the source gave them; rows without one are said to have none."""
    names = sorted({row.license or "" for row in composition}) or [""]
    return [_license(name) for name in names]


def _license(name: str) -> str | Json:
    known = _SPDX.get(name.lower())
    if known:
        return f"https://spdx.org/licenses/{known}.html"
    return {"@type": "sc:CreativeWork", "name": name or "unknown: the source states no licence"}


def _cite(name: str, page: VersionPage, creator: str | None, published: str, url: str | None) -> str:
    """BibTeX. Braces and backslashes of what the caller wrote would end a field, so they are left out."""

    def plain(text: str) -> str:
        return "".join(char for char in text if char.isprintable() and char not in "{}\\%#$")

    author = f"author = {{{{{plain(creator)}}}}}, " if creator else ""
    where = f", url = {{{plain(url)}}}" if url else ""
    key = "".join(char if char.isalnum() else "-" for char in name)
    return (
        f"@misc{{{key}, {author}title = {{{name}}}, year = {{{published[:4]}}}, "
        f"note = {{Provender dataset {page.ref}, SHA-256 {page.digest}}}{where}}}"
    )


def _field(parent: str, file: str, column: str, kind: pl.DataType) -> Json:
    inner, array = (kind.inner, True) if isinstance(kind, pl.List) else (kind, False)
    made: Json = {
        "@type": "cr:Field",
        "@id": f"{parent}/{column}",
        "name": column,
        "description": _COLUMNS.get(column, f"The column {column}."),
    }
    if array:
        made |= {"isArray": True, "arrayShape": "-1"}
    source = {"fileObject": {"@id": file}, "extract": {"column": column}}
    if isinstance(inner, pl.Struct):
        return made | {
            "subField": [
                {
                    **_field(f"{parent}/{column}", file, one.name, pl.String()),
                    "source": {**source, "transform": {"jsonPath": one.name}},
                    **({"isArray": True, "arrayShape": "-1"} if array else {}),
                }
                for one in inner.fields
            ]
        }
    return made | {"dataType": _type(inner), "source": source}


def _type(kind: Any) -> str:
    if kind == pl.Boolean:
        return "sc:Boolean"
    if kind.is_integer():
        return "sc:Integer"
    return "sc:Float" if kind.is_float() else "sc:Text"
