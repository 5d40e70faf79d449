"""Signing in, invitations, passwords, tokens, and what people may do with their own data."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, Response

from backflip.errors import UserError
from backflip.feedback.projects.identities import Person
from backflip.feedback.projects.members import Invitation
from backflip.feedback.store.refusals import RefusedError
from backflip.server.base import audit_log
from backflip.server.base.auth import (
    SCOPES,
    Form,
    Parts,
    Posted,
    TooFastError,
    Visitor,
    Who,
    maybe,
)
from backflip.server.base.sessions import WORTHLESS, address, signed_in_at_proxy
from backflip.server.base.state import AppState, app_state_of
from backflip.server.pages.drawing import go, inside, page, sentence

router = APIRouter(include_in_schema=False)
Maybe = Annotated[Visitor | None, Depends(maybe)]
TRIES = "too many wrong passwords from here"
DOOR_SECONDS = 600.0
"""How long a link that opens the page by itself is good."""
ROLES = {
    "rater": "a rater",
    "adjudicator": "an adjudicator",
    "lead": "a lead",
    "admin": "an admin",
}


def door(site: AppState, person: int) -> str:
    """The path of a link that signs somebody in, once: for whoever started the server."""
    token = secrets.token_urlsafe(24)
    site.doors[token] = (person, time.monotonic() + DOOR_SECONDS)
    return f"/open/{token}"


@router.get("/open/{token}")
def open_door(request: Request, site: Parts, token: str, next: str = "/") -> Response:
    """Sign in whoever has the link that the terminal shows."""
    person, until = site.doors.pop(token, (0, 0.0))
    if time.monotonic() > until:
        audit_log.refused("no such link of the terminal", request.scope)
        return go("/sign-in", "closed-door")
    known = site.store.people.get(person)
    response = go(inside(next))
    site.sessions.start(response, known.id, known.epoch)
    return response


@router.get("/sign-in")
def sign_in_page(request: Request, who: Maybe, next: str = "/") -> Response:
    if who is not None:
        return go(inside(next))
    named = signed_in_at_proxy(request, app_state_of(request).settings) or ""
    return page(request, "sign_in.html", next=inside(next), email="", error="", proxy=named)


@router.post("/sign-in")
def sign_in(request: Request, site: Parts, form: Form) -> Response:
    """Check an address and a password. Guessing is slowed down, and nobody but the guesser."""
    email, place = form["email"], address(request)
    if wait := site.guessing.attempt(place, email):
        audit_log.refused("too many tries at a password", request.scope)
        raise TooFastError(wait, TRIES)
    try:
        person = site.store.people.sign_in(email, form.fields.get("password", ""))
    except UserError:
        person = None
    if person is None:
        audit_log.refused("wrong password", request.scope)
        error = "This address and this password do not belong together."
        there = inside(form["next"])
        return page(
            request, "sign_in.html", status=401, next=there, email=email, error=error, proxy=""
        )
    site.guessing.right(place, email)
    response = go(inside(form["next"]))
    site.sessions.start(response, person.id, person.epoch)
    return response


@router.post("/sign-out")
def sign_out(site: Parts, who: Maybe, form: Form) -> Response:
    """End the session, on the server too: a copy of its cookie is worth nothing."""
    del form
    if who is not None:
        site.store.people.end_session(who.session.nonce)
    response = go("/sign-in", "signed-out")
    site.sessions.end(response)
    return response


# ---- invitations


@router.get("/invitation/{secret}")
def invitation_page(request: Request, site: Parts, who: Maybe, secret: str) -> HTMLResponse:
    found = _opened(request, site, secret)
    return _invitation(request, who, found, {"name": "", "email": ""}, "")


def _links(request: Request) -> str:
    """Whose tries at links are counted together."""
    return f"invitation {address(request)}"


@contextmanager
def _guessed(request: Request, site: AppState, what: str) -> Iterator[None]:
    """Guessing a link is hopeless; trying is slowed down all the same, and written down.

    Visits that are no guess cost nothing: a whole class may come from one address.
    """
    key = _links(request)
    if wait := site.links.wait(key):
        raise TooFastError(wait)
    try:
        yield
    except RefusedError:
        audit_log.refused(what, request.scope)
        raise
    site.links.give_back(key)


def _opened(request: Request, site: AppState, secret: str) -> Invitation:
    """The invitation of a link. Raises RefusedError, and writes it down, where there is none."""
    with _guessed(request, site, "no such invitation"):
        return site.store.invitation(secret)


def _invitation(
    request: Request, who: Visitor | None, found: Invitation, form: dict[str, str], error: str
) -> HTMLResponse:
    """The form; whom a proxy has let in needs no address and no password."""
    named = signed_in_at_proxy(request, app_state_of(request).settings) or ""
    return page(
        request,
        "accept.html",
        who,
        status=400 if error else 200,
        invitation={"title": found.title, "role_text": ROLES[found.role]},
        form=form,
        proxy=named,
        error=error,
    )


@router.post("/invitation/{secret}")
def accept(request: Request, site: Parts, who: Maybe, secret: str, form: Form) -> Response:
    """Join a project: with the account that is signed in, or with a new one."""
    found = _opened(request, site, secret)
    there = f"/projects/{quote(found.project)}"
    if who is not None:
        site.store.accept(secret, who.person.id)
        return go(there, "joined")
    named = signed_in_at_proxy(request, site.settings)
    given = {"name": form["name"], "email": named or form["email"]}
    try:
        password = "" if named else _chosen(given["email"], form)
        person = site.store.accept(secret, {**given, "password": password})
    except UserError as error:
        site.links.wait(_links(request))  # each try may have cost the hash of a password
        return _invitation(request, None, found, given, sentence(error))
    response = go(there, "joined")
    site.sessions.start(response, person.id, person.epoch)
    return response


def _chosen(email: str, form: Posted) -> str:
    """The password of a form that joins. Raises UserError where it or the address is missing."""
    if not email:
        raise UserError("an e-mail address is needed, to sign in with.")
    password = form.fields.get("password", "")
    if not password:
        raise UserError("choose a password.")
    return password


# ---- a new password, by link


@router.get("/password/{link}")
def new_password_page(request: Request, site: Parts, link: str) -> HTMLResponse:
    return _new_password(request, _owner_of(request, site, link), "")


def _owner_of(request: Request, site: AppState, link: str) -> Person:
    """Whose password a link sets. Raises RefusedError, and writes it down, where it sets none."""
    with _guessed(request, site, "no such link to a password"):
        number, epoch = site.password_links.read(link)
        person = site.store.people.get(number)
        if person.erased or person.epoch != epoch:
            raise RefusedError("not_found", WORTHLESS)
    return person


def _new_password(request: Request, person: Person, error: str) -> HTMLResponse:
    status = 400 if error else 200
    return page(request, "password.html", status=status, email=person.email, error=error)


@router.post("/password/{link}")
def new_password(request: Request, site: Parts, link: str, form: Form) -> Response:
    """Set it, once, and sign in; every session of before is over."""
    person = _owner_of(request, site, link)
    try:
        chosen = form.fields.get("new", "")
        site.store.people.set_password(person.id, chosen, epoch=person.epoch)
    except RefusedError:
        raise
    except UserError as error:
        return _new_password(request, person, sentence(error))
    site.forget_keys(person.id)
    fresh, response = site.store.people.get(person.id), go("/", "password")
    site.sessions.start(response, fresh.id, fresh.epoch)
    return response


# ---- one's own account


@router.get("/me")
def me(request: Request, site: Parts, who: Who) -> HTMLResponse:
    return _me(request, site, who)


def _me(
    request: Request, site: AppState, who: Visitor, *, error: str = "", made: str = ""
) -> HTMLResponse:
    person = who.person
    scopes = [
        ("rate", "answer items"),
        ("read", "read results"),
        ("read write", "run projects"),
        ("rate read write", "everything that I may"),
    ]
    tokens = [{**token, "id": token["key"]} for token in site.store.people.tokens(person.id)]
    return page(
        request,
        "me.html",
        who,
        status=400 if error else 200,
        identity=person,
        has_password=site.store.people.has_password(person.id),
        tokens=tokens,
        scopes=scopes,
        error=error,
        made=made,
    )


@router.post("/me/password")
def password(request: Request, site: Parts, who: Who, form: Form) -> Response:
    """A new password; it ends all sessions but this one, and all tokens."""
    person, people = who.person, site.store.people
    try:
        if site.store.people.has_password(person.id):
            # Whoever sits at a session that is left open does not slow the owner's sign-in down.
            if wait := site.guessing.attempt("here", person.pseudonym):
                raise TooFastError(wait, TRIES)
            if people.sign_in(person.email, form.fields.get("old", "")) is None:
                audit_log.refused("wrong password", request.scope)
                raise UserError("the present password is another one.")
            site.guessing.right("here", person.pseudonym)
        elif not person.email:
            if not form["email"]:
                raise UserError("give an address to sign in with.")
            people.set_email(person.id, form["email"])
        people.set_password(person.id, form.fields.get("new", ""))
    except UserError as error:
        return _me(request, site, who, error=sentence(error))
    site.forget_keys(person.id)
    response = go("/me", "password")
    fresh = people.get(person.id)
    site.sessions.start(response, fresh.id, fresh.epoch)
    return response


@router.post("/me/tokens")
def make_token(request: Request, site: Parts, who: Who, form: Form) -> HTMLResponse:
    chosen = [scope for scope in form["scope"].split() if scope in SCOPES]
    token = site.store.people.token(who.person.id, form["name"], chosen)
    return _me(request, site, who, made=token)


@router.post("/me/tokens/{key}/withdraw")
def withdraw(site: Parts, who: Who, key: str, form: Form) -> Response:
    del form
    site.store.people.revoke(who.person.id, key)
    site.keys.clear()
    return go("/me", "withdrawn")


@router.get("/me/data.json")
def my_data(site: Parts, who: Who) -> Response:
    """All that is kept about somebody, for them to take along."""
    body = json.dumps(site.store.personal_data(who.person.id), ensure_ascii=False, indent=2)
    named = {"Content-Disposition": 'attachment; filename="my-data.json"'}
    return Response(body, media_type="application/json", headers=named)


@router.post("/me/erase")
def erase(site: Parts, who: Who, form: Form) -> Response:
    """Forget who this is."""
    del form
    site.store.erase(who.person.id)
    site.keys.clear()
    response = go("/sign-in", "erased")
    site.sessions.end(response)
    return response
