"""The server as a process: it answers, opens its page once, and loses nothing when it is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from backflip.errors import UserError
from backflip.feedback.projects.store import open_store
from backflip.server.base.jobs import Jobs
from backflip.server.serve import Listening, serve
from tests.server.served import pairs

RUN = """
import sys
from pathlib import Path
from backflip.server.serve import Listening, serve
from backflip.server.base.settings import ServerSettings
folder = Path(sys.argv[1])
serve("tone", store=folder / "feedback.sqlite", listening=Listening(port=int(sys.argv[2])),
      settings=ServerSettings(folder=folder / "files"), open_page=False,
      ready=lambda address: print(address, flush=True))
"""


def begin(folder: Path, port: int = 0) -> tuple[subprocess.Popen[str], str]:
    """A server of its own, and the address that signs the owner in."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder), str(port)], stdout=subprocess.PIPE, text=True
    )
    return process, process.stdout.readline().strip()


def test_every_acknowledged_answer_is_there_after_the_server_was_killed(tmp_path: Path):
    """kill -9 in the middle of answering; the rater goes on where they were."""
    store = open_store(tmp_path / "feedback.sqlite")
    project = store.create("tone", {"kind": "compare", "gold_share": 0.0, "raters_per_item": 1})
    project.add_items(pairs(30))
    rater = store.people.add(name="Ada")
    project.enrol(rater.id)
    headers = {"Authorization": f"Bearer {store.people.token(rater.id, 'test', ['rate'])}"}
    acknowledged = list[int]()
    for _ in range(2):
        process, address = begin(tmp_path)
        api = f"{address.split('/open')[0]}/api/v1/projects/tone"
        with httpx.Client(headers=headers) as client:
            for _ in range(5):
                item = client.get(f"{api}/next").json()["items"][0]["item"]
                body = {"item": item, "value": {"choice": "a", "strength": 1}}
                acknowledged.append(client.post(f"{api}/answers", json=body).json()["answer"])
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert [row.event for row in project.answers()] == acknowledged
    store.close()


def test_the_printed_address_leads_the_owner_to_the_project_that_was_named(tmp_path: Path):
    process, address = begin(tmp_path)
    try:
        with httpx.Client(follow_redirects=True) as client:
            page = client.get(address)
            assert page.status_code == 200
            assert page.url.path == "/projects/new"  # there is none of that name yet
            assert 'value="tone"' in page.text
        with httpx.Client(follow_redirects=True) as client:
            assert client.get(address).url.path == "/sign-in"  # the link worked once
    finally:
        process.terminate()
        assert process.wait(timeout=30) is not None


def test_a_port_that_cannot_be_is_said_in_words(tmp_path: Path):
    with pytest.raises(UserError, match=r"127.0.0.1:70000 cannot be used \(port must be 0-65535"):
        serve(store=tmp_path / "x.sqlite", listening=Listening(port=70_000), open_page=False)


def test_a_port_that_is_taken_is_said_before_anything_starts(tmp_path: Path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"127.0.0.1:{port} cannot be used"):
            serve(store=tmp_path / "f.sqlite", listening=Listening(port=port), open_page=False)


# ---- jobs


def finished(jobs: Jobs, name: str):
    while not (job := jobs.find("tone", name)).over:
        time.sleep(0.05)
    return job


def test_a_job_keeps_its_log_and_its_outcome(tmp_path: Path):
    jobs = Jobs(tmp_path, 1, {"GREETING": "hello"})
    code = "import os; print(os.environ['GREETING'])"
    good = jobs.start("tone", "Good", [sys.executable, "-c", code])
    bad = jobs.start("tone", "Bad", [sys.executable, "-c", "raise SystemExit(3)"])
    none = jobs.start("tone", "None", ["/no/such/program"])
    assert finished(jobs, good.id).state == "done"
    assert jobs.log(good) == "hello\n"
    assert (finished(jobs, bad.id).state, finished(jobs, bad.id).code) == ("failed", 3)
    assert finished(jobs, none.id).state == "failed"
    assert "could not be started" in jobs.log(none)
    assert [job.title for job in Jobs(tmp_path, 1, {}).of("tone")] != []


