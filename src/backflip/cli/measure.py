"""The commands that measure a model: ``evaluate`` and ``best-of-n``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backflip.cli import complete as completing
from backflip.cli.arguments import Format, Limit, MaxLength
from backflip.cli.compute import computed, print_compute
from backflip.cli.console import notes, say, table
from backflip.cli.suites import SUITE, list_suites, run_suites, wants_suite
from backflip.cli.trust import print_trust
from backflip.errors import UserError
from backflip.text import counted, percent

if TYPE_CHECKING:
    from backflip.evaluation.process import ProcessReport
    from backflip.evaluation.trust.report import TrustReport
    from backflip.functional.statistics import Interval
    from backflip.recipes.best_of import BestOfN
    from backflip.recipes.compute import ComputeReport


COMPUTE = (
    "Accuracy of a policy over tokens: pass@k, votes, best of n, beams, longer thinking. DATA is "
    "questions; then reward=VERIFIER, process=RUN, n=16, waits=2, out=compute.html, max_tokens, "
    "temperature, seed."
)


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            help="A reward model or a direct run; or any model, with reference=….",
            autocompletion=completing.runs,
        ),
    ],
    settings: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA [KEY=VALUE]...",
            help="Comparisons (file, folder, hub name, demo:…), then golden=FILE, probes=100, "
            "members=[RUN, …], out=trust.html, reference=MODEL for a language model, beta=0.1, "
            f"template=chatml, columns.NAME, and the options below; or {SUITE}.",
            show_default=False,
        ),
    ],
    json_: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    format: Format = None,
    limit: Limit = None,
    max_length: MaxLength = None,
    policy: Annotated[
        str | None, typer.Option(help="The model to be trained against it: compares sizes.")
    ] = None,
    compute: Annotated[bool, typer.Option("--compute", help=COMPUTE)] = False,
    suites: Annotated[
        bool, typer.Option("--suites", help="List the suites.", is_eager=True, callback=list_suites)
    ] = False,
) -> None:
    """How far a reward can be trusted, a process model, or suites of a policy's behaviour."""
    del suites  # listed when it was read
    options = {"format": format, "limit": limit, "max_length": max_length, "policy": policy}
    given = {name: value for name, value in options.items() if value is not None}
    if wants_suite(settings):
        run_suites(model, settings, given, as_json=json_)
        return
    report = (computed if compute else _measured)(model, settings, given)
    _print_json(report.to_json()) if json_ else _printed(report)


def _measured(
    model: str, words: Sequence[str], options: Mapping[str, Any]
) -> TrustReport | ProcessReport:
    from backflip import api
    from backflip.data.subjects import parted
    from backflip.recipes import slips

    given = _evaluated(words) | dict(options)
    slips.check_models(model, given.get("reference"), given.get("policy"), *given["members"])
    slips.check_data(given["data"])
    slips.check_reading(given["data"], given | {"columns": parted(given.get("columns", {}))[1]})
    slips.check_judge(model, given)
    return api.evaluate(model, **given)


def _print_json(found: Mapping[str, Any]) -> None:
    """For programs: one line, numbers that are finite."""
    import json

    typer.echo(json.dumps(found, ensure_ascii=False, allow_nan=False))


def _evaluated(words: Sequence[str]) -> dict[str, Any]:
    """Data to evaluate on."""
    from backflip import api
    from backflip.recipes.names import settings_of

    given = settings_of(api.evaluate, words, "evaluate")
    if "beta" in given:
        try:
            given["beta"] = float(given["beta"])  # YAML takes 1e-3 for a word
        except (TypeError, ValueError) as error:
            wrong = f"beta is {given['beta']!r}; it must be a number above 0, such as 0.1."
            raise UserError(wrong) from error
    if "threshold" in given and not isinstance(given["threshold"], int | float):
        raise UserError(f"threshold is {given['threshold']!r}; it must be a number, 0 to 1.")
    if "data" not in given:
        raise UserError("no comparisons are named. Give data=…: a file, a folder, a hub name.")
    members = given.get("members", [])
    given["members"] = members if isinstance(members, list) else [str(members)]
    if given.get("probes", 0) < 0:
        raise UserError(f"probes is {given['probes']}; it must be 0 or more.")
    return given


