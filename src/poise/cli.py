"""The command line. Every objective is a verb by its file name; a command imports its code inside the function."""

import atexit
import errno
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NoReturn, cast

import click

from poise import __version__
from poise.arguments import split_arguments
from poise.errors import PoiseError, RecipeError, StoppedElsewhere
from poise.names import did_you_mean, load_named, names_in
from poise.progress import hush, is_main_process
from poise.secrets import hidden

SECONDS_TO_TELL = 3.0
"""How long a process waits for another to print the error that ended both."""
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES)
"""What a disk says that cannot be written to."""
PASS_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": True}


class Verbs(click.Group):
    """The commands written here, and one for every file in poise/objectives."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List training verbs first."""
        return [*names_in("poise.objectives"), *sorted(super().list_commands(ctx))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Find a written command, or make the one of an objective."""
        written = super().get_command(ctx, cmd_name)
        if written is None and cmd_name in names_in("poise.objectives"):
            return _training_command(cmd_name)
        return written

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Name the near verb on a miss."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            raise RecipeError(
                f"poise has no verb {args[0]!r}{did_you_mean(args[0], self.list_commands(ctx))}\n"
                "    to do:  poise --help lists them"
            )
        return super().resolve_command(ctx, args)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="poise")
def poise() -> None:
    """From raw data and a base language model to an aligned, evaluated model.

    Start with `poise demo`: no GPU, no network, a few minutes. Then `poise plan RECIPE` to see what a recipe would do,
    and the verb to do it. Recipes are flat YAML; any key can be overridden: `poise dpo recipe.yaml learning_rate=1e-6`.
    """


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object on stdout.")(
        function
    )


def launch_option(told: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command `--launch FILE`."""
    return click.option("--launch", "configuration", type=click.Path(path_type=Path), metavar="FILE", help=told)


@poise.command()
@click.option("--break", "ruin", is_flag=True, help="Run DPO at a ruinous learning rate, to see what catches it.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("poise-demo"), show_default=True)
@click.option("--seed", default=0, show_default=True, help="Seed of the invented world and of training.")
@json_option
def demo(ruin: bool, folder: Path, seed: int, as_json: bool) -> None:
    """Teach a small model facts and manners, offline."""
    from poise.demo.demo import run_demo

    emit(as_json, lambda: run_demo(folder, seed=seed, ruin=ruin))


@poise.command()
@click.option("--from", "source", required=True, metavar="FILE", help="YAML, a script, or a command line in quotes.")
@click.option("--out", type=click.Path(path_type=Path), help="Where to write the recipe; on stdout by default.")
@click.option("--verb", help="The objective, where the configuration does not tell it.")
@json_option
def init(source: str, out: Path | None, verb: str | None, as_json: bool) -> None:
    """Turn a configuration of TRL, Axolotl, LLaMA-Factory, bagel or the alignment handbook into a recipe.

    Says what it could not carry over, and what would have gone wrong.
    """
    from poise.translate.told import told
    from poise.translate.translate import init as make

    emit(as_json, lambda: make(source, out, verb), show=told)


@poise.command(context_settings=PASS_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="RECIPE [KEY=VALUE …]")
@click.option("--verb", help="The objective; found from the recipe's folder name where it is not given.")
@click.option("--no-data", is_flag=True, help="Stop after resolving: touch neither model nor data.")
@click.option("--probe", is_flag=True, help="Load the model, take a few micro-steps, and forecast time and memory.")
@launch_option("Plan for the processes of this configuration of accelerate.")
@json_option
def plan(
    arguments: tuple[str, ...], verb: str | None, no_data: bool, probe: bool, configuration: Path | None, as_json: bool
) -> None:
    """Show what a recipe would do; train nothing.

    Prints every value with its origin, then rows, tokens, trained share and optimizer steps.
    """
    from poise.plan import plan as make_plan
    from poise.plan import print_plan

    path, overrides = split_arguments(arguments)
    emit(
        as_json,
        lambda: make_plan(
            path, overrides, verb=verb, with_data=not no_data, with_probe=probe, configuration=configuration
        ),
        show=print_plan,
    )


@poise.command(context_settings=PASS_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="RECIPE [KEY=VALUE …]")
@click.option("--verb", help="The objective; found from the recipe's folder name where it is not given.")
@click.option("--all-rows", is_flag=True, help="Render every row, not a sample of 2,000.")
@launch_option("Check for training by this configuration of accelerate.")
@json_option
def check(
    arguments: tuple[str, ...], verb: str | None, all_rows: bool, configuration: Path | None, as_json: bool
) -> None:
    """Say whether a recipe may run; exit 2 where it must not.

    Learning rate, lengths, template, rows, pairs, memory, disk, trackers: errors, warnings and notes, each with a code.
    """
    from poise.check import check as check_recipe
    from poise.check import print_check

    path, overrides = split_arguments(arguments)
    found: list[dict[str, Any]] = []

    def work() -> dict[str, Any]:
        found.append(check_recipe(path, overrides, verb=verb, all_rows=all_rows, configuration=configuration))
        return found[0]

    emit(as_json, work, show=print_check)
    if not found[0]["ok"]:
        sys.exit(2)


@poise.command()
@click.argument("code", required=False)
@json_option
def explain(code: str | None, as_json: bool) -> None:
    """Say what a code such as W101 means; without one, list all."""
    from poise.codes import CODES
    from poise.codes import explain as explain_code
    from poise.codes import told as told_in_full

    if code is None:
        listed = {each.code: each.title for each in CODES.values()}
        show = "\n".join(f"{each}  {title}" for each, title in listed.items())
        emit(as_json, lambda: {"codes": listed}, show=lambda _: click.echo(show))
        return
    entry = explain_code(code)
    emit(as_json, lambda: entry.to_json(), show=lambda _: click.echo(told_in_full(entry)))


@poise.command(context_settings=PASS_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="RECIPE [KEY=VALUE …]")
@click.option("--verb", help="The objective; found from the recipe's folder name where it is not given.")
@click.option("--row", default=0, show_default=True, help="Which row, from 0, in the order of the files.")
@json_option
def mask(arguments: tuple[str, ...], verb: str | None, row: int, as_json: bool) -> None:
    """Show a row as the model sees it, in colour."""
    from rich.console import Console
    from rich.text import Text

    from poise.plan import mask as make_mask

    path, overrides = split_arguments(arguments)
    views: list[Text] = []

    def build() -> dict[str, Any]:
        as_data, view = make_mask(path, overrides, verb=verb, number=row)
        views.append(view)
        return as_data

    emit(as_json, build, show=lambda _: Console().print(*views))


@poise.command("run", context_settings=PASS_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="PIPELINE [KEY=VALUE …]")
@click.option("--from", "start", metavar="STAGE", help="Make this stage again, and all after it.")
@click.option("--dry-run", is_flag=True, help="Check every stage and say what would be done.")
@json_option
def run_stages(arguments: tuple[str, ...], start: str | None, dry_run: bool, as_json: bool) -> None:
    """Run all stages of one file, from data to a report.

    What is there and unchanged is skipped; a run that was stopped or killed goes on where it was.
    """
    path, overrides = split_arguments(arguments)
    if path is None:
        raise RecipeError("poise run needs the file of a pipeline\n    to do:  poise run pipeline.yaml")

    def show(result: dict[str, Any]) -> None:
        for line in result["stages"] if dry_run else ():
            click.echo(f"{line['stage']}: {line['does']} ({line['why']})")

    def build() -> dict[str, Any]:
        from poise.pipeline.run import run_pipeline

        return run_pipeline(path, overrides, start=start, dry_run=dry_run)

    emit(as_json, build, show)


@poise.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.option("--out", type=click.Path(path_type=Path), help="Where to write; RUN-merged by default.")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), help="That of the base by default.")
@click.option("--tolerance", type=float, help="Largest difference of a logit; 1e-5 in float32 by default.")
@click.option("--overwrite", is_flag=True, help="Replace what is in --out.")
@json_option
def merge(run: Path, out: Path | None, dtype: Any, tolerance: float | None, overwrite: bool, as_json: bool) -> None:
    """Merge a run's adapter into its base, and compare.

    The merged model is read back from disk and must answer as the unmerged one does; else it is refused.
    """

    def build() -> dict[str, Any]:
        from poise.publish.merge import merge as make

        return make(run, out, dtype=dtype, tolerance=tolerance, overwrite=overwrite)

    emit(as_json, build)


