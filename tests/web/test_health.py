"""Store health and receipts in the real browser app: damage is shown as such, takes nothing down, changes nothing."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from storage.layout import manifest_path
from storage.questions.health import Health
from storage.questions.receipt import Receipt
from storage.store import Store
from tests.seeded import Seeded, seeded
from tests.storage.making import ingest, keep_where
from tests.storage.s3_client import WHERE, s3_environment
from tests.web.parsed import PAYLOADS, Page
from tests.web.test_safety import _is_clean
from web.app import create_app


def browser(root: str | Path) -> TestClient:
    return TestClient(create_app(root, allowed_hosts=("testserver",), patience_seconds=None))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    return seeded(tmp_path_factory.mktemp("hostile"), hostile="".join(PAYLOADS))


def test_every_page_leads_to_health_and_a_version_to_its_receipt(hostile: Seeded) -> None:
    client = browser(hostile.store.root)
    assert "/health" in Page(client.get("/").text).links
    links = Page(client.get("/d/support-bot@v2").text).links
    assert "/receipt/support-bot@v2" in links
    assert client.get("/receipt/support-bot@v2").status_code == 200
    told = client.get("/receipt/support-bot", follow_redirects=False)
    assert (told.status_code, told.headers["location"]) == (303, "/receipt/support-bot@v2")
    assert client.get("/receipt/support-bot@v9").status_code == 404
    assert client.get("/health?verify=twice").status_code == 400
    assert client.get("/receipt/support-bot@v2?verify=2").status_code == 400


def test_hostile_text_stays_text_on_both_pages(hostile: Seeded) -> None:
    client = browser(hostile.store.root)
    (hostile.store.root / "tmp" / "<img src=x onerror=alert(1)>.object").write_bytes(b"x")
    told = 0
    receipts = [f"/receipt/{manifest.ref}" for manifest in hostile.store.versions()]
    for address in ("/health", "/health?verify=all", "/receipt/support-bot@v1?verify=1", *receipts):
        answer = client.get(address)
        assert answer.status_code == 200, address
        assert "unsafe" not in answer.headers["content-security-policy"].partition("style-src")[0]
        page = Page(answer.text)
        told += page.text.count("<img src=x onerror=alert(1)>")
        _is_clean(page, address)
    assert told > 2


def test_damage_is_found_shown_and_takes_nothing_else_down(tmp_path: Path) -> None:
    world = seeded(tmp_path)
    client = browser(tmp_path)
    assert "sound" in Page(client.get("/health").text).text
    victim = world.store.describe(world.strict["clear"])
    part = victim.parts["verdicts/pool"][0]
    path = world.store.disk.object_path(part.sha256)
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(bytes(data))
    assert Health.model_validate(client.get("/health.json").json()).troubles == ()
    assert "1 finding" in Page(client.get("/health?verify=all").text).text
    (hurt,) = client.get("/health.json?verify=all").json()["hurt"]
    assert hurt["ref"] == str(victim.ref)
    shown = client.get(f"/receipt/{victim.ref}?verify=1")
    assert shown.status_code == 200
    assert "have the digest" not in Page(client.get(f"/receipt/{victim.ref}").text).text
    assert "have the digest" in Page(shown.text).text
    manifest_path(tmp_path, victim.ref).write_text("{")
    for address in ("/health", "/health?verify=all", f"/receipt/{victim.ref}", "/receipt/support-bot@v2", "/"):
        assert client.get(address).status_code == 200, address
    told = Receipt.model_validate(client.get(f"/receipt/{victim.ref}.json").json())
    assert not told.sound_manifest
    page = Page(client.get("/health").text)
    assert f"/receipt/{victim.ref}?verify=1" in page.links
    assert "Nothing can be planned" in page.text


def test_a_bucket_is_told_as_far_as_it_can_be_without_fetching(tmp_path: Path) -> None:
    with s3_environment(tmp_path / "home"):
        store = Store.open(WHERE)
        kept = keep_where(store, ingest(store, ["a", "bbb"]).ref, [False, True])
        store.tag("demo", kept.ref)
        client = browser(WHERE)
        told = Health.model_validate(client.get("/health.json").json())
        assert (told.checked, told.here, told.versions, told.unknown) == ("none", False, 2, ())
        assert any(use.name == "objects" and not use.here and use.bytes for use in told.use)
        page = Page(client.get("/health").text)
        assert "not checked" in page.text
        assert "/health?verify=structure" in page.links
        assert client.get("/health.json?verify=all").json()["checked"] == "all"
        assert {one["state"] for one in client.get("/receipt/demo@v1.json").json()["files"]} == {"unread"}
        deep = client.get("/receipt/demo@v1.json?verify=1").json()
        assert {one["state"] for one in deep["files"]} == {"whole"}
        assert client.get("/receipt/demo@v1").status_code == 200
