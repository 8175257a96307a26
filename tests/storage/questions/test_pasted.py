"""A pasted text leads to the rows that are it, hold it, share its wording or read like it, with their fates."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from schemas.errors import MissingDataset, UsageError
from storage.questions.pasted import Pasted, pasted
from storage.questions.remembered import arrays
from storage.questions.trace import trace
from storage.store import Store
from tests.seeded import Seeded, seeded
from tests.storage.making import answers, examples, ingest, keep_where
from web.app import create_app

BREAD = "Knead the dough for ten minutes, then let it rest under a damp cloth until it doubles."
NOTES = [
    BREAD,
    "KNEAD the dough for ten minutes -- then let it rest under a damp cloth, until it doubles!",
    f"First of all: {BREAD} Bake it hot.",
    "Knead the dough for ten minutes, then shape it into rolls and freeze them at once for later.",
    "The capital of France is Paris, on the Seine.",
    "Ein Brot: Größe zählt. \u6211\u5011\u4eca\u5929\u5b78\u7fd2\u5982\u4f55\u70e4\u9762\u5305\u4e26\u4e14\u4eab\u7528\u5b83",
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store.open(tmp_path)
    pool = ingest(made, NOTES, batches=3)
    kept = keep_where(made, pool.ref, [False, True, True, True, True, True])
    made.tag("bread", kept.ref)
    return made


def how(found: Pasted) -> dict[str, str]:
    ids = {row.hex(): text for row, text in zip(examples(NOTES)["id"], answers(examples(NOTES)), strict=True)}
    return {ids[hit.id]: hit.how for hit in found.hits}


def test_each_row_is_labelled_how_it_was_found_surest_first(store: Store) -> None:
    found = pasted(store, BREAD)
    told = how(found)
    assert [told[text] for text in NOTES[:4]] == ["exact", "words", "holds", "shares"]
    assert NOTES[4] not in told or told[NOTES[4]] == "near"
    assert [hit.how for hit in found.hits[:4]] == ["exact", "words", "holds", "shares"]
    # of the text's 15 runs of three words, the fourth row holds "knead the dough" to "ten minutes then"
    assert found.hits[3].share == round(5 / 15, 4)
    assert (found.seen, found.rows) == (6, 6)


def test_a_dropped_row_is_found_with_what_dropped_it(store: Store) -> None:
    first = pasted(store, BREAD).hits[0]
    assert "Dropped at filter" in first.fate
    assert "too-short" in first.fate


def test_a_whole_conversation_and_a_text_without_spaces_are_found(store: Store) -> None:
    assert how(pasted(store, f"Q\n{BREAD}"))[BREAD] == "words"
    part = "\u4eca\u5929\u5b78\u7fd2\u5982\u4f55\u70e4\u9762\u5305\u4e26\u4e14\u4eab\u7528\u4e0d\u540c\u7684"
    assert how(pasted(store, part))[NOTES[5]] == "shares"


def test_the_same_words_are_found_whatever_stands_between_them_and_however_they_are_written(store: Store) -> None:
    """Not one run of the text stands between plain spaces there; fullwidth letters are the same letters."""
    torn = ", ".join(BREAD.rstrip(".").replace(",", "").split())
    wide = "".join(chr(ord(c) + 0xFEE0) if "!" < c < "~" and c.isalpha() else c for c in BREAD)
    listed = "\n".join(BREAD.split())
    other = ingest(store, [torn, wide, listed, "nothing of that kind"], "other")
    found = pasted(store, BREAD)
    ids = {row.hex(): i for i, row in enumerate(examples([torn, wide, listed], "other")["id"])}
    assert {ids[hit.id]: hit.how for hit in found.hits if hit.id in ids} == dict.fromkeys(range(3), "words")
    assert {hit.home for hit in found.hits if hit.id in ids} == {str(other.ref)}


def test_a_search_goes_on_where_its_time_ran_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.questions.pasted.AT_ONCE", 0)
    arrays.clear()
    assert [pasted(store, BREAD, seconds=0.0).seen for _ in range(4)] == [2, 4, 6, 6]


def test_within_a_version_only_its_history_counts(store: Store) -> None:
    other = ingest(store, ["Quite another matter: the dough is kneaded, and the loaf is baked.", NOTES[4]], "other")
    store.tag("other", keep_where(store, other.ref, [True, True]).ref)
    found = pasted(store, BREAD, within="bread@v1")
    assert (found.within, found.near_in, found.rows) == ("bread@v1", "bread@v1", 6)
    assert found.hits[0].how == "exact"
    assert pasted(store, BREAD, within="other").rows == 2
    assert {hit.how for hit in pasted(store, BREAD, within="other").hits} <= {"near"}
    assert pasted(store, BREAD).rows == 8
    with pytest.raises(MissingDataset, match="cake"):
        pasted(store, BREAD, within="cake")


def test_the_fate_is_the_sentence_that_its_story_begins_with(world: Seeded) -> None:
    """Kept, dropped, edited and written rows: what is told in short is what `trace` tells."""
    told: dict[str, str] = {}
    for text in ("Question 0 about topic 0", "Answer 3 explains the topic", "topic", "nine plain words"):
        for hit in pasted(world.store, text).hits:
            story = trace(world.store, hit.id)
            assert (hit.outcome, hit.fate) == (story.outcome, story.sentence)
            told[hit.id] = story.outcome
    assert {"kept", "dropped"} <= set(told.values())


def test_a_text_without_a_word_is_refused(store: Store) -> None:
    with pytest.raises(UsageError, match="no word"):
        pasted(store, "?!\n --- ")


@pytest.mark.parametrize(
    "text",
    [
        "' OR 1=1; -- (.*)[ {0} %s\n\\p{L}",
        "<script>alert(1)</script> a b c d e f g h",
        "\u202e\x00 ab\n\ud83d\ude00 cd",
    ],
)
def test_hostile_text_is_text(store: Store, text: str) -> None:
    assert all(hit.how == "near" for hit in pasted(store, text).hits)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    return seeded(tmp_path_factory.mktemp("store"))


def test_the_search_box_takes_a_pasted_text_to_its_rows(world: Seeded) -> None:
    client = TestClient(create_app(world.store.root, allowed_hosts=("testserver",), patience_seconds=None))
    typed = client.get("/find", params={"q": "nine plain words"}, follow_redirects=False)
    assert typed.headers["location"].startswith("/rows/")
    pasted_ = {"q": "Question 0 about topic 0?\n Answer 0 explains the topic in nine plain words"}
    answer = client.get("/find", params=pasted_)
    assert answer.url.path == "/pasted"
    assert world.dolly[0][:12] in answer.text
    assert "Dropped at filter by clear" in answer.text
    assert "same words" in answer.text
    hostile = client.get("/pasted", params={"text": "</textarea><script>alert(1)</script> and so on"})
    assert hostile.status_code == 200
    assert "<script>alert" not in hostile.text
    assert "&lt;/textarea&gt;" in hostile.text
    assert client.get("/pasted").status_code == 200
    twin = client.get("/pasted.json", params={"text": "Answer 0 explains the topic"})
    assert twin.json()["found"]["hits"][0]["id"] == world.dolly[0]
