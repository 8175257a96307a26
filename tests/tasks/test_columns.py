"""Steps hold the columns they need: shards of any size give the same bytes, and a cut, a mixture or a ranking loads no text."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from methods.asking.sampling import CHUNK
from methods.dedup import AnyDedup
from methods.filter import AnyFilter
from methods.mix import AnyMix
from methods.rank import AnyRank
from methods.select import AnySelect
from schemas.errors import InvariantViolation, RecipeError
from schemas.lineage import DatasetRef, Manifest
from schemas.recipe import BackendChoices, Recipe, load_recipe
from storage.store import Store
from tasks import pilot, settle
from tasks import rank as ranking_step
from tasks.adhoc import adhoc_bench, taken_in
from tasks.bench import Bench, bench_of, open_store
from tasks.columns import tokens_in
from tasks.judge import dedup_examples, filter_examples
from tasks.materialise import step_of
from tasks.mix import mix_sources
from tasks.rank import rank_examples
from tasks.select import select_examples
from tasks.settle import PIECE_ROWS, all_different
from tasks.shards import judge_shard, receipt_of
from tests.outside_check import Outside

ROWS = 120
FILTERS = ({"method": "heuristics"}, {"method": "pii"}, {"method": "language"})


def rows_file(folder: Path, count: int = ROWS) -> Path:
    """Questions of several lengths; some answers are empty, in another language, or hold an address."""
    path = folder / "rows.jsonl"
    with path.open("w", encoding="utf-8") as sink:
        for n in range(count):
            answer = "The mail comes every morning and the river is long. " * (1 + n % 5) + f"Number {n}."
            answer += f" Write to bob{n}@mail.org." if n % 7 == 0 else ""
            answer = (
                "" if n % 13 == 0 else "Der Fluss ist lang und die Post kommt am Morgen." if n % 11 == 0 else answer
            )
            sink.write(json.dumps({"instruction": f"Tell me about river {n}, please.", "output": answer}) + "\n")
    return path


def method(union: Any, fields: dict[str, Any]) -> Any:
    return TypeAdapter(union).validate_python(fields)


def said_by(manifest: Manifest) -> tuple[Any, ...]:
    return str(manifest.ref), manifest.digest, manifest.counts, manifest.summary


def filtered(path: Path, bench: Bench) -> list[tuple[Any, ...]]:
    """What each filter in turn made of the rows."""
    pool, found = taken_in(str(path), bench), list[tuple[Any, ...]]()
    for fields in FILTERS:
        pool = filter_examples(pool, method(AnyFilter, fields), bench)
        found.append(said_by(open_store(bench).describe(pool)))
    return found


def benched(folder: Path, shard_rows: int) -> Bench:
    return adhoc_bench(folder, BackendChoices()).model_copy(update={"shard_rows": shard_rows})


def test_shards_of_any_size_give_the_same_refs_bytes_and_tables(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("whole")
    path = rows_file(folder)
    whole = filtered(path, benched(folder / "store", 1000))
    assert whole[1][2].inputs[0].edited > 10
    assert whole[1][3]["audit"]["personal data by kind"]["email"] > 10
    assert whole[2][3]["audit"]["answers by language"]["de"] > 5

    @settings(max_examples=8, deadline=None)
    @given(st.integers(1, ROWS - 1))
    def check(shard_rows: int) -> None:
        bench = benched(tmp_path_factory.mktemp("cut") / "store", shard_rows)
        assert filtered(path, bench) == whole
        store = open_store(bench)
        assert any(store.shards(DatasetRef.parse(ref)) for ref, *_ in whole)

    check()


def test_verdicts_are_settled_in_pieces_as_in_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = rows_file(tmp_path)
    whole = filtered(path, benched(tmp_path / "whole", 1000))
    monkeypatch.setattr(settle, "PIECE_ROWS", 17)
    cut = filtered(path, benched(tmp_path / "cut", 1000))
    same = [(ref, counts, summary) for ref, _, counts, summary in whole]
    assert [(ref, counts, summary) for ref, _, counts, summary in cut] == same
    one, other = Store.open(tmp_path / "whole"), Store.open(tmp_path / "cut")
    for ref, *_ in whole:
        for part in ("verdicts/pool", "members", "examples", "links"):
            version = DatasetRef.parse(ref)
            assert one.part(version, part).equals(other.part(version, part)), (ref, part)
    assert other.verify() == []
    outside = Outside(tmp_path / "cut")
    for manifest in outside.manifests:
        outside.check(manifest)


def test_a_killed_step_goes_on_with_shards_of_another_size(tmp_path: Path) -> None:
    path = rows_file(tmp_path)
    bench = benched(tmp_path / "store", 50)
    pool, heuristics = taken_in(str(path), bench), method(AnyFilter, FILTERS[0])
    step = step_of("filter", heuristics, [("pool", pool)], bench)
    judge_shard.fn(0, step, heuristics, bench)
    judge_shard.fn(2, step, heuristics, bench)
    smaller = bench.model_copy(update={"shard_rows": 20})
    done = open_store(bench).describe(filter_examples(pool, heuristics, smaller))
    known = open_store(bench).shards(done.ref)
    assert set(known) == {receipt_of(n, bench) for n in (0, 2)} | {receipt_of(n, smaller) for n in range(6)}
    assert said_by(done) == filtered(path, benched(tmp_path / "whole", 1000))[0]


class Watched(Store):
    """A store that notes which columns it is asked for whole, and which in batches."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.disk)
        self.whole: list[set[str]] = []
        self.texts_of: set[DatasetRef] = set()
        self.most = 0

    def pool(self, ref: DatasetRef, columns: Sequence[str] | None = None) -> pl.DataFrame:
        found = super().pool(ref, columns)
        self.whole.append(set(found.columns))
        if "messages" in found.columns:
            self.texts_of.add(ref)
        return found

    def batches(self, *args: Any, **kwargs: Any) -> Iterator[pl.DataFrame]:
        for rows in super().batches(*args, **kwargs):
            if "messages" in rows.columns:
                self.most = max(self.most, rows.height)
            yield rows


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Watched, Bench, DatasetRef]:
    bench = benched(tmp_path / "store", 30)
    pool = taken_in(str(rows_file(tmp_path)), bench)
    store = Watched(open_store(bench))
    monkeypatch.setattr("tasks.materialise.open_store", lambda bench: store)
    for place in ("tasks.columns.BATCH_ROWS", "tasks.rank.BATCH_ROWS", "tasks.figures._BATCH_ROWS"):
        monkeypatch.setattr(place, 32)
    return store, bench, pool