@poise.command("publish")
@click.argument("what", type=click.Path(path_type=Path, exists=True), metavar="MODEL")
@click.option("--to", required=True, metavar="TARGET", help="hub:OWNER/NAME or folder:PATH.")
@click.option("--public", is_flag=True, help="Let everybody see it; private by default.")
@click.option("--yes", is_flag=True, help="Send without asking; without it and without a terminal, only plan.")
@click.option("--title", help="What the model is called; the target's name by default.")
@click.option("--licence", help="That of this model; its base's by default, where that is known.")
@click.option("--base", metavar="OWNER/NAME", help="What an adapter's base is called on the Hub.")
@click.option("--answers", type=int, help="Questions in the card, rows of the data too; 6 that are none by default.")
@click.option(
    "--evaluation",
    "evaluations",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Tell in the card what `poise evaluate` wrote there; may be given several times.",
)
@json_option
def publish_model(what: Path, to: str, yes: bool, as_json: bool, **options: Any) -> None:
    """Publish a model or dataset: show the plan, ask, send.

    MODEL is a run, a pipeline's folder, a model's folder, or a curated dataset. The plan lists every file with size and
    hash; exactly these are sent, to a private repository, in one commit.
    """
    from poise.publish.plan import Plan, told

    def agrees(plan: Plan) -> bool:
        click.echo(told(plan), err=True)
        if yes:
            return True
        if as_json or not sys.stdin.isatty():
            click.echo("nothing was sent; add --yes to send exactly this", err=True)
            return False
        if plan.public and not plan.target.is_folder:
            return click.prompt("everybody will see it; type the repository's name to send it") == plan.target.name
        return click.confirm("send exactly this?")

    def build() -> dict[str, Any]:
        from poise.publish.publish import publish

        return publish(what, to, agrees, **options)

    emit(as_json, build, show=lambda sent: click.echo(sent["url"]) if sent["published"] else None)


