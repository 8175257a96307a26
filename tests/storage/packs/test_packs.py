"""Benchmark packs: the shipped ones are what their list says, one's own are read or refused with a reason."""

import json
from datetime import date

import polars as pl
import pytest

from schemas.errors import BadName, MissingSource, UnreadableSource, UntrustedSource, UsageError
from storage.packs.making import add, build, remove
from storage.packs.shelf import known, load_pack, pack_folder, packs


def write(path, *rows: dict):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", packs())
def test_a_shipped_pack_is_what_its_list_says(name: str):
    pack, info = load_pack(name), packs()[name]
    assert (pack.name, pack.version, pack.digest, pack.license) == (name, str(info.version), info.sha256, info.license)
    assert pack.items.schema == {"item": pl.String, "prompt": pl.String, "answer": pl.String}
    assert pack.items.height == info.items
    assert pack.items["item"].n_unique() == info.items
    assert pack.items["prompt"].null_count() == 0
    assert (pack.items["prompt"].str.len_chars() > 0).all()


def test_the_seven_packs_ship():
    assert set(packs()) == {"gsm8k", "humaneval", "mbpp", "mmlu", "truthfulqa", "bbh", "ifeval"}


def test_multiple_choice_answers_are_the_text_of_the_right_choice():
    items = load_pack("mmlu").items
    assert items["answer"].null_count() == 0
    assert (items["answer"].str.len_chars() > 1).mean() > 0.9


def test_an_own_file_is_a_pack_named_after_it(tmp_path):
    path = write(
        tmp_path / "Exam_1.jsonl", {"question": "Who?", "target": 42, "x": 1}, {"question": "Why?", "target": None}
    )
    pack = load_pack(path)
    assert pack.name == "exam_1"
    assert pack.items.rows() == [("0", "Who?", "42"), ("1", "Why?", None)]
    assert pack.version == pack.digest[:12]
    pack.items.rename({"item": "id"}).write_parquet(tmp_path / "gsm8k.parquet")
    copy = load_pack(str(tmp_path / "gsm8k.parquet"))
    assert copy.name == "gsm8k-own"
    assert copy.items.equals(pack.items)


def test_the_digest_is_of_the_bytes(tmp_path):
    first = load_pack(write(tmp_path / "a.jsonl", {"prompt": "x"})).digest
    assert load_pack(write(tmp_path / "b.jsonl", {"prompt": "x"})).digest == first
    assert load_pack(write(tmp_path / "a.jsonl", {"prompt": "y"})).digest != first


