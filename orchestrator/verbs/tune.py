"""`hdsweep tune`, step by step: data, storage, trials, answer."""

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import HdsweepError
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.process.stopping import Say, status_of, stopped_by_signals
from orchestrator.store.home.home import Home
from orchestrator.study.from_search import write_answer
from orchestrator.study.selection import Filters
from orchestrator.study.settings import set_layer
from orchestrator.sweep.events import OnEvent
from orchestrator.sweep.options import Options
from orchestrator.sweep.watch.notify import Watched
from orchestrator.tuning.answer import Answer, answer_of
from orchestrator.tuning.ledger import Ledger, failures_of_storage
from orchestrator.tuning.live import SearchView, open_search_display, watched_search
from orchestrator.tuning.pages import findings, write_pages
from orchestrator.tuning.record import Record
from orchestrator.tuning.search import METHOD, Search
from orchestrator.verbs.run import ready_plan

INTERRUPTED = "interrupted; the same command goes on where it stopped"


@dataclass(frozen=True)
class TuneOutcome:
    """What a `tune` came to."""

    record: dict[str, Any]
    text: str
    exit_code: int


def ready(make: Callable[[], Search], home: Home, say: Say) -> None:
    """See to it that the data of a search is there: generated sets are made, all are checked.

    Args:
        make: makes the search anew, so that the fingerprints of data that was just made come in.

    Raises:
        InputError: if data is missing, or changed on disk.
    """
    ready_plan(lambda: _plan(make()), home, say)


def search_and_answer(
    search: Search,
    home: Home,
    *,
    storage: str | None,
    options: Options,
    progress: str,
    say: Say,
    notify: Callable[[Watched, OnEvent], AbstractContextManager[OnEvent]],
) -> TuneOutcome:
    """Make the trials that are missing, store the answer, and return it.

    Args:
        search: made when its data was `ready`.
        progress: one of `display.KINDS`.
        notify: opens what tells others, around the view.

    Raises:
        InputError: if data is missing, or the search was begun otherwise.
        HdsweepError: if every trial failed.
    """
    from orchestrator.store.store import Store
    from orchestrator.tuning.driver import run_search

    with Store.open(home, say) as store, stopped_by_signals(store.stop_flag(), say) as stop:
        if store.moved:
            say(store.moved)
        ledger = Ledger(search, storage)
        say(f"search {search.name}, stored in {ledger.shown_url}")
        view = SearchView(search, ledger.trials)
        with (
            failures_of_storage(ledger.shown_url),
            open_search_display(view, lambda: ledger.trials, progress) as (shown, notice),
            notify(watched_search(view), shown) as on_event,
        ):
            sweep = run_search(
                search,
                ledger,
                store,
                options=options,
                on_event=on_event,
                notice=notice,
                home=home,
                stop=stop,
            )
        if sweep.result.interrupted:
            store.reconcile()  # What was stopped must not look as if it were running.
        store.settle()
        answer = answer_of(search, ledger)
        _refuse_all_failed(answer)
        write_answer(home.path, search.name, _for_studies(answer))
        folder = Record(search, store).folder
        write_pages(answer, ledger, folder)
        complete = not (sweep.result.interrupted or sweep.result.halted)
        Record(search, store).end(complete=complete)
    if sweep.result.halted:
        say(sweep.result.halted)
    if sweep.result.interrupted:
        say(INTERRUPTED)
    text = "\n".join([*findings(answer), f"files of the answer: {folder}"])
    record = {
        **answer.record(),
        "seconds": round(sweep.result.seconds, 1),
        "trained": sweep.result.finished,
        "reused": sweep.result.reused,
        "interrupted": sweep.result.interrupted,
    }
    status = status_of(sweep.result.stopped_by) if sweep.result.interrupted else int(not complete)
    return TuneOutcome(record, text, status)


def _for_studies(answer: Answer) -> dict[str, Any]:
    search, best = answer.search, answer.best
    settings = search.space.settings
    return {
        "source": search.source,
        "targets": list(search.targets),
        "shown": dict(search.shown),
        "scale": search.scale.name,
        "settings": {settings[n]: v for n, v in best.values.items()} if best else {},
        "value": best.value if best else None,
        "trials": len(answer.tried),
        "updates": answer.updates[0],
    }


def _plan(search: Search) -> Plan:
    """Return a plan that needs the data of the search and nothing else."""
    return make_plan(
        search.study,
        search.scale,
        home=search.home,
        filters=Filters(methods=METHOD, targets=search.targets),
        overrides=set_layer(search.overrides),
    )


def _refuse_all_failed(answer: Answer) -> None:
    """Raise the commonest reason if every trial failed."""
    ended = [each for each in answer.tried if each.state != "running"]
    if ended and all(each.state == "failed" for each in ended):
        reason, count = Counter(each.reason for each in ended).most_common(1)[0]
        raise HdsweepError(f"all {len(ended)} trials failed, {count} of them: {reason}")
