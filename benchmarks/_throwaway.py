"""An environment for peers whose pins conflict with ours: made in a folder of its own, gone with it."""

import shutil
import subprocess
import sys
import venv
from pathlib import Path


def environment(folder: Path, packages: list[str]) -> Path:
    """The Python of an environment with these packages, made unless it is there; by uv, else by venv and pip."""
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if (folder / "complete").exists():
        return python
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv:
        subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(folder)], check=True)
        subprocess.run([uv, "pip", "install", "-q", "--python", str(python), *packages], check=True)
    else:
        venv.create(folder, with_pip=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *packages], check=True)
    (folder / "complete").write_text("\n".join(packages), encoding="utf-8")
    return python