def best_of_n(
    model: Annotated[str, typer.Argument(help="Who answers: a run, a folder, a hub name.")],
    settings: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA KEY=VALUE...",
            help="Prompts (file, folder, hub name, demo:…), then reward_model=FOLDER, n=16, "
            "out=best_of_n.jsonl, max_tokens, temperature, limit, format, columns.NAME, template, "
            "seed.",
            show_default=False,
        ),
    ],
    json_: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Answer prompts n times, keep the best by a reward model, and say what n buys."""
    from backflip import api
    from backflip.recipes import slips
    from backflip.recipes.names import settings_of

    given = settings_of(api.best_of_n, settings, "best-of-n")
    if "reward_model" not in given:
        raise UserError("who chooses? Give reward_model=FOLDER, a reward model or its run.")
    slips.check_choice(given.get("n", 16), given.get("temperature", 1.0))
    slips.check_models(model, given["reward_model"])
    slips.check_data(given["data"])
    slips.check_reading(given["data"], given)
    found = api.best_of_n(model, **given)
    print_best_of_n(found) if not json_ else _print_json(found.to_json())


def _printed(report: TrustReport | ProcessReport | ComputeReport) -> None:
    from backflip.evaluation.process import ProcessReport
    from backflip.recipes.compute import ComputeReport

    if isinstance(report, ComputeReport):
        print_compute(report)
    elif isinstance(report, ProcessReport):
        print_process_report(report)
    else:
        print_trust(report)


def print_process_report(report: ProcessReport) -> None:
    """Accuracy of single steps, and of finding where solutions go wrong first."""
    counts = (
        counted(report.steps, "labelled step"),
        counted(report.solutions, "solution"),
        counted(report.questions, "question"),
    )
    say("{} of {} to {}".format(*counts))
    wrong, right = report.decided
    rows = [
        ("accuracy of steps", *_percent(report.accuracy)),
        ("“every step is good”", percent(report.good), ""),
        ("log-loss, nats per step", *_number(report.log_loss)),
    ]
    shares = {
        f"first error found, nothing before it ({wrong})": report.erroneous,
        f"nothing found where all is right ({right})": report.correct,
        "F1 of first errors (ProcessBench)": report.f1,
    }
    rows += [(n, *_percent(s)) for n, s in shares.items() if not math.isnan(s.estimate)]
    title = f"a step is wrong where P(good) < {report.threshold:g}"
    table(title, ["", "#measured", "95 % interval"], rows)
    notes(report.sentences)


def print_best_of_n(found: BestOfN) -> None:
    """The gain of choosing among n answers, and the file of the best ones."""
    parts = list(found.points[0].parts)
    named = [f"#by {name}" for name in parts]
    heads = ["#n", "#expected reward", *named, "#KL by the formula, nats", "#prompts"]
    rows = [
        (
            str(point.n),
            _ranged(point.reward),
            *(_ranged(point.parts[name]) for name in parts),
            f"{point.kl:.2f}",
            str(point.prompts),
        )
        for point in found.points
    ]
    table("", heads, rows)
    say("KL to the model itself by the formula log n − (n − 1)/n: less where scores tie")
    notes(found.notes)
    say(f"answers {found.answers}")


def _ranged(interval: Interval) -> str:
    from backflip.monitor.text import Estimate, ranged

    value, ends = ranged(Estimate.of(interval), digits=3)
    return f"{value} [{ends.replace(' to ', ', ') or 'unknown'}]"


def _percent(interval: Interval) -> tuple[str, str]:
    from backflip.monitor.text import Estimate, share_ranged

    return share_ranged(Estimate.of(interval))


def _number(interval: Interval, digits: int = 3) -> tuple[str, str]:
    from backflip.monitor.text import Estimate, ranged

    value, ends = ranged(Estimate.of(interval), digits=digits)
    return value, ends or "unknown"
