"""Around a run: its log and liveness, a clean stop on Ctrl-C and SIGTERM, and how it ended."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict

from schemas.errors import BudgetExceeded, ProvenderError, Stopped
from storage.calls.stopping import stop_on_signals
from storage.runs import RunLog
from tasks.artifacts import artifacts
from tasks.bench import Bench, open_store
from tasks.events import Event, listening


class Ending:
    """What the run leaves: set ``dataset`` to the ref it made."""

    dataset: str | None = None


@contextmanager
def running(name: str, what: str, bench: Bench, flow_run_id: str | None = None) -> Generator[Ending]:
    """Log the run while the block goes; a stop, a known error and a crash end it under their own names.

    The first Ctrl-C or SIGTERM lets what is in flight finish; a second Ctrl-C interrupts at once.
    """
    store = open_store(bench)
    limits = bench.budget.model_dump(exclude_none=True)
    ceilings = {unit.removeprefix("max_"): float(most) for unit, most in limits.items()}
    log = RunLog(store.root, name, what, bench.run_id, flow_run_id, bench.account, ceilings)

    def note(event: Event) -> None:
        told = {k: v for k, v in asdict(event).items() if v}
        log.progress(told) if event.kind == "progress" else log.event(told)

    ending = Ending()
    with listening(note), artifacts(name, bench, flow_run_id), stop_on_signals():
        try:
            yield ending
        except (KeyboardInterrupt, Stopped, BudgetExceeded) as error:
            log.end("stopped", error=str(error) or "interrupted")
            if isinstance(error, KeyboardInterrupt):
                raise Stopped(
                    "interrupted; finished steps and answered calls are kept, run the same command again to go on"
                ) from None
            raise
        except ProvenderError as error:
            log.end("failed", error=str(error))
            raise
        except BaseException as error:
            log.end("failed", error=f"{type(error).__name__}: {error}")
            raise
        log.end("completed", dataset=ending.dataset)