@poise.command("card")
@click.argument("model", type=click.Path(path_type=Path, exists=True), metavar="RUN")
@click.option("--out", type=click.Path(path_type=Path), help="Where to write; README.md in RUN by default.")
@click.option("--title", help="What the model is called; the folder's name by default.")
@click.option("--licence", help="That of this model; its base's by default, where that is known.")
@click.option("--answers", default=6, show_default=True, help="Questions to show with their answers.")
@click.option(
    "--evaluation",
    "evaluations",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Tell what `poise evaluate` wrote there; may be given several times.",
)
@json_option
def write_card(model: Path, out: Path | None, as_json: bool, **about: Any) -> None:
    """Write a model card from what was measured.

    RUN is a run, a pipeline's folder, or a merged or quantized model. A field without evidence says "not measured".
    """

    def build() -> dict[str, Any]:
        from poise.publish.card.make import make_card

        return make_card(model, out, **about)

    emit(as_json, build, show=lambda made: click.echo(made["card"]))


@poise.command()
@click.argument("model", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--to",
    required=True,
    type=click.Choice(["gguf-f16", "gguf-q8_0", "gguf-q4_0", "int8", "int4", "nf4", "gptq"]),
    help="For llama.cpp (gguf-…), or for transformers: torchao, bitsandbytes (nf4), GPTQ.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Where to write; MODEL-TO by default.")
