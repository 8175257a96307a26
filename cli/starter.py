"""What `provender init` writes: a recipe, sample data, a README, and deployments that follow the recipe."""

import shutil
from pathlib import Path

from schemas.errors import UsageError

HERE = Path(__file__).resolve().parent.parent / "recipes"
DATA = ("permissive_instructions.jsonl", "seed_tasks.jsonl", "target.jsonl", "README.md")

README = """# {name}

A Provender project. `recipe.yaml` says what is curated and how; `data/` holds sample data to replace by your own
(`data/README.md` names origin and licence).

    provender check recipe.yaml      # every mistake at once
    provender plan recipe.yaml       # what would run, and why
    provender run recipe.yaml        # resumable; results land in store/
    provender show {name:<18} # counts, reasons, scores
    provender serve                  # the lineage browser
    provender up --all --schedule refresh/nightly    # from here on every night, by prefect.yaml
"""

DEPLOYMENTS = """# `provender up --all` starts a server and a worker for each pool, and registers these. Run it in this folder.
# Schedules are off until you switch them on: `provender up --all --schedule refresh/nightly`.
name: {name}

deployments:
  - name: nightly
    entrypoint: flows.refresh.refresh
    description: Follow recipe.yaml; unchanged steps are reused.
    parameters: {{recipe: recipe.yaml, store: store}}
    schedules: [{{cron: "0 3 * * *", timezone: UTC, active: false}}]
    concurrency_limit: 1
    work_pool: {{name: cpu}}
  - name: gpu  # what a recipe with `finetune: {{trigger: deployment}}` starts
    entrypoint: flows.finetune.finetune
    concurrency_limit: 1
    work_pool: {{name: gpu}}
  - name: weekly
    entrypoint: flows.collect.collect
    description: Remove what no tag reaches and nobody made lately; the plan is kept in the store.
    parameters: {{store: store, keep_days: 14}}
    schedules: [{{cron: "0 6 * * 0", timezone: UTC, active: false}}]
    concurrency_limit: 1
    work_pool: {{name: cpu}}
"""


def write_project(folder: Path) -> list[Path]:
    """The files written. Refuses a folder that holds one of them already, and so overwrites nothing."""
    from schemas.lineage import checked_name

    recipe, readme, deployments = (folder / name for name in ("recipe.yaml", "README.md", "prefect.yaml"))
    written = [recipe, readme, deployments, *(folder / "data" / file for file in DATA)]
    if there := [str(file) for file in written if file.exists()]:
        raise UsageError(f"{', '.join(there)}: there already, and would be overwritten; choose another folder")
    name = checked_name(folder.resolve().name.lower().replace(" ", "-"), "the folder's name becomes the dataset's and")
    try:
        (folder / "data").mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, FileNotFoundError) as error:
        raise UsageError(f"{folder} cannot be made a folder ({error.strerror}); choose another name") from None
    recipe.write_text((HERE / "starter.yaml").read_text("utf-8").replace("name: starter", f"name: {name}"), "utf-8")
    readme.write_text(README.format(name=name), "utf-8")
    deployments.write_text(DEPLOYMENTS.format(name=name), "utf-8")
    for file in DATA:
        shutil.copyfile(HERE / "data" / file, folder / "data" / file)
    return written