def test_a_job_can_be_stopped_with_all_that_it_started(tmp_path: Path):
    jobs = Jobs(tmp_path, 1, {})
    job = jobs.start("tone", "Long", ["sh", "-c", "sleep 600 & echo $!; wait"])
    while not jobs.log(job):
        time.sleep(0.05)
    child = int(jobs.log(job))
    jobs.stop("tone", job.id)
    assert finished(jobs, job.id).state == "stopped"
    for _ in range(200):
        if not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text():
            break
        time.sleep(0.05)
    else:
        os.kill(child, signal.SIGKILL)
        pytest.fail("the job's own child was left running")


def running_job(folder: Path, seconds: str) -> str:
    """A server of its own begins a job and is killed; the job's name."""
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from backflip.server.base.jobs import Jobs\n"
        "jobs = Jobs(Path(sys.argv[1]), 1, {})\n"
        "job = jobs.start('tone', 'Long', ['sleep', sys.argv[2]])\n"
        "while jobs.find('tone', job.id).state != 'running':\n"
        "    time.sleep(0.02)\n"
        "print(job.id, flush=True)\n"
        "time.sleep(600)\n"
    )
    words = [sys.executable, "-c", code, str(folder), seconds]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    name = process.stdout.readline().strip()
    process.kill()
    process.wait()
    return name


def test_a_job_whose_server_was_killed_is_said_to_have_broken_off(tmp_path: Path):
    name = running_job(tmp_path, "1")
    assert Jobs(tmp_path, 1, {}).find("tone", name).state == "broken off"
    assert list(tmp_path.glob("*.lock")) == []


def test_a_second_server_leaves_the_jobs_of_the_first_alone_and_may_stop_them(tmp_path: Path):
    first = Jobs(tmp_path, 1, {})
    job = first.start("tone", "Long", ["sleep", "600"])
    waiting = first.start("tone", "Next", ["true"])
    while first.find("tone", job.id).state != "running":
        time.sleep(0.05)
    second = Jobs(tmp_path, 1, {})
    states = {one.id: one.state for one in second.of("tone")}
    assert states == {job.id: "running", waiting.id: "waiting"}
    second.stop("tone", job.id)
    assert finished(first, job.id).state == "stopped"
    assert finished(first, waiting.id).state == "done"


def test_a_training_holds_up_no_statistics(tmp_path: Path):
    jobs = Jobs(tmp_path, 1, {})
    training = jobs.start("tone", "Reward model", ["sleep", "600"])
    other = jobs.start("tone", "Reward model", ["true"])
    figures = jobs.start("tone", "Statistics", ["true"], short=True)
    assert finished(jobs, figures.id).state == "done"
    assert jobs.find("tone", other.id).state == "waiting"
    jobs.stop("tone", training.id)
    assert finished(jobs, training.id).state == "stopped"
    assert finished(jobs, other.id).state == "done"


def test_statistics_and_choosing_are_short_jobs(tmp_path: Path):
    """The pages start them so: a training that never ends has no say in it."""
    from backflip.server.work import asking as choosing
    from tests.server.served import served

    server = served(tmp_path)
    project, rater = server.project(), server.person("Ada")
    project.enrol(rater)
    project.answer(rater, project.next(rater)[0].item_id, {"choice": "a", "strength": 1})
    jobs = server.site.jobs
    training = jobs.start("tone", "Reward model", ["sleep", "600"])
    lead = server.as_person(server.person("Grace", admin=True))
    lead.get("/projects/tone/statistics")
    (figures,) = [job for job in jobs.of("tone") if job.title == "Statistics"]
    assert finished(jobs, figures.id).state == "done", jobs.log(figures)
    job = choosing.choose(server.site, "tone", "compare", {"strategy": "random"})
    finished(jobs, job.id)
    assert jobs.find("tone", training.id).state == "running"
    jobs.stop("tone", training.id)
    finished(jobs, training.id)


