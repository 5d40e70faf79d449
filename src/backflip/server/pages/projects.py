"""The list of projects, making one, its overview and its settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from backflip.errors import UserError
from backflip.feedback.projects.administration import Overview
from backflip.feedback.projects.project import Project
from backflip.feedback.store.refusals import RefusedError
from backflip.server.base import forms
from backflip.server.base.auth import RANK, Form, Here, Lead, Parts, Visitor, Who
from backflip.server.base.forms import Filled
from backflip.server.base.state import AppState
from backflip.server.pages import next_steps
from backflip.server.pages.drawing import go, in_project, page, path_of, sentence
from backflip.server.text.rendering import render
from backflip.server.work import plots
from backflip.text import counted, lasting, percent

router = APIRouter(include_in_schema=False)
SCALES = [
    (2, "2 points: A or B"),
    (3, "3 points: A, the same, B"),
    (4, "4 points: better, much better"),
    (5, "5 points: with “about the same”"),
    (6, "6 points: slightly, better, much better"),
    (7, "7 points: with “about the same”"),
    (8, "8 points: barely … much better (Anthropic’s HH)"),
    (9, "9 points: with “about the same” (OpenAI’s TL;DR)"),
]


@router.get("/")
def projects(request: Request, site: Parts, who: Who) -> HTMLResponse:
    """The projects of a visitor; admins see all."""
    roles = site.store.projects_of(who.person.id)
    shown = [
        _card(project, who, roles.get(project.name, "admin"))
        for project in site.store.projects()
        if who.person.admin or project.name in roles
    ]
    return page(request, "projects.html", who, projects=shown, archived=_archived(site, who))


def _archived(site: AppState, who: Visitor) -> list[dict[str, Any]]:
    """Projects that were put away, for those who may bring them back."""
    roles = site.store.projects_of(who.person.id, archived=True)
    led = {name for name, role in roles.items() if RANK[role] >= RANK["lead"]}
    shown = {project.name for project in site.store.projects()}
    return [
        _card(project, who, roles.get(project.name, "admin"))
        for project in site.store.projects(archived=True)
        if project.name not in shown and (who.person.admin or project.name in led)
    ]


def _card(project: Project, who: Visitor, role: str) -> dict[str, Any]:
    settings, counts = project.settings, project.tallies()
    member = project.member(who.person.id)
    items, done = int(counts.get("items", 0)), int(counts.get("done", 0))
    return {
        "name": project.name,
        "title": settings.title or project.name,
        "kind": settings.kind,
        "role": role,
        "state": member.state if member else "",
        "total": items,
        "done": done,
        "share": done / items if items else 0,
        "answers": int(counts.get("answers", 0)),
    }


def _admin(who: Visitor) -> None:
    if not who.person.admin:
        raise RefusedError("not_allowed", "only admins make projects; ask one.")


@router.get("/projects/new")
def new(request: Request, who: Who, name: str = "") -> HTMLResponse:
    _admin(who)
    return _form(request, who, forms.blank(), {"name": name[:63]})


@router.post("/projects/new")
def create(request: Request, site: Parts, who: Who, form: Form) -> Response:
    """Make a project from the form, or show the form again with what is wrong."""
    _admin(who)
    filled = forms.read(form.fields)
    name = form["name"] or forms.slug(form["title"])
    if filled.settings is not None:
        try:
            if not name:
                raise UserError("give the project a title or a short name.")
            project = site.store.create(name, filled.settings)
            project.enrol(who.person.id, role="admin")
            return go(f"/projects/{project.name}", "created")
        except UserError as error:
            filled = Filled(filled.values, {"name": sentence(error)})
    return _form(request, who, filled, {"name": form["name"]})


def _form(
    request: Request, who: Visitor, filled: Filled, more: Mapping[str, Any], **context: Any
) -> HTMLResponse:
    values = {**forms.blank().values, **filled.values, **more}
    shown = {"values": values, "errors": _Silent(filled.errors)}
    status = 400 if filled.errors else 200
    return page(
        request,
        "project_form.html",
        who,
        status=status,
        form=shown,
        scales=SCALES,
        **context,
    )


class _Silent(dict[str, str]):
    """Errors by field; a field without one has an empty text."""

    def __missing__(self, key: str) -> str:
        return ""


@router.get("/projects/{name}/settings")
def settings_page(request: Request, here: Lead) -> HTMLResponse:
    filled = forms.of(here.project.settings)
    return _form(request, here.visitor, filled, {}, **in_project(here, "/settings"))


@router.post("/projects/{name}/settings")
def change(request: Request, here: Lead, form: Form) -> Response:
    """A new version of the rubric."""
    filled = forms.read(form.fields, here.project.settings)
    if "another" in form.fields:
        filled = Filled(filled.values)
    elif filled.settings is not None:
        try:
            here.project.configure(filled.settings, by=here.visitor.person.id)
            return go(path_of(here, "/settings"), "saved")
        except UserError as error:
            filled = Filled(filled.values, {"": sentence(error)})
    return _form(request, here.visitor, filled, {}, **in_project(here, "/settings"))


@router.post("/projects/{name}/settings/archive")
def archive(here: Lead, form: Form) -> Response:
    """Put the project away, or bring it back."""
    archived = form["archived"] == "yes"
    here.project.archive(archived=archived, by=here.visitor.person.id)
    return go(path_of(here, "/settings"), "archived" if archived else "back")


@router.get("/projects/{name}")
def overview(request: Request, site: Parts, here: Here) -> Response:
    """Next steps and progress, for those who run the project; raters go to their work."""
    if not here.may("adjudicator"):
        return go(path_of(here, "/rate"))
    if not here.may("lead"):
        return go(path_of(here, "/adjudicate"))
    found, settings = here.project.overview(), here.project.settings
    return page(
        request,
        "overview.html",
        here.visitor,
        numbers=numbers(found, settings.budget.currency),
        days=plots.days(here.project),
        rubric=render(settings.rubric) if settings.rubric else "",
        steps=next_steps.steps(site, here, found),
        **in_project(here, ""),
    )


def numbers(found: Overview, currency: str) -> list[dict[str, Any]]:
    """The cards at the top: progress, answers, time and money, forecast."""
    share = found.done / found.items if found.items else None
    cards = [
        _number("Items done", f"{found.done:,}", f"of {found.items:,}", share),
        _number("Answers", f"{found.given:,}", _wanted(found)),
        _number("Raters’ time", lasting(3600 * found.hours), _left(found)),
    ]
    if found.money or found.money_left:
        cards.append(
            _number("Spent", f"{found.money:,.2f} {currency}".strip(),
                    f"about {found.money_left:,.2f} to go")
        )  # fmt: skip
    if found.days_left is not None and found.wanted > found.given:
        ahead = "less than a day" if found.days_left < 1 else counted(found.days_left, "day")
        cards.append(_number("To go", ahead, "at the pace of this week"))
    if found.calibrates:
        cards.append(
            _number("Calibration", percent(found.calibration_share),
                    "of the answers; 20 to 30 % of the budget is usual")
        )  # fmt: skip
    if found.adjudicate:
        cards.append(
            _number(
                "Disputed",
                f"{found.adjudicate:,}",
                "waits for an adjudicator" if found.adjudicate == 1 else "wait for an adjudicator",
            )
        )
    return cards


def _number(label: str, value: str, detail: str, share: float | None = None) -> dict[str, Any]:
    return {"label": label, "value": value, "detail": detail, "share": share}


def _wanted(found: Overview) -> str:
    """Answers that items want, and those beside them: to gold and the quiz, repeats, surplus."""
    beside = found.answers - found.given
    return f"of {found.wanted:,} wanted" + (f"; {beside:,} more, as to gold" if beside > 0 else "")


def _left(found: Overview) -> str:
    if found.hours_left is None:
        return "no answer yet"
    if found.given >= found.wanted:
        return "all is done"
    if not found.hours_left:
        return "too few to forecast"
    about = "about " if found.hours_left * 60 >= 1 else ""
    return f"{about}{lasting(3600 * found.hours_left)} to go"
