"""Screenshots of every page for the documentation: light and wide, and three of them dark on a phone.

    provender run recipes/quickstart.yaml --store demo/store --demo
    python -m tests.web.screens demo/store docs/screens

Needs chromium and Playwright. Pictures above ``MOST_BYTES`` are refused: the repository stays small.
"""

import sys
from pathlib import Path
from urllib.parse import quote

from storage.questions.blast import causes
from storage.questions.dense import columns_of
from storage.questions.rows import rows
from storage.questions.what_if import what_if
from storage.runs import runs
from storage.seek import Reader
from storage.store import Store
from tests.web.driving import PAGES, chromium, serving

MOST_BYTES = 200_000
ON_A_PHONE = ("version", "rows", "example-generated")


def blanks(store: Store) -> dict[str, str]:
    """What the addresses of ``PAGES`` leave open, taken from the newest dataset of a store."""
    tag = max(store.tags(), key=lambda one: one.created_at)
    name = f"{tag.name}@v{tag.number}"
    made = {m.step.method.get("name", "synthetic") for m in store.upstream(tag.ref) if m.ref.stage == "generate"}
    deep = [line for line in rows(store, tag.ref, limit=500).rows if line.synthetic_depth]
    generated = [line.id for line in sorted(deep, key=lambda line: line.source in made)]
    scored = next((column for column in columns_of(Reader(store), tag.ref) if column.threshold is not None), None)
    (first, *_) = what_if(store, tag.ref).thresholds
    moved = first.threshold + (first.high - first.threshold) * (0.12 if first.direction == "keep-above" else -0.12)
    before = store.tag_history(tag.name)
    steps = [m.ref for m in store.upstream(tag.ref) if m.counts.rows_out and m.ref.stage == "select"]
    other = f"{tag.name}@v{before[-2].number}" if len(before) > 1 else str(steps[0] if steps else tag.ref)
    return {
        "tag": name, "other": other, "score": scored.key if scored else "position", "threshold": first.key,
        "moved": f"{moved:.4g}", "kept": rows(store, tag.ref, start=2, limit=1).rows[0].id,
        "dropped": rows(store, tag.ref, fate="dropped", order="margin", limit=1).rows[0].id,
        "generated": generated[-1] if generated else "", "run": runs(store.root)[0].run_id,
        "words": quote(" ".join(rows(store, tag.ref, start=2, limit=1).rows[0].answer.split()[:18])),
        "source": next(cause.name for cause in causes(store) if cause.kind == "source" and "seed" in cause.name),
    }  # fmt: skip


def main(store: Path, folder: Path) -> None:
    """Writes ``<page>.png`` and ``<page>-phone.png`` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    known = blanks(Store.open(store, create=False))
    with serving(store) as address, chromium() as browser:
        wide = browser.new_page(viewport={"width": 1120, "height": 680}, color_scheme="light")
        phone = browser.new_page(viewport={"width": 390, "height": 760}, color_scheme="dark")
        for name, path in PAGES:
            for page, ending in ((wide, ""), (phone, "-phone")):
                if ending and name not in ON_A_PHONE:
                    continue
                page.goto(address + path.format(**known))
                to = folder / f"{name}{ending}.png"
                page.screenshot(path=str(to))
                size = to.stat().st_size
                if size > MOST_BYTES:
                    to.unlink()
                    sys.exit(f"{to.name} has {size:,} bytes, more than {MOST_BYTES:,}: show less on it")
                print(f"{to}  {size:,} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
