"""Vote, blind and side by side, on the answers of two or more models: `poise arena A B`.

A and B are models (a run, a folder, an adapter, a Hub id, URL#NAME) or answers that `poise evaluate generate` wrote.
The page is on this machine alone; names are told at the end. The same command goes on where it stopped.
"""

from pathlib import Path
from typing import Any

import click

from poise.arena.verbs import _folder as folders

PARAMETERS: list[click.Parameter] = [
    click.Argument(["contestants"], nargs=-1, required=True, metavar="A B …"),
    click.Option(
        ["--questions"], type=click.Path(path_type=Path, dir_okay=False),
        help="One question a line, as recipes name them; those of written answers by default.",
    ),
    folders.out("--out", "The folder with votes and answers."),
    click.Option(["--voter"], default="me", show_default=True, help="Whose votes these are; each votes on everything."),
    click.Option(["--again"], type=click.IntRange(min=0), default=0, show_default=True,
                 help="Battles shown a second time with the sides changed, to see whether verdicts hold."),
    click.Option(["--seed"], type=int, default=0, show_default=True, help="Of sides, order and sampling."),
    click.Option(["--temperature"], type=click.FloatRange(min=0), default=0.0, show_default=True,
                 help="0 takes the likeliest token."),
    click.Option(["--max-new-tokens"], type=click.IntRange(min=1), default=512, show_default=True,
                 help="The longest answer."),
    click.Option(["--batch-size"], type=click.IntRange(min=1), default=8, show_default=True,
                 help="Answers made together; a typed prompt waits for those under way."),
    click.Option(["--chat-template"], help="For a model without one: a name (chatml, zephyr, …) or a .jinja file."),
    click.Option(["--port"], type=click.IntRange(0, 65535), default=0, help="Of the page; a free one by default."),
    click.Option(["--open", "open_browser"], is_flag=True, help="Open the page in the browser."),
]  # fmt: skip


def run(
    *,
    contestants: tuple[str, ...],
    questions: Path | None,
    out: Path,
    voter: str,
    again: int,
    seed: int,
    temperature: float,
    max_new_tokens: int,
    batch_size: int,
    chat_template: str | None,
    port: int,
    open_browser: bool,
) -> dict[str, Any]:
    """Serve until all is voted on or Ctrl-C; returns the tally."""
    from poise.answering import claimed
    from poise.arena.ending import ending
    from poise.arena.serve import require_server, serve
    from poise.arena.store import Store
    from poise.evaluate.answer import Sampling
    from poise.evaluate.questions import load_questions
    from poise.signals import stopping_at_once

    require_server()
    asked = load_questions(questions) if questions else None
    sampling = Sampling(max_new_tokens, temperature, seed)
    with claimed(out), stopping_at_once():
        store = Store(out)
        try:
            session, writers = _session(
                contestants, asked, store, out, voter, again, seed, sampling, chat_template, batch_size
            )
            if not session.is_over:
                serve(session, writers, lambda: ending(store.votes()), port=port, open_browser=open_browser)
            votes = store.votes()
        finally:
            store.close()
    return folders.result(votes, out) if votes else {"folder": str(out), "votes": 0}


def told(result: dict[str, Any]) -> str:
    """Show the tally, names and all."""
    from poise.evaluate.result import told as tables

    if not result.get("tables"):
        return f"nobody has voted yet; the same command goes on\nfolder: {result['folder']}"
    return f"{tables(result)}\nnext:   poise arena export {result['folder']}"


def _session(
    names: tuple[str, ...],
    asked: Any,
    store: Any,
    out: Path,
    voter: str,
    again: int,
    seed: int,
    sampling: Any,
    chat_template: str | None,
    batch_size: int,
) -> tuple[Any, dict[str, Any]]:
    """Open who competes, set them to answer, and begin where the votes end."""
    from poise.arena.battles import schedule
    from poise.arena.contestants import check_answered, open_contestants
    from poise.arena.session import Session
    from poise.arena.writer import Writer
    from poise.errors import RecipeError
    from poise.evaluate.journal import Journal

    opened, answered = open_contestants(names, out, sampling, chat_template=chat_template, batch_size=batch_size)
    questions = answered if asked is None else asked
    check_answered(opened, questions)
    store.enter({each.label: each.identity for each in opened})
    battles = schedule(questions, [each.label for each in opened], seed, again)
    journal = Journal(out / "answers.jsonl")
    order = list(dict.fromkeys(each.question for each in battles))
    writers = {each.label: Writer(each, sampling, journal, order, batch_size) for each in opened}
    session = Session(battles, writers, store, voter, seed)
    if not battles and not session.can_type:
        raise RecipeError("there is nothing to vote on\n    to do:  add --questions FILE")
    for writer in writers.values():
        if writer.contestant.engine is not None:
            writer.start()
    return session, writers