@click.option(
    "--run",
    type=click.Path(path_type=Path, exists=True),
    help="Whose prompts and rows it is rehearsed on; found from MODEL by default.",
)
@click.option("--least-agreement", type=click.FloatRange(0, 1), help="Least share of next tokens that are the same.")
@click.option("--most-perplexity", type=click.FloatRange(min=0), help="Most growth of perplexity: 0.01 is 1 %.")
@click.option("--overwrite", is_flag=True, help="Replace what is in --out.")
@json_option
def quantize(
    model: Path,
    to: str,
    out: Path | None,
    run: Path | None,
    least_agreement: float | None,
    most_perplexity: float | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write a model with fewer bits, and rehearse it.

    Model and export answer the same prompts and read the same rows; rehearsal.json says how they differ.
    """

    def build() -> dict[str, Any]:
        from poise.publish.quantize import quantize as make

        return make(
            model,
            to,
            out,
            run=run,
            least_agreement=least_agreement,
            most_perplexity=most_perplexity,
            overwrite=overwrite,
        )

    emit(as_json, build)


@poise.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL [OTHER]")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("poise-chat"),
    show_default=True,
    help="What is kept goes here.",
)
@click.option(
    "--temperature", type=click.FloatRange(min=0), default=0.7, show_default=True, help="0 takes the likeliest."
)
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=512, show_default=True, help="Of an answer.")
@click.option("--seed", default=0, show_default=True, help="Of all draws.")
@click.option("--chat-template", help="A shipped name or a .jinja file; the model's own by default.")
@json_option
def chat(
    models: tuple[str, ...],
    out: Path,
    temperature: float,
    max_new_tokens: int,
    seed: int,
    chat_template: str | None,
    as_json: bool,
) -> None:
    """Talk with a model, or with two side by side.

    MODEL is a run, a model's folder, a Hub id, or URL#NAME on a server. /prefer and /save keep what to train on.
    """
    if len(models) > 2:
        raise RecipeError(f"a chat has one model or two, not {len(models)}")

    def build() -> dict[str, Any]:
        from poise.chat.chat import chat as talk
        from poise.evaluate.answer import Sampling

        return talk(models, out, Sampling(max_new_tokens, temperature, seed), chat_template)

    emit(as_json, build)


@poise.command("serve")
@click.argument("model", type=click.Path(path_type=Path, exists=True))
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
@click.option("--engine", type=click.Choice(["transformers", "vllm", "llama.cpp"]), help="Chosen by what is installed.")
@click.option("--dry-run", is_flag=True, help="Check the model and print the command.")
@json_option
def serve_model(model: Path, port: int, engine: str | None, dry_run: bool, as_json: bool) -> None:
    """Serve a model on this machine, in OpenAI's protocol.

    transformers, vLLM or llama.cpp does it; requests come from this machine alone.
    """

    def build() -> dict[str, Any]:
        from poise.serve import plan_serving, serve

        serving = plan_serving(model, port, engine)
        told = {"engine": serving.engine, "url": serving.url, "model": serving.name, "command": serving.command}
        return told if dry_run else serve(serving)

    emit(as_json, build, show=lambda told: click.echo(" ".join(told["command"])) if dry_run else None)


@poise.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN …")
@click.option("--out", type=click.Path(path_type=Path), help="Where to write; report.html in the last run by default.")
@click.option(
    "--evaluation",
    "evaluations",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Show what `poise evaluate` wrote there; may be given several times.",
)
@json_option
def report(runs: tuple[Path, ...], out: Path | None, evaluations: tuple[Path, ...], as_json: bool) -> None:
    """Write the report of one run or several stages."""
    from poise.pipeline.record import RECORD
    from poise.pipeline.stages.report import report_of
    from poise.report.report import build_report
    from poise.run import Run

    def build() -> dict[str, Any]:
        target = out or runs[-1] / "report.html"
        if len(runs) == 1 and (runs[0] / RECORD).is_file():
            verdict = report_of(runs[0], target, evaluations=evaluations)
        else:
            verdict = build_report([Run.open(path).path for path in runs], target, evaluations=evaluations)
        return {"verdict": verdict.headline, "verdict_level": verdict.level, "report": str(target)}

    emit(as_json, build, show=lambda result: click.echo(f"{result['verdict']}\n{result['report']}"))


@poise.command(context_settings=PASS_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="RECIPE [KEY=VALUE …]")
@click.option("--diff", nargs=2, type=click.Path(path_type=Path), help="Say what changed between two curated folders.")
@click.option("--push", metavar="OWNER/NAME", help="Upload the dataset to the Hub once it is built; private.")
@click.option("--public", is_flag=True, help="Let everybody see what --push uploads.")
@json_option
def curate(
    arguments: tuple[str, ...], diff: tuple[Path, Path] | None, push: str | None, public: bool, as_json: bool
) -> None:
    """Build a dataset from many sources, every row accounted for.

    Stages that are there and unchanged are reused; a killed build goes on where it was.
    """
    if public and push is None:
        raise RecipeError(
            "--public says who sees what --push uploads\n    to do:  add --push OWNER/NAME, or leave it out"
        )
    if diff is not None and (push is not None or arguments):
        raise RecipeError("--diff compares two folders and builds nothing\n    to do:  leave recipe and --push out")
    if diff is not None:
        from poise.curate import diff as comparing

        emit(as_json, lambda: comparing.diff(*diff), show=lambda found: click.echo(comparing.told(found)))
        return
    path, overrides = split_arguments(arguments)
    if path is None:
        raise RecipeError("poise curate needs a recipe\n    to do:  poise curate recipe.yaml, or --diff A B")

    def build() -> dict[str, Any]:
        from poise.curate.curation import load_curation
        from poise.curate.pipeline import curate as make

        curation = load_curation(path, overrides)
        built = make(curation)
        if push is None:
            return built
        from poise.publish.publish import publish

        sent = publish(Path(curation.out), f"hub:{push}", lambda _: True, public=public)
        return built | {"pushed": {"repository": push, "url": sent["url"], "public": public}}

    emit(as_json, build)


class Named(click.Group):
    """One command for every file of a package, found by its name."""

    package = ""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List them by name."""
        return names_in(self.package)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Make the command of a file; only its own file is imported."""
        return _named_command(self.package, cmd_name) if cmd_name in self.list_commands(ctx) else None


class Evaluations(Named):
    """The commands of `poise evaluate`."""

    package = "poise.evaluations"

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Name the near evaluation on a miss."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            raise RecipeError(
                f"poise evaluate has no {args[0]!r}{did_you_mean(args[0], self.list_commands(ctx))}\n"
                "    to do:  poise evaluate --help lists what it has"
            )
        return super().resolve_command(ctx, args)


@poise.group(cls=Evaluations)
def evaluate() -> None:
    """Evaluate a model: its answers, or what a judge says of them.

    Each evaluation writes a folder that a killed one goes on in, and that `poise compare` and `poise report` read.
    """


class Arena(Named):
    """The commands of `poise arena`; what is none of them names a contestant."""

    package = "poise.arena.verbs"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take `poise arena A B` for `poise arena vote A B`."""
        if args and args[0] not in (*self.list_commands(ctx), *self.get_help_option_names(ctx)):
            args = ["vote", *args]
        return super().parse_args(ctx, args)


@poise.group(cls=Arena, subcommand_metavar="A B … | COMMAND [ARGS]…")
def arena() -> None:
    """Vote on two models' answers, blind and side by side.

    `poise arena A B` serves a page for the browser, on this machine alone, and tells at the end who won; its options
    are those of `poise arena vote`.
    """


def _named_command(package: str, name: str) -> click.Command:
    module = load_named(package, name)

    def command(as_json: bool, **values: Any) -> None:
        emit(as_json, lambda: module.run(**values), show=lambda result: click.echo(module.told(result)))

    made = json_option(click.Command(name, params=list(module.PARAMETERS), callback=command, help=module.__doc__))
    return cast("click.Command", made)


@poise.command()
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@json_option
def compare(before: Path, after: Path, as_json: bool) -> None:
    """Compare two evaluated models over every item both have.

    BEFORE and AFTER are folders that `poise evaluate` or a training wrote. Refuses where they were asked differently.
    """
    from poise.evaluate import compare as comparing

    emit(
        as_json,
        lambda: comparing.compare(before, after),
        show=lambda compared: click.echo(comparing.told(compared)),
    )


@poise.command()
@json_option
def sources(as_json: bool) -> None:
    """List the datasets that a curation recipe can name."""
    from poise.curate import catalogue

    def show(result: dict[str, Any]) -> None:
        click.echo(catalogue.told(result["sources"]))

    emit(as_json, lambda: {"sources": catalogue.catalogue()}, show=show)


@poise.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("row", metavar="ID")
@json_option
def trace(folder: Path, row: str, as_json: bool) -> None:
    """Show where a row of a curated folder came from, and what was decided about it.

    ID is a row's id, the hash in it, or SOURCE@FILE:ROW.
    """
    from poise.curate import trace as tracing

    def show(result: dict[str, Any]) -> None:
        click.echo("\n\n".join(map(tracing.told, result["rows"])))

    emit(as_json, lambda: {"rows": tracing.trace(folder, row)}, show=show)


@poise.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--tokenizer", help="Count tokens by it: a folder, or the id of a model on the Hub.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="The page; look.html in a curated folder, else NAME-look.html."
)
@json_option
def look(dataset: Path, tokenizer: str | None, out: Path | None, as_json: bool) -> None:
    """Show what is in a dataset and what curation dropped, on a page and here.

    DATASET is a folder that `poise curate` wrote, or any file, folder or Hub id that poise reads.
    """
    from poise.look.look import look as look_at
    from poise.look.told import told

    emit(as_json, lambda: look_at(dataset, tokenizer=tokenizer, out=out), show=lambda facts: click.echo(told(facts)))


