"""The interface for programs that run projects: settings, people, invitations, the log."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from fastapi import APIRouter, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from backflip.feedback.projects.project import Project
from backflip.feedback.store.refusals import RefusedError
from backflip.feedback.tasks.settings import ProjectSettings, settings_of
from backflip.server.api.rate import REFUSALS
from backflip.server.base.auth import RANK, Here, Lead, Parts, Senior, Who
from backflip.server.work import managing

router = APIRouter(prefix="/api/v1", tags=["projects"], responses=REFUSALS)
Page = Annotated[int, Query(ge=1, le=1000)]
Role: TypeAlias = Literal["rater", "adjudicator", "lead", "admin"]
State: TypeAlias = Literal["screening", "active", "paused", "removed"]
After = Annotated[int, Query(ge=0, lt=2**62)]
Settings = Annotated[ProjectSettings, BeforeValidator(settings_of)]
"""From JSON, whose lists stand for tuples."""
ProjectName = Annotated[str, Field(min_length=1, max_length=100)]


class Body(BaseModel):
    """Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class NewProject(Body):
    """A project to make."""

    name: ProjectName
    settings: Settings


class NewInvitation(Body):
    """A link that lets people in."""

    role: Role = "rater"
    groups: dict[str, str] = {}
    uses: Annotated[int, Field(ge=1, le=10_000)] = 1
    days: Annotated[float, Field(gt=0, le=365)] = 14.0


class Change(Body):
    """Another role, state or groups for a member."""

    role: Role | None = None
    groups: dict[str, str] | None = None
    state: State | None = None
    reason: Annotated[str, Field(max_length=200)] = ""


class Powers(Body):
    """Powers over the whole server."""

    admin: bool


@router.get("/me")
def me(site: Parts, who: Who) -> dict[str, Any]:
    """Who the token or session belongs to, and their projects."""
    person = who.person
    roles = site.store.projects_of(person.id)
    return {"pseudonym": person.pseudonym, "admin": person.admin, "projects": roles}


@router.get("/projects")
def projects(site: Parts, who: Who) -> list[dict[str, Any]]:
    """The projects of whoever asks; all of them for admins."""
    who.need("read")
    roles = site.store.projects_of(who.person.id)
    every = site.store.projects()
    return [_brief(p) for p in every if who.person.admin or p.name in roles]


def _brief(project: Project) -> dict[str, Any]:
    settings = project.settings
    return {"name": project.name, "title": settings.title, "kind": settings.kind}


@router.post("/projects", status_code=201)
def create(site: Parts, who: Who, sent: NewProject) -> dict[str, Any]:
    """A new project."""
    who.need("write")
    if not who.person.admin:
        raise RefusedError("not_allowed", "only admins make projects.")
    project = site.store.create(sent.name, sent.settings)
    project.enrol(who.person.id, role="admin")
    return _brief(project)


@router.get("/projects/{name}")
def project(here: Here) -> dict[str, Any]:
    """Settings, and for those who run it the progress."""
    here.visitor.need("read" if here.may("adjudicator") else "rate")
    settings = here.project.settings.model_dump(mode="json")
    body = _brief(here.project) | {"rubric_version": here.project.rubric_version}
    if here.may("lead"):
        return body | {"settings": settings, "progress": here.project.overview().__dict__}
    return body | {"rubric": settings["rubric"]}


@router.put("/projects/{name}/settings")
def configure(here: Lead, sent: Settings) -> dict[str, int]:
    """New settings, as a new version of the rubric."""
    here.visitor.need("write")
    return {"rubric_version": here.project.configure(sent, by=here.visitor.person.id)}


@router.get("/projects/{name}/people")
def people(here: Lead) -> list[dict[str, Any]]:
    """Members, under pseudonyms."""
    here.visitor.need("read")
    return [
        {k: v for k, v in member.__dict__.items() if k != "person"}
        for member in here.project.members()
    ]


@router.patch("/projects/{name}/people/{pseudonym}")
def change(site: Parts, here: Lead, pseudonym: str, sent: Change) -> dict[str, Any]:
    """Another role, state or groups; what is not sent stays."""
    here.visitor.need("write")
    member = managing.found(site, here, pseudonym)
    managing.change(
        here, member, role=sent.role, state=sent.state, groups=sent.groups, reason=sent.reason
    )
    return {"pseudonym": pseudonym, "role": sent.role or member.role}


@router.post("/projects/{name}/people/{pseudonym}/password", status_code=201)
def password(site: Parts, here: Lead, pseudonym: str) -> dict[str, str]:
    """The path of a link by which a member chooses a new password. It is told once."""
    here.visitor.need("write")
    member = managing.found(site, here, pseudonym)
    return {"path": managing.password_path(site, here, member)}


@router.patch("/people/{pseudonym}")
def set_admin(site: Parts, who: Who, pseudonym: str, sent: Powers) -> dict[str, Any]:
    """Let somebody run the whole server, or no longer."""
    who.need("write")
    managing.set_admin(site, who, pseudonym, admin=sent.admin)
    return {"pseudonym": pseudonym, "admin": sent.admin}


@router.delete("/people/{pseudonym}")
def erase(site: Parts, who: Who, pseudonym: str, texts: bool = False) -> dict[str, Any]:
    """Forget who somebody is; ``texts``: and what they wrote in their own words."""
    who.need("write")
    managing.erase(site, who, pseudonym, texts=texts)
    return {"pseudonym": pseudonym, "erased": True}


@router.post("/projects/{name}/invitations", status_code=201)
def invite(here: Lead, sent: NewInvitation) -> dict[str, str]:
    """The path of a link that lets people in. It is told once."""
    here.visitor.need("write")
    if RANK[sent.role] > RANK[here.role]:
        raise RefusedError("not_allowed", f"you may not invite anybody as {sent.role!r}.")
    secret = here.project.invite(
        role=sent.role,
        groups=sent.groups,
        uses=sent.uses,
        days=sent.days,
        by=here.visitor.person.id,
    )
    return {"path": f"/invitation/{secret}"}


@router.get("/projects/{name}/events")
def events(here: Lead, after: After = 0, limit: Page = 1000) -> list[dict[str, Any]]:
    """The log, in order, after an event number."""
    here.visitor.need("read")
    return [event.__dict__ for event in here.project.events(after=after, limit=limit)]


@router.get("/projects/{name}/progress")
def progress(here: Senior) -> dict[str, Any]:
    """How far the project is, with its forecast."""
    here.visitor.need("read")
    return here.project.overview().__dict__
