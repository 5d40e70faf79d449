"""A hub model of which only a part is in the cache."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from backflip.errors import UserError
from backflip.models import load
from backflip.monitor.progress import Progress


class Hub:
    """Knows the weights, which are not in the cache yet."""

    @staticmethod
    def from_pretrained(source, *, local_files_only=False):
        if local_files_only:
            raise OSError("not in the cache")
        return f"the weights of {source}"


@pytest.fixture
def config_alone(monkeypatch):
    """The configuration was read before, so it lies in the cache."""
    monkeypatch.setattr(load, "_cached", lambda name: True)
    monkeypatch.setattr(load, "hub_answers", lambda: True)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("config_alone")
def test_weights_are_fetched_although_the_configuration_is_there():
    assert load._load(Hub, "owner/name") == "the weights of owner/name"


@pytest.mark.usefixtures("config_alone")
def test_offline_says_that_the_rest_is_missing(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="not in the local cache"):
        load._load(Hub, "owner/name")


@pytest.mark.usefixtures("config_alone")
def test_a_download_shows_how_much_has_come(monkeypatch, tmp_path):
    """The bytes of what lies in the cache by then, halves of files included."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    blobs = tmp_path / "models--owner--name" / "blobs"
    blobs.mkdir(parents=True)
    screen = Console(file=io.StringIO(), width=100, force_terminal=False)

    class Slow(Hub):
        @staticmethod
        def from_pretrained(source, *, local_files_only=False):
            found = Hub.from_pretrained(source, local_files_only=local_files_only)
            (blobs / "abc.incomplete").write_bytes(b"x" * 2_500_000)
            progress._tasks[-1].began -= 60
            progress._told -= 60
            progress.look()
            return found

    with Progress(screen) as progress:
        load._load(Slow, "owner/name")
    assert screen.file.getvalue() == "downloading name 2.5 MB  1 min 0 s so far\n"