def _training_command(verb: str) -> click.Command:
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[RECIPE] [KEY=VALUE …]")
    @click.option("--resume", is_flag=True, help="Go on from the newest complete checkpoint of output_dir.")
    @click.option("--overwrite", is_flag=True, help="Replace the run that output_dir holds.")
    @launch_option("Train in several processes, by this configuration of accelerate.")
    @json_option
    def command(
        arguments: tuple[str, ...], resume: bool, overwrite: bool, configuration: Path | None, as_json: bool
    ) -> None:
        from poise.recipe import load_recipe, output_folder
        from poise.run import refuse_if_in_use
        from poise.signals import stopping_at_once

        path, overrides = split_arguments(arguments)
        with stopping_at_once():
            if is_main_process():
                refuse_if_in_use(output_folder(verb, path, overrides))
            recipe = load_recipe(verb, path, overrides)
        if configuration is not None:
            from poise.launch import launch

            flags = {"--resume": resume, "--overwrite": overwrite, "--json": as_json, "--debug": _debug()}
            launch(configuration, recipe, [verb, *arguments, *(flag for flag, given in flags.items() if given)])
            return
        with stopping_at_once():
            from poise.workflow import train_and_report

            emit(as_json, lambda: train_and_report(recipe, resume=resume, overwrite=overwrite))

    first = _first_line(verb)
    name = first.split(" (")[0].split(":")[0]
    return click.command(verb, context_settings=PASS_ON, help=first, short_help=f"{name}.")(command)