def test_no_step_of_columns_has_texts_in_memory(watched: tuple[Watched, Bench, DatasetRef]) -> None:
    store, bench, pool = watched
    kept = filter_examples(pool, method(AnyFilter, {"method": "pii"}), bench)
    ranking = rank_examples(kept, None, method(AnyRank, {"method": "length"}), bench)
    chosen = select_examples(kept, ranking, method(AnySelect, {"method": "top", "budget_tokens": 3000}), bench)
    mixed = mix_sources(
        chosen, method(AnyMix, {"method": "temperature", "total_examples": 90, "max_repeats": 3}), bench
    )
    assert store.describe(mixed).counts.rows_out == 90
    assert store.whole
    assert not any("messages" in columns for columns in store.whole), store.whole
    assert 0 < store.most <= 32


@pytest.mark.parametrize(
    "fields", [{"method": "exact"}, {"method": "minhash"}, {"method": "semantic", "threshold": 0.999}]
)
def test_dedup_reads_texts_in_batches_only_and_settles_beside_ids(
    watched: tuple[Watched, Bench, DatasetRef], fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, bench, pool = watched
    asked: list[tuple[int, tuple[str, ...]]] = []
    real = store.batches

    def batches(
        ref: DatasetRef, rows: int, columns: Sequence[str], members: pl.DataFrame | None = None
    ) -> Iterator[pl.DataFrame]:
        asked.append((rows, tuple(columns)))
        return real(ref, rows, columns, members)

    monkeypatch.setattr(store, "batches", batches)
    engines = BackendChoices.model_validate({"embed": {"backend": "hashing", "dim": 32}})
    dedup_examples(pool, method(AnyDedup, fields), bench.model_copy(update={"backends": engines}))
    assert store.whole == []
    assert {rows for rows, columns in asked if "messages" in columns} == {32}
    assert {(rows, columns) for rows, columns in asked if "messages" not in columns} == {(PIECE_ROWS, ("id",))}


def test_no_step_that_embeds_has_the_texts_of_its_pool_in_memory(
    watched: tuple[Watched, Bench, DatasetRef], tmp_path: Path
) -> None:
    store, bench, pool = watched
    engines = BackendChoices.model_validate({"embed": {"backend": "hashing", "dim": 32}})
    bench = bench.model_copy(update={"backends": engines})
    aims = tmp_path / "aims"
    aims.mkdir()
    target = taken_in(str(rows_file(aims, 9)), bench)
    pool = dedup_examples(pool, method(AnyDedup, {"method": "semantic", "threshold": 0.999}), bench)
    for fields in ("rds-plus", "got-d", "tsds", "knn-shapley"):
        ranking = rank_examples(pool, target, method(AnyRank, {"method": fields}), bench)
    for fields in ("k-center", "facility-location", "kmq", "deita"):
        cut = {"method": fields, "budget_tokens": 900} | ({"weights": "rank"} if fields == "kmq" else {})
        chosen = select_examples(pool, ranking, method(AnySelect, cut), bench)
        assert 0 < store.describe(chosen).counts.rows_out < store.describe(pool).counts.rows_out
    assert store.texts_of == {target}
    assert 0 < store.most <= 32


def test_batches_of_a_ranking_are_equal_and_give_what_one_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = rows_file(tmp_path)
    found = list[tuple[Any, ...]]()
    for name, most in (("one", 1000), ("many", 7)):
        monkeypatch.setattr(ranking_step, "BATCH_ROWS", most)
        bench = benched(tmp_path / name, 1000)
        ref = rank_examples(taken_in(str(path), bench), None, method(AnyRank, {"method": "length"}), bench)
        found.append(said_by(open_store(bench).describe(ref)))
    assert found[0] == found[1]


@given(st.integers(1, 20_000_000))
def test_no_batch_of_a_ranking_is_a_handful_and_whole_lists_go_to_the_engine(count: int) -> None:
    size = ranking_step.batch_of(count)
    last = (count - 1) % size + 1
    assert size <= 32_768
    assert size == count or (size % CHUNK == 0 and last >= 4 * CHUNK)


def test_tokens_are_those_of_the_rows_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = benched(tmp_path / "store", 1000)
    pool = taken_in(str(rows_file(tmp_path)), bench)
    store = open_store(bench)
    monkeypatch.setattr("tasks.columns.BATCH_ROWS", 17)
    sizes = [
        sum(len((turn["content"] or "").encode()) for turn in row) for row in store.pool(pool)["messages"].to_list()
    ]
    turns = store.pool(pool)["messages"].list.len().to_list()
    assert tokens_in(store, pool).to_list() == [-(-size // 4) + 4 * n for size, n in zip(sizes, turns, strict=True)]


def test_ids_that_differ_only_in_their_second_half_are_different_and_a_repeat_is_found():
    ids = pl.Series([b"12345678" + bytes([n] * 8) for n in range(5)], dtype=pl.Binary)
    assert all_different(ids)
    assert not all_different(pl.concat([ids, ids[:1]]))
    assert all_different(pl.Series([b"short", b"ids"], dtype=pl.Binary))
    assert not all_different(pl.Series([b"short", b"short"], dtype=pl.Binary))
    assert all_different(pl.Series([], dtype=pl.Binary))


def test_a_verdict_too_many_or_of_another_example_is_refused():
    ids = pl.Series("id", [bytes([n]) * 16 for n in range(3)], dtype=pl.Binary)
    good = pl.DataFrame({"id": ids.reverse(), "fate": ["keep", "reject", "keep"]})
    assert settle.aligned(ids, good, "filter/test")["fate"].to_list() == ["keep", "reject", "keep"]
    assert settle.aligned(ids, good, "filter/test")["id"].equals(ids)
    with pytest.raises(InvariantViolation, match="gave 3 verdicts, 2 of them distinct, for 3 examples"):
        settle.aligned(ids, good.with_columns(id=pl.Series([ids[0], ids[1], ids[0]], dtype=pl.Binary)), "filter/test")
    with pytest.raises(InvariantViolation, match="gave no fate"):
        settle.aligned(
            ids, good.with_columns(id=pl.Series([ids[0], ids[1], b"x" * 16], dtype=pl.Binary)), "filter/test"
        )


def test_a_recipe_says_how_large_shards_are_within_bounds(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    text = f"name: demo\nsources: {{rows: {rows_file(tmp_path)}}}\n"
    path.write_text(text, "utf-8")
    assert bench_of(load_recipe(path), tmp_path / "store").shard_rows == 100_000
    path.write_text(text + "run: {shard_rows: 5000}\n", "utf-8")
    assert bench_of(load_recipe(path), tmp_path / "store").shard_rows == 5000
    assert load_recipe(path, ["run.shard_rows=7000"]).run.shard_rows == 7000
    for wrong, says in (("999", "1000"), ("10000001", "10000000")):
        path.write_text(text + f"run: {{shard_rows: {wrong}}}\n", "utf-8")
        with pytest.raises(RecipeError, match=rf"run\.shard_rows: .*{says}"):
            load_recipe(path)
    with pytest.raises(RecipeError, match=r"run\.shards"):
        load_recipe(tmp_path / "recipe.yaml", ["run={shards: 3}"])


def test_a_recipe_of_before_means_what_it_meant(tmp_path: Path) -> None:
    document = {"name": "demo", "sources": {"rows": str(rows_file(tmp_path))}}
    assert Recipe.model_validate(document).run.shard_rows == Bench(store=tmp_path).shard_rows == 100_000


@pytest.mark.parametrize("wanted", [10, 25, 40])
def test_a_mixture_of_a_mixture_has_as_many_examples_as_were_asked_for(tmp_path: Path, wanted: int) -> None:
    """An example that stands in the pool three times is three rows of it; once each was counted three times over."""
    bench = benched(tmp_path / "store", 1000)
    pool = taken_in(str(rows_file(tmp_path, 10)), bench)
    fields = {"method": "temperature", "max_repeats": 4}
    once = mix_sources(pool, method(AnyMix, fields | {"total_examples": 25}), bench)
    twice = mix_sources(once, method(AnyMix, fields | {"total_examples": wanted}), bench)
    made = open_store(bench).describe(twice)
    assert made.counts.rows_out == wanted == sum(made.summary["take"].values())
    assert made.summary["composition"][0]["rows"] == wanted
    assert open_store(bench).verify(twice) == []


def test_a_pilot_knows_each_example_of_several_versions_once_and_takes_its_text_from_where_it_lies(
    watched: tuple[Watched, Bench, DatasetRef],
) -> None:
    store, bench, pool = watched
    kept = filter_examples(pool, method(AnyFilter, {"method": "pii"}), bench)
    homes, plain = [kept, pool], open_store(bench)
    whole = pl.concat([plain.pool(ref) for ref in homes]).unique("id", keep="first", maintain_order=True)
    places = pilot.places_of(store, homes)
    assert places["id"].to_list() == whole["id"].to_list()
    assert whole.height > ROWS  # masked examples and their originals
    rows = pl.concat([pilot.taken(store, ref, places.filter(of=n)["at"]) for n, ref in enumerate(homes)])
    assert rows.equals(whole)
    assert not any("messages" in columns for columns in store.whole)
