"""The projects of `tests/feedback`, for what is made of them."""

from tests.feedback.conftest import kept, known

__all__ = ["kept", "known"]