def _debug() -> bool:
    """Whether the command line said --debug, which `run_command` took out of it."""
    return bool(click.get_current_context().obj)


def _first_line(verb: str) -> str:
    """Read the first line of an objective's docstring without importing it, which would import torch."""
    from importlib.util import find_spec

    spec = find_spec("poise.objectives")
    folder = Path((spec.submodule_search_locations or [""])[0]) if spec else Path()
    return (folder / f"{verb}.py").read_text(encoding="utf-8").split('"""', 1)[1].split("\n", 1)[0]


def emit(
    as_json: bool, work: Callable[[], dict[str, Any]], show: Callable[[dict[str, Any]], None] | None = None
) -> None:
    """Do the work; print its result as JSON, or for a person. Whatever else is printed meanwhile goes to stderr."""
    if as_json:
        with redirect_stdout(sys.stderr):
            result = work()
        if is_main_process():
            click.echo(json.dumps(result, default=str))
    else:
        result = work()
        if show is not None:
            show(result)


def main() -> None:
    """Run the command line; every failure ends in one message and its exit code."""
    try:
        run_command()
    except SystemExit as end:
        _leave_others(end.code)
        raise
    _leave_others(0)


def _leave_others(code: object) -> None:
    """End one of several processes without taking Python down around threads that exchange tensors.

    With torch 2.13 and gloo, 3 of 8 runs that had succeeded were aborted by such a thread while Python ended.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage]
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def run_command() -> None:
    """Do what the command line says, and exit where it fails."""
    hush()
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    try:
        poise.main(prog_name="poise", standalone_mode=False, obj=debug)
    except StoppedElsewhere as error:
        _end_quietly(error.exit_code)
    except PoiseError as error:
        if isinstance(error, RecipeError) and not is_main_process():  # the main process read the same recipe
            _end_quietly(error.exit_code)
        _fail(str(error), error.exit_code, debug)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
    except click.ClickException as error:
        _fail(error.format_message(), 2, debug)
    except (click.exceptions.Abort, KeyboardInterrupt) as end:
        _fail_if_stopped(end, debug)
        _fail("stopped at once; nothing was saved after the newest checkpoint", 130, debug)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK:
            _fail(
                f"{error.strerror}: {error.filename or 'while writing'}\n"
                "    why:    the disk is full, failing or not writable; what was whole before is untouched\n"
                "    to do:  make room or see to the disk, then the same command with --resume",
                4,
                debug,
            )
        if type(error).__name__ == "OutOfMemoryError":
            _fail(
                f"out of memory: {error}\n    to do:  tokens_per_micro_batch=… smaller, the result is the same",
                4,
                debug,
            )
        _fail(
            f"this is a defect of poise: {type(error).__name__}: {error}\n    to do:  rerun with --debug and report it",
            1,
            debug,
        )


def _fail_if_stopped(end: BaseException, debug: bool) -> None:
    """End with the message and code of a signal that came outside the training loop; click wraps what it raised."""
    from poise.signals import StoppedAtOnce

    for error in (end, end.__cause__, end.__context__):
        if isinstance(error, StoppedAtOnce):
            _fail(str(error), error.exit_code, debug)


def _end_quietly(code: int) -> NoReturn:
    """End a process whose failure another one tells, after it: a launcher ends all once the first has ended."""
    time.sleep(SECONDS_TO_TELL)
    sys.exit(code)


def _fail(message: str, code: int, debug: bool) -> None:
    message = hidden(message)
    if debug:
        click.echo(hidden(traceback.format_exc()), err=True)
    whose = "" if is_main_process() else f"process {os.environ['RANK']}: "
    head = "error: " if code not in (75, 130) else "" if message.startswith("stopped ") else "stopped: "
    click.echo(f"{head}{whose}{message}", err=True)
    if "--json" in sys.argv and is_main_process():
        click.echo(json.dumps({"error": message, "exit_code": code}))
    sys.exit(code)
