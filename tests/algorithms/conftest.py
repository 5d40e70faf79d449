"""Reference values for tests of algorithms."""

from tests.functional.conftest import oracle

__all__ = ["oracle"]
