"""Croissant metadata: the required keys are there, the checksum is the file's, the derivation is the store's."""

import hashlib
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from schemas.errors import UsageError
from schemas.lineage import Manifest, Step
from storage.export.croissant import describe, write_croissant
from storage.store import Store
from tests.storage.making import examples, ingest, keep_where

HOSTILE = "</script><img src=x onerror=alert(1)> \u202e {0} %s"

#: Croissant 1.1, "Dataset-level information", required properties.
REQUIRED = (
    "@context", "@type", "conformsTo", "description", "license", "name", "url", "creator", "datePublished", "distribution",
)  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def _filtered(store: Store) -> tuple[Manifest, Manifest]:
    first = ingest(store, ["yes indeed", "no", "maybe so"])
    return first, keep_where(store, first.ref, [True, False, True])


def _metadata(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "set.croissant.json").read_text())


@pytest.mark.parametrize(
    ("rows", "file", "media", "columns"),
    [
        (
            "parquet",
            "set.parquet",
            "application/x-parquet",
            ["id", "content_hash", "source", "messages", "tools", "worse", "license", "synthetic_depth", "extra"],
        ),
        ("messages", "set.jsonl", "application/jsonlines", ["id", "messages"]),
    ],
)
def test_the_required_keys_stand_there_and_the_file_is_described_as_it_is(
    store: Store, tmp_path: Path, rows: str, file: str, media: str, columns: list[str]
) -> None:
    done = write_croissant(store, _filtered(store)[1].ref, tmp_path / "out", name="set", rows=rows)
    assert [path.name for path in done.paths] == sorted([file, "set.croissant.json"])
    assert done.rows == 2
    told = _metadata(tmp_path / "out")
    assert all(told[key] for key in REQUIRED)
    assert told["@type"] == "sc:Dataset"
    assert told["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    (made,) = told["distribution"]
    assert made["@type"] == "cr:FileObject"
    assert made["contentUrl"] == made["@id"] == file
    assert made["encodingFormat"] == media
    assert made["sha256"] == hashlib.sha256((tmp_path / "out" / file).read_bytes()).hexdigest()
    (records,) = told["recordSet"]
    assert records["key"] == {"@id": "rows/id"}
    assert [field["name"] for field in records["field"]] == columns
    for field in records["field"]:
        for one in field.get("subField", [field]):
            assert one["@type"] == "cr:Field"
            assert one["dataType"].startswith("sc:")
            assert one["source"]["fileObject"] == {"@id": file}
            assert one["source"]["extract"] == {"column": field["name"]}
    messages = next(field for field in records["field"] if field["name"] == "messages")
    assert messages["isArray"] is True
    assert [one["source"]["transform"] for one in messages["subField"][:2]] == [
        {"jsonPath": "role"},
        {"jsonPath": "content"},
    ]


def test_every_prefix_and_short_name_is_declared(store: Store, tmp_path: Path) -> None:
    write_croissant(store, _filtered(store)[1].ref, tmp_path, name="set")
    told = _metadata(tmp_path)
    names = set(told["@context"])
    schema_org = {
        "name", "description", "license", "url", "creator", "datePublished", "dateCreated", "version", "keywords",
        "identifier", "isBasedOn", "distribution", "contentUrl", "contentSize", "encodingFormat", "sha256",
    }  # fmt: skip

    def check(value: Any) -> None:
        if isinstance(value, dict):
            for key, one in value.items():
                if not key.startswith("@"):
                    assert key.partition(":")[0] in names if ":" in key else key in names | schema_org, key
                check(one)
        elif isinstance(value, list):
            for one in value:
                check(one)

    check({key: value for key, value in told.items() if key != "@context"})


def test_the_derivation_leads_from_the_source_to_the_version(store: Store, tmp_path: Path) -> None:
    first, second = _filtered(store)
    write_croissant(store, second.ref, tmp_path, name="set")
    told = _metadata(tmp_path)
    (origin,) = told["prov:wasDerivedFrom"]
    assert origin["@id"] == f"urn:provender:{first.ref}"
    assert origin["sha256"] == first.digest
    made, kept = told["prov:wasGeneratedBy"]
    assert made["prov:used"] == []
    assert kept["prov:label"] == "filter length"
    assert kept["prov:used"] == [{"@id": f"urn:provender:{first.ref}"}]
    assert kept["prov:generated"] == {"@id": told["identifier"]}
    assert told["isBasedOn"] == [
        {"@type": "sc:Dataset", "name": "notes", "license": ["https://spdx.org/licenses/CC0-1.0.html"]}
    ]


def test_a_second_export_is_the_same_text(store: Store, tmp_path: Path) -> None:
    ref = _filtered(store)[1].ref
    for folder in ("one", "other"):
        write_croissant(store, ref, tmp_path / folder, name="set")
    one, other = ((tmp_path / folder / "set.croissant.json").read_bytes() for folder in ("one", "other"))
    assert one == other


def test_a_tag_gives_name_and_version_and_the_caller_page_and_creator(store: Store, tmp_path: Path) -> None:
    ref = _filtered(store)[1].ref
    store.tag("team/set", ref)
    write_croissant(store, "team/set", tmp_path, name="set", url="https://example.org/set", creator="A } \\x{ Team")
    told = _metadata(tmp_path)
    assert (told["name"], told["version"], told["url"]) == ("team/set@v1", "1.0.0", "https://example.org/set")
    assert told["creator"]["name"] == "A } \\x{ Team"
    cited = told["citeAs"]
    assert cited.startswith("@misc{team-set-v1, author = {{A  x Team}}")
    assert cited.count("{") == cited.count("}")


def test_licences_nobody_knows_are_named_and_missing_ones_said_to_be_missing(store: Store, tmp_path: Path) -> None:
    draft = store.draft(Step(stage="ingest", method={"method": "jsonl", "source": "odd"}))
    draft.homes = [draft.step.output]
    licences = pl.Series("license", [HOSTILE, None, "MIT"], dtype=pl.String)
    draft.put("examples", examples(["a", "b", "c"], HOSTILE).with_columns(licences))
    ref = store.commit(draft).ref
    write_croissant(store, ref, tmp_path, name="set")
    text = (tmp_path / "set.croissant.json").read_text()
    assert text.isascii()
    assert "<" not in text
    told = json.loads(text)
    assert told["license"] == [
        {"@type": "sc:CreativeWork", "name": "unknown: the source states no licence"},
        {"@type": "sc:CreativeWork", "name": HOSTILE},
        "https://spdx.org/licenses/MIT.html",
    ]
    assert [one["name"] for one in told["isBasedOn"]] == [HOSTILE]


def test_a_mixture_with_repeats_has_no_key(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"id": "a"}\n{"id": "a"}\n')
    _, records = describe(file, "application/jsonlines")
    assert "key" not in records


def test_metadata_away_from_its_rows_and_unknown_rows_are_refused(store: Store, tmp_path: Path) -> None:
    ref = _filtered(store)[1].ref
    with pytest.raises(UsageError, match="does not lie beside the rows"):
        write_croissant(store, ref, tmp_path / "a", name="set", out=tmp_path / "b" / "x.json")
    with pytest.raises(UsageError, match="choose one of parquet, messages"):
        write_croissant(store, ref, tmp_path, name="set", rows="csv")
    assert not (tmp_path / "a").exists()
