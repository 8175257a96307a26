"""The lineage of a version as OpenLineage events: START and COMPLETE of every step, for catalogues that read the standard."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit
from uuid import NAMESPACE_URL, uuid5

import httpx

from schemas.errors import BackendError, UsageError
from schemas.lineage import DatasetRef, InputCounts, Manifest
from storage.export.portable import portable_json
from storage.questions import figures
from storage.questions.funnel import seconds_of
from storage.questions.words import method_tag
from storage.reports.report import write_whole
from storage.seek import Reader
from storage.store import Store

Json = dict[str, Any]

SPEC = "https://openlineage.io/spec/2-0-2/OpenLineage.json"

#: Jobs and datasets are named within this namespace unless the caller has one per store.
NAMESPACE = "provender"

#: Facets of the standard that fit, at the version their documents carry.
_STANDARD = {
    "version": "https://openlineage.io/spec/facets/1-0-0/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet",
    "outputStatistics": (
        "https://openlineage.io/spec/1-0-1/OutputStatisticsOutputDatasetFacet.json"
        "#/$defs/OutputStatisticsOutputDatasetFacet"
    ),
    "jobType": "https://openlineage.io/spec/facets/2-0-4/JobTypeJobFacet.json#/$defs/JobTypeJobFacet",
}

#: Seconds that a server may take for one event.
TIMEOUT = 30.0


def write_openlineage(
    store: Store, version: DatasetRef | str, path: str | Path, *, namespace: str = NAMESPACE
) -> tuple[Path, int]:
    """Writes the events of a ref or tag as JSON lines; the path and how many. ``StoreUnwritable`` if it cannot."""
    events = openlineage_events(store, version, namespace=namespace)
    return write_whole(Path(path), "".join(portable_json(event) + "\n" for event in events)), len(events)


def openlineage_events(store: Store, version: DatasetRef | str, *, namespace: str = NAMESPACE) -> list[Json]:
    """Two events per step of the version's lineage, sources first, START before COMPLETE.

    They depend on nothing but the store: run ids are made from the commits, times are the recorded ones, so a second export
    is the same text and a server that gets it twice sees the same runs. Raises ``MissingDataset``.
    """
    reader = Reader(store)
    ref = store.resolve(version) if isinstance(version, str) else version
    upstream = store.upstream(ref)
    reader.know(upstream)
    known = {manifest.ref: manifest for manifest in upstream}
    return [event for manifest in upstream for event in _events(reader, manifest, known, namespace)]


def post_events(events: Sequence[Mapping[str, Any]], url: str, *, transport: httpx.BaseTransport | None = None) -> int:
    """Sends events one by one in order to an OpenLineage endpoint; how many were taken.

    An address without a path gets ``/api/v1/lineage``. ``OPENLINEAGE_API_KEY`` is sent as a bearer token where it is set.
    Redirects are not followed: the key is for the named host. Raises ``UsageError`` for what is no http(s) address and
    ``BackendError`` at the first event that is not taken, with the server's answer; sending again is safe.
    """
    target = endpoint(url)
    key = os.environ.get("OPENLINEAGE_API_KEY")
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    with httpx.Client(trust_env=False, timeout=TIMEOUT, transport=transport) as http:
        for number, event in enumerate(events, 1):
            what = f"event {number} of {len(events)} ({event['eventType']} of {event['job']['name']})"
            try:
                answer = http.post(target, content=portable_json(event), headers=headers)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise BackendError(
                    f"{shown(target)} did not take {what}: {type(error).__name__}: {error}; "
                    "check that the server runs and send again, events that arrived are recognised by their run ids"
                ) from error
            if not answer.is_success:
                raise BackendError(
                    f"{shown(target)} refused {what} with status {answer.status_code}: {answer.text[:200]!a}; "
                    "check the address and OPENLINEAGE_API_KEY, or write the events to a file with --out"
                )
    return len(events)


def endpoint(url: str) -> str:
    """The address that events are posted to; ``UsageError`` for what is no http(s) address with a host."""
    try:
        parts = urlsplit(url)
        port_is_sound = parts.port is None or parts.port > 0
    except ValueError:
        raise UsageError(
            f"{url.rpartition('@')[2][:80]!a} is no address for events; write http(s)://host[:port][/path]"
        ) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_sound:
        raise UsageError(f"{shown(url)!a} is no address for events; write http(s)://host[:port][/path]")
    return urlunsplit(parts._replace(path="/api/v1/lineage" if parts.path in ("", "/") else parts.path, fragment=""))


def shown(url: str) -> str:
    """The address without name, password and query: what an error may say."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))[:200]


def producer() -> str:
    """The URI of who says so."""
    return f"urn:provender:{metadata.version('provender')}"


