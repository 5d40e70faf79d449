import threading
import urllib.error
import urllib.request

import pytest

from backflip.errors import UserError
from backflip.monitor.live import address, server
from backflip.monitor.log import METRICS, MetricsLog
from tests.monitor.folders import ppo_run


@pytest.fixture
def running(tmp_path):
    folder = ppo_run(tmp_path / "run", steps=3)
    with server(folder, 0) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield folder, address(http)
        http.shutdown()
        thread.join()


def get(url, host=None):
    request = urllib.request.Request(url, headers={"Host": host} if host else {})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=5) as answer:
        return answer.read().decode()


def test_the_page_follows_a_running_run(running):
    folder, url = running
    page, version = get(url), get(url + "version")
    assert f'data-live="{version}"' in page
    assert "connect-src 'self'" in page
    assert "step 3" in page
    assert get(url + "version") == version
    MetricsLog(folder).append(4, "ppo", {"reward": 1.0})
    assert get(url + "version") != version
    assert "step 4" in get(url)


def test_only_this_machine_is_answered_and_only_the_page_is_served(running):
    _, url = running
    for path, host, status in (("", "evil.example", 403), (f"../{METRICS}", None, 404)):
        with pytest.raises(urllib.error.HTTPError) as error:
            get(url + path, host)
        assert error.value.code == status
        error.value.close()


def test_a_run_damaged_meanwhile_is_named_and_the_server_lives_on(running):
    folder, url = running
    whole = (folder / METRICS).read_text()
    (folder / METRICS).write_text("nonsense\n")
    with pytest.raises(urllib.error.HTTPError) as error:
        get(url)
    assert "line 1" in error.value.read().decode()
    (folder / METRICS).write_text(whole)
    assert "step 3" in get(url)


def test_a_taken_port_says_so(running):
    folder, url = running
    with pytest.raises(UserError, match=r"port \d+ cannot be used"):
        server(folder, int(url.rstrip("/").rpartition(":")[2]))