@pytest.mark.parametrize("name", ["../x", "x/../../y", "", "none"])
def test_a_jobs_name_leads_nowhere_else(tmp_path: Path, name: str):
    with pytest.raises(UserError, match="there is no job"):
        Jobs(tmp_path / "jobs", 1, {}).find("tone", name)


def test_a_job_of_another_project_is_not_shown(tmp_path: Path):
    jobs = Jobs(tmp_path, 1, {})
    job = jobs.start("tone", "Quick", ["true"])
    finished(jobs, job.id)
    with pytest.raises(UserError, match="there is no job"):
        jobs.find("other", job.id)


# ---- files and copies


def with_clips(folder: Path) -> Path:
    """A database whose project has two clips, where a server keeps them."""
    from backflip.server.base.settings import ServerSettings
    from backflip.server.base.state import AppState
    from tests.server.served import png

    store = open_store(folder / "labels.sqlite")
    store.create("walks", {"kind": "clips"})
    root = AppState.of(store, ServerSettings()).media.root("walks")
    root.mkdir(parents=True)
    for shade in (1, 2):
        (root / f"walk-{shade}.png").write_bytes(png(shade))
    (root / ".walk-3.png.draft").write_bytes(b"half")
    store.close()
    return root


def test_clips_lie_beside_the_database_wherever_the_server_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert with_clips(tmp_path) == tmp_path / "labels-files" / "media" / "walks"


def test_the_former_folder_is_found_where_it_is_this_databases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from backflip.feedback.store.database import place_of
    from backflip.server.base.backup_files import files_of

    monkeypatch.chdir(tmp_path)
    labels = place_of(tmp_path / "data" / "labels.sqlite")
    Path("feedback-files").mkdir()
    assert files_of(labels) == Path("feedback-files")
    assert files_of(place_of("postgresql://somewhere/labels")) == Path("feedback-files")
    Path("feedback.sqlite").touch()  # whose folder it is
    assert files_of(labels) == tmp_path / "data" / "labels-files"
    Path("feedback.sqlite").unlink()
    (tmp_path / "data" / "labels-files").mkdir(parents=True)
    assert files_of(labels) == tmp_path / "data" / "labels-files"


def test_a_copy_holds_the_clips_and_a_restore_brings_them_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from backflip.cli import main as cli

    def collect(*words: str) -> int:
        with pytest.raises(SystemExit) as left:
            cli.main(["collect", "--store", "labels.sqlite", *words])
        return int(left.value.code or 0)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    root = with_clips(tmp_path)
    kept = {path.name: path.read_bytes() for path in root.glob("*.png") if path.name[0] != "."}
    assert collect("--backup", "copies/monday.sqlite") == 0
    assert "copies/monday-files" in capsys.readouterr().out
    copied = tmp_path / "copies" / "monday-files" / "media" / "walks"
    assert {path.name for path in copied.iterdir()} == set(kept)
    assert collect("--backup", "copies/monday.sqlite") == 2  # never overwritten
    assert collect("--backup", "copies/tuesday.sqlite", "--files", "nowhere") == 0
    assert not Path("copies/tuesday-files").exists()

    (root / "walk-1.png").write_bytes(b"lost")
    (root / "walk-2.png").unlink()
    assert collect("--restore", "copies/monday.sqlite") == 0
    assert {path.name: path.read_bytes() for path in root.iterdir()} == kept
    aside = next((tmp_path / "labels-files").glob("media.replaced-*"))
    assert (aside / "walks" / "walk-1.png").read_bytes() == b"lost"
    store = open_store("labels.sqlite")
    assert store.project("walks").settings.kind == "clips"
    store.close()


def test_a_copy_whose_clips_do_not_fit_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from backflip.server.base import backup_files as copies

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with_clips(tmp_path)
    store = open_store(tmp_path / "labels.sqlite")
    monkeypatch.setattr(copies.shutil, "copy2", full)
    with pytest.raises(UserError, match="could not be copied"):
        copies.backup(store, tmp_path / "copies" / "monday.sqlite")
    assert list((tmp_path / "copies").iterdir()) == []
    store.close()
