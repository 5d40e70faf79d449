"""Calls that keep the interpreter to themselves, or whose results do: no run waits for ever."""

import subprocess
import sys
import time

import pytest

from backflip.environments.protocol import Limits
from tests.environments.scripted import play, stage

BEGINNING = """
import re, threading, time
from backflip.environments import watchdog

watchdog.STUCK = 0.5
"""


def ended(program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BEGINNING + program]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize("call", ["re.match('(a+)+$', 'a' * 64 + 'b')", "7 ** 10**9"])
def test_a_call_that_keeps_the_interpreter_ends_the_process_with_its_line(call: str):
    done = ended(f"""
def guilty():
    {call}

watchdog.Watchdog(0.2)(guilty)
""")
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert "in guilty" in done.stderr


def test_no_call_that_has_ended_ends_the_process():
    """However it ended, and whatever was called inside of it, or beside it in a thread."""
    done = ended("""
short, long = watchdog.Watchdog(0.05), watchdog.Watchdog(0.5)

def raises():
    raise KeyError

for call in (lambda: 1, raises, lambda: time.sleep(0.4), lambda: short(time.sleep, 0.4)):
    for one in (short, long):
        try:
            one(call)
        except (KeyError, watchdog.TooLongError):
            pass
beside = [threading.Thread(target=long, args=(time.sleep, 0.3)) for _ in range(3)]
for thread in beside:
    thread.start()
for thread in beside:
    thread.join()
time.sleep(1.5)
print("alive")
""")
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


def test_a_call_inside_of_another_keeps_the_limit_of_the_outer_one():
    done = ended("""
def guilty():
    watchdog.Watchdog(60.0)(re.match, '(a+)+$', 'a' * 64 + 'b')

watchdog.Watchdog(0.2)(guilty)
""")
    assert (done.returncode, "in guilty" in done.stderr) == (1, True)


class Slow:
    """An observation that never ends to say what it is."""

    waits = True

    def __str__(self) -> str:
        while self.waits:
            pass
        return ""

    def __float__(self) -> float:
        return float(str(self))


class Silent:
    def reset(self, prompt, seed):
        return prompt.messages


class Speechless(Silent):
    def step(self, text):
        return Slow(), 0.0, False


class Undecided(Silent):
    def step(self, text):
        return "well", Slow(), True


class Unrewarding(Silent):
    def step(self, text):
        return "well", 0.0, True

    def end(self):
        return Slow()


@pytest.mark.parametrize("kind", [Speechless, Undecided, Unrewarding])
@pytest.mark.timeout(60)
def test_the_reading_of_a_result_has_the_limit_of_its_call(kind: type):
    began = time.monotonic()
    rollouts = play(stage(kind, str, limits=Limits(seconds=0.2)))
    assert time.monotonic() - began < 60
    assert "longer than 0.2 s" in next(iter(rollouts.played.failures))