@pytest.mark.parametrize(
    ("name", "content", "error", "says"),
    [
        ("bad.parquet", b"PAR1 nonsense", UnreadableSource, "cannot be read"),
        ("bad.jsonl", b'{"prompt": "x"\n', UnreadableSource, "cannot be read"),
        ("latin.jsonl", b'{"prompt": "caf\xe9"}\n', UnreadableSource, "cannot be read"),
        ("none.jsonl", b'{"a": 1}\n', UnreadableSource, "has the columns a; one of prompt, question"),
        ("empty.jsonl", b"", UnreadableSource, "bench|empty"),
        ("list.jsonl", b'{"prompt": {"a": 1}}\n', UnreadableSource, "it must hold text or numbers"),
        ("twice.jsonl", b'{"prompt": "x", "id": 1}\n{"prompt": "y", "id": 1}\n', UnreadableSource, "two of one name"),
        ("con.jsonl", b'{"prompt": "x"}\n', BadName, "reserved"),
        ("exam.csv", b"prompt\nx\n", MissingSource, "shipped are gsm8k"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_pack_says_why(tmp_path, name: str, content: bytes, error: type, says: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=says):
        load_pack(tmp_path / name)


def test_missing_names_and_files_and_folders_are_told_apart(tmp_path):
    with pytest.raises(MissingSource, match="no benchmark pack 'gsm9k'; shipped are gsm8k"):
        load_pack("gsm9k")
    with pytest.raises(MissingSource, match="does not exist"):
        load_pack(tmp_path / "absent.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(UntrustedSource, match="not a regular file"):
        load_pack(tmp_path / "folder.jsonl")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PROVENDER_HOME", str(tmp_path / "home"))
    return tmp_path


def test_an_added_pack_has_a_name_a_version_and_a_digest_that_is_checked(home):
    path = write(home / "exam.jsonl", {"q": "Who?", "a": "I", "n": 7}, {"q": "Why?", "a": None, "n": 8})
    columns = {"prompt": "q", "answer": "a", "item": "n"}
    name, info = add(str(path), columns=columns, license_="MIT", released=date(2024, 5, 1))
    assert (name, info.version, info.items) == ("exam", 1, 2)
    pack = load_pack("exam")
    assert pack.items.rows() == [("7", "Who?", "I"), ("8", "Why?", None)]
    assert (pack.version, pack.digest, pack.license, pack.released) == ("1", info.sha256, "MIT", date(2024, 5, 1))
    assert add(str(path), columns=columns)[1].version == 1, "equal items, equal version"
    write(path, {"q": "Who else?", "a": "I", "n": 7})
    assert add(str(path), columns=columns)[1].version == 2
    assert list(known()) == [*packs(), "exam"]
    (pack_folder() / "exam.parquet").write_bytes(b"PAR1")
    with pytest.raises(UnreadableSource, match="add the pack again"):
        load_pack("exam")
    remove("exam")
    with pytest.raises(MissingSource, match="no benchmark pack 'exam'"):
        load_pack("exam")


def test_a_built_pack_is_a_file_that_a_recipe_names(home):
    path = write(home / "exam.jsonl", {"question": "Who?", "answer": "I"})
    name, info = build(str(path), home / "mine", name="finals")
    pack = load_pack(home / "mine" / f"{name}.parquet")
    assert (pack.name, pack.digest, pack.items.rows()) == ("finals", info.sha256, [("0", "Who?", "I")])


def test_what_cannot_be_added_says_why(home):
    path = write(home / "exam.jsonl", {"question": "Who?"})
    with pytest.raises(BadName, match="gsm8k ships"):
        add(str(path), name="gsm8k")
    with pytest.raises(UnreadableSource, match="has no column 'q'; it has question"):
        add(str(path), columns={"prompt": "q"})
    with pytest.raises(BadName, match="was added"):
        remove("gsm8k")
    (home / "home" / "packs").mkdir(parents=True)
    (home / "home" / "packs" / "broken.yaml").write_text("title: 1\n", encoding="utf-8")
    with pytest.raises(UnreadableSource, match="remove it and add the pack again"):
        load_pack("anything")


def test_a_hub_pack_without_network_says_what_to_do(home, monkeypatch):
    import datasets

    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach the hub")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(UnreadableSource, match="provender benchmarks add FILE"):
        load_pack("hub:someone/exam@0123456789abcdef0123456789abcdef01234567")
    with pytest.raises(UsageError, match="commit"):
        load_pack("hub:someone/exam@main")


def test_a_hub_pack_is_read_from_its_rows(home, monkeypatch):
    import datasets

    asked: list[tuple[object, ...]] = []

    def load(repo: str, config: str | None, *, split: str, revision: str) -> datasets.Dataset:
        asked.append((repo, config, split, revision[:4]))
        return datasets.Dataset.from_dict({"question": ["Who?", "Why?"], "answer": ["I", None]})

    monkeypatch.setattr(datasets, "load_dataset", load)
    pack = load_pack("hub:someone/Exam_X@0123456789abcdef0123456789abcdef01234567:main")
    assert asked == [("someone/Exam_X", "main", "test", "0123")]
    assert (pack.name, pack.items.rows()) == ("exam_x", [("0", "Who?", "I"), ("1", "Why?", None)])
