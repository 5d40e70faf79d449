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

from backflip.collect.jobs import Jobs
from backflip.collect.serve import Listening, serve
from backflip.data.errors import UserError
from backflip.feedback.store import open_store
from tests.collect.served import pairs

RUN = """
import sys
from pathlib import Path
from backflip.collect.serve import Listening, serve
from backflip.collect.settings import ServerSettings
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


def test_a_job_whose_server_was_killed_is_said_to_have_broken_off(tmp_path: Path):
    jobs = Jobs(tmp_path, 1, {})
    job = jobs.start("tone", "Long", ["sleep", "600"])
    while jobs.find("tone", job.id).state != "running":
        time.sleep(0.05)
    assert Jobs(tmp_path, 1, {}).find("tone", job.id).state == "broken off"
    jobs.stop("tone", job.id)
    finished(jobs, job.id)


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
