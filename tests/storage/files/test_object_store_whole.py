"""The main job on object storage, as typed: the same refs and digests as in a folder, and every verb of the command line."""

import json
import os
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from cli.main import app
from flows.curate import curate
from storage.store import Store
from tasks.bench import bench_of
from tasks.ingest import ingest
from tasks.judge import filter_examples
from tests.storage.s3_client import WHERE, s3_environment
from tests.storage.s3_server import BUCKET, S3
from tests.tasks.fakes_recipe import recipe
from tests.web.driving import serving as browsing


@dataclass
class World:
    """A finished run on S3 and the same recipe's run in a folder."""

    s3: S3
    folder: Path
    file: Path
    dataset: str


def run(*words: str, store: str = WHERE, code: int = 0) -> str:
    done = CliRunner().invoke(app, [*words, "--store", store])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.stdout


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Generator[World, None, None]:
    folder = tmp_path_factory.mktemp("world")
    with s3_environment(folder / "home") as s3:
        made = recipe(folder)
        file = folder / "recipe.yaml"
        file.write_text(yaml.safe_dump(made.model_dump(mode="json", exclude_unset=True)), "utf-8")
        dataset = json.loads(run("run", str(file), "--without-prefect", "--json"))["dataset"]
        curate.fn(made, folder / "store", "in-a-folder")
        yield World(s3, folder, file, dataset)


def test_refs_and_digests_of_every_step_are_those_of_a_folder(world: World) -> None:
    found = [
        {str(m.ref): (m.digest, m.counts, m.parts) for m in Store.open(store, create=False).versions()}
        for store in (WHERE, world.folder / "store")
    ]
    assert len(found[0]) > 12
    trained = [ref for ref in found[0] if ref.startswith(("finetune@", "evaluate@"))]
    assert trained
    assert found[0] == found[1]


def test_shards_are_receipts_in_the_bucket_and_change_nothing(world: World) -> None:
    made = recipe(world.folder)
    bench = bench_of(made, Path(f"s3://{BUCKET}/sharded")).model_copy(update={"shard_rows": 20})
    found = filter_examples(ingest("rows", made.sources["rows"], bench), made.filter[0], bench)
    assert len([key for key in world.s3.objects if key.startswith(f"sharded/shards/{found.fingerprint}/")]) == 6
    whole = bench_of(made, world.folder / "whole")
    assert filter_examples(ingest("rows", made.sources["rows"], whole), made.filter[0], whole) == found
    stores = [Store.open(place) for place in (f"s3://{BUCKET}/sharded", world.folder / "whole")]
    assert stores[0].describe(found).digest == stores[1].describe(found).digest


def test_a_second_run_has_nothing_to_do_on_a_machine_that_has_only_the_bucket(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PROVENDER_HOME", str(tmp_path / "another"))
    before = {key: kept.modified for key, kept in world.s3.objects.items() if "/used/" not in key}
    run("run", str(world.file), "--without-prefect")
    assert {key: kept.modified for key, kept in world.s3.objects.items() if "/used/" not in key} == before


def test_every_verb_that_looks_works(world: World, tmp_path: Path) -> None:
    assert world.dataset in run("ls")
    assert "50" in run("show", "demo")
    kept = Store.open(WHERE).part(Store.open(WHERE).resolve("demo"), "train")["id"][0].hex()
    assert run("trace", kept).startswith("Kept")
    mix = next(str(m.ref) for m in Store.open(WHERE).versions() if m.step.stage == "select")
    assert json.loads(run("diff", mix, "demo", "--json"))
    assert run("query", "demo", "select count(*) as n from examples", "--json").count("50") == 1
    assert "publish@" in run("lineage", "demo", "--json")
    assert json.loads(run("verify", "--json")) == []
    run("report", "demo", "--to", str(tmp_path / "report.html"))
    assert (tmp_path / "report.html").stat().st_size > 5_000
    assert run("cache", "stats")
    assert run("runs")
    told = run("doctor")
    assert WHERE in told


def test_the_browser_serves_it(world: World) -> None:
    import httpx

    with browsing(Path(WHERE)) as page:
        for place in ("/", "/d/demo", "/rows/demo", "/graph/demo", "/benchmarks", "/runs", "/cost"):
            assert httpx.get(page + place, timeout=30, follow_redirects=True).status_code == 200, place
        asked: list[str] = []
        world.s3.before = lambda method, key: asked.append(key)
        assert httpx.get(page + "/d/demo", timeout=30, follow_redirects=True).status_code == 200
        world.s3.before = None
    assert [key for key in asked if key] == [], "what is known is not read again; only listings are asked for"


def test_an_export_is_the_same_as_from_a_folder(world: World, tmp_path: Path) -> None:
    for name, store in (("a", WHERE), ("b", str(world.folder / "store"))):
        run("export", "demo", "--to", str(tmp_path / name), store=store)
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "ab"]
    assert files[0]
    assert files[0] == files[1]


def test_garbage_goes_in_two_commands_and_what_a_tag_reaches_stays(world: World) -> None:
    assert os.environ["AWS_ENDPOINT_URL"] == world.s3.address
    before = {str(m.ref) for m in Store.open(WHERE).versions()}
    plan = json.loads(run("gc", "--json"))
    assert plan["versions"] == []
    run("gc", "--execute")
    assert {str(m.ref) for m in Store.open(WHERE).versions()} == before
