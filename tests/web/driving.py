"""A real browser over a real server, for tests and for the screenshots of the documentation."""

import contextlib
import os
import shutil
import socket
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import uvicorn

from web.app import create_app

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


@contextlib.contextmanager
def serving(store: Path, **more: Any) -> Generator[str, None, None]:
    """The browser of a store on a free port of this machine; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = uvicorn.Config(
        create_app(store, **({"patience_seconds": None} | more)),
        host="127.0.0.1",
        port=port,
        log_level="error",
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)


@contextlib.contextmanager
def chromium() -> Generator[Any, None, None]:
    """Debian's chromium, driven by Playwright; nothing is downloaded."""
    from playwright.sync_api import sync_playwright

    os.environ.setdefault("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


#: The pages of a version, of an example and of a store: a name for the picture, and the address with its blanks.
PAGES = (
    ("datasets", "/"),
    ("version", "/d/{tag}"),
    ("rows", "/rows/{tag}?order=-{score}"),
    ("losses", "/d/{tag}#did"),
    ("dropped", "/rows/{tag}?fate=dropped&order=margin"),
    ("contamination", "/hits/{tag}"),
    ("what-if", "/what-if/{tag}?t.{threshold}={moved}"),
    ("sql", "/sql/{tag}?q=select source, count(*) as examples from examples group by source order by 2 desc"),
    ("calls", "/call/{tag}"),
    ("graph", "/graph/{tag}"),
    ("card", "/card/{tag}"),
    ("example-kept", "/e/{kept}?in={tag}"),
    ("example-dropped", "/e/{dropped}?in={tag}"),
    ("example-generated", "/e/{generated}?in={tag}"),
    ("near", "/near/{kept}?in={tag}"),
    ("compare", "/compare?a={other}&b={tag}"),
    ("changed", "/compare?a={other}&b={tag}&rows=removed"),
    ("blast", "/blast?kind=source&name={source}"),
    ("benchmarks", "/benchmarks"),
    ("mixtures", "/mixtures"),
    ("runs", "/runs"),
    ("run", "/runs/{run}"),
    ("cost", "/cost"),
    ("health", "/health"),
    ("receipt", "/receipt/{tag}?verify=1"),
    ("pasted", "/pasted?text={words}"),
)
