"""`provender`: the command line. Verbs of the user's work; heavy imports happen inside the commands."""

import errno
import gc
import io
import os
import sys

import typer

from cli import (
    baking,
    budgeting,
    caching,
    care,
    curating,
    decontaminating,
    looking,
    packing,
    ranking,
    searching,
    serving,
    site,
    stages,
    triggering,
)
from cli.console import fail, quiet_environment, show_traceback
from schemas.errors import ProvenderError

app = typer.Typer(
    name="provender",
    help="Seed examples and raw instruction data in; a fine-tuning set in which every row has a pedigree out.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

#: What a disk says that is full, read-only, failing or not ours: the user's to mend, not a defect.
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}

CURATE, STAGE, LOOK, CARE = "Curate", "One stage at a time", "Look", "Serve and care"

for panel, commands in {
    CURATE: (curating.init, curating.check, curating.plan, curating.run, baking.bakeoff, searching.search,
             stages.finetune, stages.export),
    STAGE: (stages.ingest, stages.generate, stages.dedup, stages.filter_, stages.rank,
            stages.select, stages.mix, stages.publish, stages.evaluate),
    LOOK: (looking.ls, looking.show, looking.trace, looking.lineage, looking.diff, looking.query, looking.report,
           site.site, site.what_if, site.blast,
           ranking.leaderboard, looking.methods, looking.runs, budgeting.budget),
    CARE: (serving.serve, serving.up, serving.down, serving.deploy, triggering.trigger,
           care.doctor, care.verify, care.gc, care.pretrain),
}.items():  # fmt: skip
    for command in commands:
        app.command(name=command.__name__.rstrip("_").replace("_", "-"), rich_help_panel=panel)(command)
app.add_typer(decontaminating.decontaminate, name="decontaminate", rich_help_panel=STAGE)
app.add_typer(packing.benchmarks, name="benchmarks", rich_help_panel=LOOK)
app.add_typer(serving.engine, name="engine", rich_help_panel=CARE)
app.add_typer(caching.cache, name="cache", rich_help_panel=CARE)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"provender {version('provender')}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", is_eager=True, callback=_print_version
    ),
) -> None:
    """Options before the verb. Each verb passes here before its first line, and so before it imports Prefect."""
    quiet_environment()


def main() -> None:
    """Run, and turn errors that are the user's to mend into one line and an exit code that scripts can use."""
    gc.set_threshold(100_000, 20, 50)  # what imports make stays: searching it for garbage costs a tenth of a second
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Unicode, half a surrogate pair in a dataset
    try:
        app()
    except ProvenderError as error:
        fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        fail("interrupted; finished steps are kept, run the same command again to go on", 130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            show_traceback(error)
            sys.exit(70)
        place = f"{error.filename}: " if error.filename else ""
        fail(
            f"{place}{os.strerror(error.errno)}; nothing is half-committed: make room or a way to write, then run again",
            4,
        )
    except Exception as error:
        if type(error).__module__.partition(".")[0] in ("httpx", "httpcore") and "Connect" in type(error).__name__:
            fail(
                f"the Prefect server went away ({error}); finished steps are kept: run the same command again, "
                "with `provender up` first, or with --without-prefect",
                5,
            )
        show_traceback(error)
        sys.exit(70)