def _events(reader: Reader, manifest: Manifest, known: Mapping[DatasetRef, Manifest], namespace: str) -> list[Json]:
    started, ended = times(manifest)
    run_id = str(uuid5(NAMESPACE_URL, f"urn:provender:run:{manifest.ref}:{manifest.commit_id}"))
    job: Json = {
        "namespace": namespace,
        "name": f"{manifest.ref.stage}.{method_tag(manifest)}",
        "facets": {
            "jobType": _standard(
                "jobType", processingType="BATCH", integration="PROVENDER", jobType=manifest.ref.stage
            ),
            "provender_method": _own("JobFacet", _method(manifest)),
        },
    }
    shared = {"job": job, "producer": producer(), "schemaURL": f"{SPEC}#/$defs/RunEvent"}
    counts = {counted.role: counted for counted in manifest.counts.inputs}
    inputs = [_input(role, ref, counts.get(role), known, namespace) for role, ref in manifest.step.inputs]
    inputs = _once(inputs)

    def event(kind: Literal["START", "COMPLETE"], time: str, run_facets: Json, output: Json) -> Json:
        run: Json = {"runId": run_id, "facets": run_facets}
        return {"eventType": kind, "eventTime": time, "run": run, **shared, "inputs": inputs, "outputs": [output]}

    named = {"namespace": namespace, "name": str(manifest.ref)}
    return [
        event("START", started, {}, named),
        event("COMPLETE", ended, _run_facets(reader, manifest), {**named, **_output_facets(manifest)}),
    ]


def _run_facets(reader: Reader, manifest: Manifest) -> Json:
    counts = manifest.counts
    money = figures.total([use.money for use in figures.money_by_model(reader, manifest)])
    found = {
        "provender_counts": {
            "rowsIn": sum(one.rows for one in counts.inputs if not one.passed_by),
            **{fate: sum(getattr(one, fate) for one in counts.inputs) for fate in _FATES},
            "created": counts.created,
            "refused": counts.refused,
            "repeats": counts.repeats,
            "rowsOut": counts.rows_out,
        },
        "provender_rules": {
            "rules": [
                {**rule.model_dump(mode="json"), "rows": manifest.reasons.get(rule.name, 0)} for rule in manifest.rules
            ]
        },
        "provender_cost": {
            "calls": money.calls,
            "cachedCalls": money.cached_calls,
            "failedCalls": money.failed_calls,
            "unpricedCalls": money.unpriced_calls,
            "promptTokens": money.prompt_tokens,
            "completionTokens": money.completion_tokens,
            "usd": money.usd if money.calls else 0.0,  # None: a call had no price, so nobody knows
            "seconds": seconds_of(manifest),
        },
    }
    return {name: _own("RunFacet", facet) for name, facet in found.items()}


_FATES = ("kept", "rejected", "edited", "quarantined")


def _method(manifest: Manifest) -> Json:
    step = manifest.step
    return {
        "stage": step.stage,
        "method": method_tag(manifest),
        "fields": dict(step.method),
        "backends": dict(step.backends),
        "rngSeed": step.rng_seed,
        "content": dict(step.content),
    }


def _input(
    role: str, ref: DatasetRef, counted: InputCounts | None, known: Mapping[DatasetRef, Manifest], namespace: str
) -> Json:
    facet: Json = {"roles": [{"role": role, "consumed": counted is not None and not counted.passed_by}]}
    if counted is not None:
        facet["roles"][0] |= {"rows": counted.rows, **{fate: getattr(counted, fate) for fate in _FATES}}
    return {
        "namespace": namespace,
        "name": str(ref),
        "facets": {"version": _standard("version", datasetVersion=known[ref].digest)} if ref in known else {},
        "inputFacets": {"provender_fates": _own("InputDatasetFacet", facet)},
    }


def _once(inputs: list[Json]) -> list[Json]:
    """A dataset that is read in several roles is one input with several roles."""
    found: dict[str, Json] = {}
    for one in inputs:
        held = found.setdefault(one["name"], one)
        if held is not one:
            held["inputFacets"]["provender_fates"]["roles"] += one["inputFacets"]["provender_fates"]["roles"]
    return list(found.values())


def _output_facets(manifest: Manifest) -> Json:
    digest = {
        "ref": str(manifest.ref),
        "sha256": manifest.digest,
        "seal": manifest.seal,
        "nondeterministic": manifest.nondeterministic,
    }
    statistics = _standard("outputStatistics", rowCount=manifest.counts.rows_out, size=figures.size_of(manifest))
    return {
        "facets": {
            "version": _standard("version", datasetVersion=manifest.digest),
            "provender_digest": _own("DatasetFacet", digest),
        },
        "outputFacets": {"outputStatistics": statistics},
    }


def times(manifest: Manifest) -> tuple[str, str]:
    """When a step began and ended, UTC. Without a recorded begin both are the time of the commit."""
    committed = _moment(manifest.run.get("committed_at")) or datetime.fromtimestamp(0, UTC)
    started = _moment(manifest.run.get("started_at")) or committed
    took = seconds_of(manifest)
    ended = started + timedelta(seconds=took) if took is not None and 0 <= took < 1e9 else committed
    return _iso(started), _iso(max(started, ended))


def _moment(text: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _own(entity: str, fields: Mapping[str, Any]) -> Json:
    """One of our facets. Its schema is the entity's own in the standard, which lets further fields be."""
    return {"_producer": producer(), "_schemaURL": f"{SPEC}#/$defs/{entity}", **fields}


def _standard(name: str, **fields: Any) -> Json:
    return {"_producer": producer(), "_schemaURL": _STANDARD[name], **fields}
