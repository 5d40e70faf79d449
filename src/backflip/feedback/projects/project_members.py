"""Members of a project: roles, groups, states, reliabilities, invitations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backflip.feedback.projects import members, reading
from backflip.feedback.projects.members import Membership
from backflip.feedback.store.project_ref import Member, ProjectRef


class ProjectMembers:
    """The members of a project."""

    ref: ProjectRef

    def enrol(
        self,
        person: int,
        *,
        role: str = "rater",
        groups: Mapping[str, str] | None = None,
        by: int | None = None,
    ) -> None:
        """Let a person in, or give a member another role and other groups."""
        members.enrol(self.ref, person, role=role, groups=groups, by=by)

    def member(self, person: int) -> Member | None:
        """A person's role, state and settings here; none for strangers."""
        return members.standing(self.ref, person)

    def members(self) -> list[Membership]:
        return members.everybody(self.ref)

    def set_state(
        self, person: int, state: str, *, reason: str = "", by: int | None = None
    ) -> None:
        """Pause or remove a member, or let them back in."""
        members.set_state(self.ref, person, state, reason=reason, by=by)

    def set_reliabilities(self, estimates: Mapping[int, float | int]) -> None:
        """P(right) of raters as the statistics see it, for the dynamic overlap."""
        members.set_reliabilities(self.ref, estimates)

    def learn_reliabilities(self) -> dict[int, float]:
        """Estimate P(right) of everybody who has judged, and let the dynamic overlap go by it.

        A fit over all judgements: a job, not a page.
        """
        found = reading.reliabilities(self.ref)
        self.set_reliabilities(found)
        return found

    def invite(
        self,
        *,
        role: str = "rater",
        groups: Mapping[str, str] | None = None,
        uses: int = 1,
        days: float | int = 14,
        by: int | None = None,
    ) -> str:
        """The secret of a link that lets people in."""
        return members.invite(self.ref, role=role, groups=groups, uses=uses, days=days, by=by)

    def invitations(self) -> list[dict[str, Any]]:
        return members.invitations(self.ref)

    def withdraw(self, key: str, *, by: int | None = None) -> None:
        """Make an invitation worthless."""
        members.withdraw(self.ref, key, by=by)
