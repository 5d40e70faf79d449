"""State of one server: its store, settings, sessions, jobs, clips and templates."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from anyio import CapacityLimiter
from fastapi import Request
from jinja2 import Environment

from backflip.feedback.projects.guessing import Guessing
from backflip.feedback.projects.identities import Person
from backflip.feedback.projects.project import Project
from backflip.feedback.projects.store import Store
from backflip.feedback.rating.items import Check
from backflip.server.base.askable import askable
from backflip.server.base.backup_files import files_of
from backflip.server.base.jobs import Jobs
from backflip.server.base.limits import RateLimit
from backflip.server.base.media import MEDIA, Media
from backflip.server.base.places import without_places
from backflip.server.base.sessions import PasswordLinks, Sessions
from backflip.server.base.settings import ServerSettings
from backflip.server.base.talking import Talkers
from backflip.server.base.templating import environment

KEY_SECONDS = 3.0
"""How long a token is believed without asking again; another process's withdrawal counts after."""
MOST_KEYS = 10_000
TURNS = 2
"""Raters' requests that are worked on at the same time."""
PLACE = "BACKFLIP_FEEDBACK"
"""Environment variable that names the database."""


@dataclass(frozen=True)
class AppState:
    """One server's parts, made once."""

    store: Store
    settings: ServerSettings
    folder: Path
    """Clips, figures, logs and runs of jobs lie below it."""
    sessions: Sessions
    password_links: PasswordLinks
    jobs: Jobs
    media: Media
    talkers: Talkers
    templates: Environment
    links: RateLimit
    """Tries at invitations and at links to a new password."""
    guessing: Guessing
    answers: RateLimit
    turns: CapacityLimiter
    """Where raters' requests queue."""
    doors: dict[str, tuple[int, float]]
    """Links that open the page without a password, once: token → (person, until)."""
    learnt: dict[str, float]
    """When figures were last thought of in passing, by project with an overlap; monotonic."""
    projects: dict[str, Project]
    """Those that were asked for: a project's name and number never change."""
    keys: dict[str, tuple[float, Person, tuple[str, ...]]]
    """Tokens that were looked up just now: until when they are believed, whose, what they open."""

    @classmethod
    def of(cls, store: Store, settings: ServerSettings) -> AppState:
        """The parts of a server on this store."""
        folder = settings.folder or files_of(store.database.url)
        return cls(
            store=store,
            settings=settings,
            folder=folder,
            sessions=Sessions(store.secret("session"), settings),
            password_links=PasswordLinks(store.secret("password")),
            jobs=Jobs(folder / "jobs", settings.jobs, {PLACE: place_of(store)}),
            media=Media(folder / MEDIA, store.secret("clips")),
            talkers=Talkers(dict(settings.endpoints), store.secret("talk")),
            templates=environment(),
            links=RateLimit(settings.sign_ins_per_minute),
            guessing=Guessing(
                store.database, store.secret("tries").encode(), settings.sign_ins_per_minute
            ),
            answers=RateLimit(settings.answers_per_minute),
            turns=CapacityLimiter(TURNS),
            doors={},
            learnt={},
            projects={},
            keys={},
        )

    def project(self, name: str) -> Project:
        """A project by name, from memory after the first time. Raises RefusedError."""
        if name not in self.projects:
            self.projects[name] = self.store.project(name)
        return self.projects[name]

    def by_token(self, token: str) -> tuple[Person, tuple[str, ...]] | None:
        """Whose token this is. Remembered for a moment: programs ask many times a second."""
        now = time.monotonic()
        known = self.keys.get(token)
        if known is not None and known[0] > now:
            return known[1:]
        found = self.store.people.by_token(token)
        if found is not None:
            if len(self.keys) >= MOST_KEYS:
                self.keys.clear()
            self.keys[token] = (now + KEY_SECONDS, *found)
        return found

    def askable(self, project: str) -> Check:
        """Why an item could not be asked here: what it names is not there."""
        return askable(self.media, self.talkers.places, project)

    def without_places(self, text: str) -> str:
        """A text for people, without places on this machine's disk."""
        path = self.store.database.path
        roots = [self.folder, *([path.absolute().parent] if path else [])]
        return without_places(text, roots)

    def forget_keys(self, person: int) -> None:
        """Believe none of what was known of somebody's tokens and links of the terminal."""
        self.keys.clear()
        for token, (whose, _) in list(self.doors.items()):
            if whose == person:
                self.doors.pop(token, None)

    def figures(self, project: str) -> Path:
        """Where the statistics of a project are kept."""
        return self.folder / "figures" / f"{project}.json"


def base_of(request: Request) -> str:
    """Beginning of a link to this server: its public address, else the name that was used."""
    return app_state_of(request).settings.base or str(request.base_url).rstrip("/")


def place_of(store: Store) -> str:
    """Where a command of its own finds the same database."""
    return str(store.database.path or store.database.url.render_as_string(hide_password=False))


def app_state_of(request: Request) -> AppState:
    """The server that a request came to."""
    return cast(AppState, request.app.state.site)


async def parts(request: Request) -> AppState:
    """The same as a dependency: async, so that no thread is woken for it."""
    return app_state_of(request)
