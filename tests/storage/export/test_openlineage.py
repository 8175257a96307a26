"""OpenLineage events: what the specification requires is there, the figures are the store's, and servers' answers are told."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import polars as pl
import pytest

from schemas.errors import BackendError, MissingDataset, UsageError
from schemas.lineage import Manifest, Rule
from storage.export.openlineage import endpoint, openlineage_events, post_events, write_openlineage
from storage.export.portable import portable_json
from storage.store import Store
from tests.storage.making import filter_step, ingest, keep_where

HOSTILE = "</script><img src=x onerror=alert(1)> \u202e {0} %s \ud800"


def _filtered(store: Store) -> tuple[Manifest, Manifest]:
    first = ingest(store, ["yes indeed", "no", "maybe so"])
    return first, keep_where(store, first.ref, [True, False, True])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def _facets(value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict):
        for key, one in value.items():
            if key in ("facets", "inputFacets", "outputFacets"):
                yield from one.items()
            yield from _facets(one)
    elif isinstance(value, list):
        for one in value:
            yield from _facets(one)


def test_every_event_has_the_keys_that_the_specification_requires(store: Store) -> None:
    events = openlineage_events(store, _filtered(store)[1].ref)
    assert [event["eventType"] for event in events] == ["START", "COMPLETE"] * 2
    for event in events:
        assert {"eventTime", "producer", "schemaURL", "run", "job"} <= event.keys()
        assert event["schemaURL"] == "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
        UUID(event["run"]["runId"])
        assert event["eventTime"].endswith("Z")
        for named in (event["job"], *event["inputs"], *event["outputs"]):
            assert named["namespace"]
            assert named["name"]
        found = list(_facets(event))
        assert found
        for name, facet in found:
            assert facet["_producer"].startswith("urn:provender:")
            assert facet["_schemaURL"].startswith("https://openlineage.io/spec/")
            assert name in ("version", "outputStatistics", "jobType") or name.startswith("provender_")


def test_both_events_of_a_step_are_one_run_and_link_its_input_to_its_output(store: Store) -> None:
    first, second = _filtered(store)
    start, complete = openlineage_events(store, second.ref)[2:]
    assert start["run"]["runId"] == complete["run"]["runId"]
    assert start["eventTime"] <= complete["eventTime"]
    for event in (start, complete):
        assert event["job"]["name"] == "filter.length"
        assert [one["name"] for one in event["inputs"]] == [str(first.ref)]
        assert [one["name"] for one in event["outputs"]] == [str(second.ref)]


def test_counts_rules_fields_digest_and_cost_are_those_of_the_manifest(store: Store) -> None:
    _, second = _filtered(store)
    complete = openlineage_events(store, second.ref)[-1]
    run = complete["run"]["facets"]
    counts = {key: value for key, value in run["provender_counts"].items() if not key.startswith("_")}
    assert counts == {
        "rowsIn": 3, "kept": 2, "rejected": 1, "edited": 0, "quarantined": 0,
        "created": 0, "refused": 0, "repeats": 0, "rowsOut": 2,
    }  # fmt: skip
    (rule,) = run["provender_rules"]["rules"]
    assert (rule["name"], rule["threshold"], rule["rows"]) == ("too-short", 3, 1)
    assert run["provender_cost"]["calls"] == 0
    assert run["provender_cost"]["usd"] == 0.0
    assert complete["job"]["facets"]["provender_method"]["fields"]["at_least"] == 3
    output = complete["outputs"][0]
    assert output["facets"]["provender_digest"]["sha256"] == second.digest
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 2
    (role,) = complete["inputs"][0]["inputFacets"]["provender_fates"]["roles"]
    assert role == {
        "role": "pool", "consumed": True, "rows": 3, "kept": 2, "rejected": 1, "edited": 0, "quarantined": 0,
    }  # fmt: skip


def test_a_second_export_is_the_same_text(store: Store, tmp_path: Path) -> None:
    ref = _filtered(store)[1].ref
    one, count = write_openlineage(store, ref, tmp_path / "one.jsonl")
    other, _ = write_openlineage(Store.open(store.root, create=False), str(ref), tmp_path / "other.jsonl")
    assert one.read_bytes() == other.read_bytes()
    assert count == len(one.read_text().splitlines()) == 4


def test_hostile_text_of_a_rule_stays_text_on_one_line(store: Store, tmp_path: Path) -> None:
    pool = ingest(store, ["a"]).ref
    draft = store.draft(filter_step(pool))
    draft.homes = list(store.describe(pool).homes)
    draft.rules = [Rule(name="odd", says=HOSTILE.replace("\ud800", "\u2028"))]
    positions = store.positions(pool)
    draft.put("verdicts/pool", positions.select(fate=_zero(8), rule=_zero(16), score=_zero(0)))
    draft.put("members", positions)
    ref = store.commit(draft).ref
    path, _ = write_openlineage(store, ref, tmp_path / "x.jsonl")
    text = path.read_text()
    assert text.isascii()
    assert "<" not in text
    assert len(text.splitlines()) == 4
    says = json.loads(text.splitlines()[-1])["run"]["facets"]["provender_rules"]["rules"][0]["says"]
    assert says == HOSTILE.replace("\ud800", "\u2028")


def _zero(bits: int) -> Any:
    return pl.lit(0).cast({8: pl.UInt8, 16: pl.UInt16, 0: pl.Float64}[bits])


def test_portable_json_mends_what_json_cannot_say() -> None:
    text = portable_json({HOSTILE: [float("nan"), float("inf"), 1.5]})
    (key, value) = next(iter(json.loads(text).items()))
    assert key == HOSTILE.replace("\ud800", "\ufffd")
    assert value == ["nan", "inf", 1.5]


def test_an_unknown_version_is_named(store: Store) -> None:
    with pytest.raises(MissingDataset):
        openlineage_events(store, "nothing")


@contextmanager
def _server(status: int) -> Iterator[tuple[str, list[tuple[str, dict[str, Any], str | None]]]]:
    taken: list[tuple[str, dict[str, Any], str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            taken.append((self.path, body, self.headers.get("Authorization")))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"no such namespace" if status >= 400 else b"")

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", taken
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_events_are_posted_one_by_one_in_order(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "sesame")
    events = openlineage_events(store, _filtered(store)[1].ref)
    with _server(201) as (url, taken):
        assert post_events(events, url) == 4
    assert [body for _, body, _ in taken] == json.loads(json.dumps(events))
    assert {(path, key) for path, _, key in taken} == {("/api/v1/lineage", "Bearer sesame")}


def test_a_refused_event_ends_the_sending_with_the_servers_words(store: Store) -> None:
    events = openlineage_events(store, _filtered(store)[1].ref)
    with (
        _server(422) as (url, taken),
        pytest.raises(BackendError, match=r"refused event 1 of 4 \(START of ingest.jsonl\) with status 422: 'no such"),
    ):
        post_events(events, url.replace("http://", "http://me:secret@"))
    assert len(taken) == 1
    with pytest.raises(BackendError, match="did not take event 1 of 4") as told:
        post_events(events, url.replace("http://", "http://me:secret@"))
    assert "secret" not in str(told.value)


@pytest.mark.parametrize("url", ["ftp://host/x", "http://", "lineage.jsonl", "http://[", "http://h:99999/"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="address"):
        endpoint(url)


def test_an_address_with_a_path_is_used_as_it_is() -> None:
    assert endpoint("https://host/api/v1/openlineage/lineage?x=1") == "https://host/api/v1/openlineage/lineage?x=1"
    assert endpoint("http://host:5000") == "http://host:5000/api/v1/lineage"
