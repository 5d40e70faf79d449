"""Tools of plain classes: calls in two forms, whatever goes wrong in them, and others' shapes."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass

import pytest

from backflip.data.records import Prompt, messages
from backflip.environments.calculator import Calculator, evaluate
from backflip.environments.calls import Call, native_calls
from backflip.environments.made import check_environment, rewards
from backflip.environments.protocol import Limits
from backflip.environments.python import Python
from backflip.environments.reward import EnvironmentReward, OfEpisodes
from backflip.errors import UserError
from tests.data.tiny import CHATML, TOOLS
from tests.environments.scripted import HERMES, LLAMA3, play, stage, template_of, written


class Increment:
    """As a user of TRL's ``environment_factory`` writes it."""

    def __init__(self):
        self._counter = 0

    def reset(self, **columns) -> str:
        self._counter = int(columns["answer"])
        self._asked = columns["prompt"][0]["content"]
        return f" It stands at {self._counter}."

    def increment(self, a: int) -> int:
        """
        Increments the counter.

        Args:
            a: The value to increment by.

        Returns:
            The counter.
        """
        if a < 0:
            raise ValueError("Game over.")
        self._counter += a
        return self._counter

    def get_reward(self) -> float:
        return float(self._counter)


def call(name: str, **arguments) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def once(text: str):
    """Says this in its first turn, then that it is done."""
    return lambda before: "Done." if before.count("<|im_start|>assistant") > 1 else text


@pytest.mark.parametrize(
    ("jinja", "said", "result"),
    [
        (HERMES, call("increment", a=3), "\n<tool_response>\n45\n</tool_response>"),
        (LLAMA3, '{"name": "increment", "parameters": {"a": 3}}', "45"),
        (CHATML, "increment: 3", "45"),
    ],
    ids=["hermes", "llama3", "plain"],
)
def test_a_class_as_trls_users_write_it_works_unchanged(jinja: str, said: str, result: str):
    prompt = Prompt(messages(("user", "Count.")), reference="42", info={"level": 1})
    speak = (lambda text: "Done." if "45" in text else said) if jinja == LLAMA3 else once(said)
    if jinja == LLAMA3:
        jinja = jinja.replace("m.role + '\\n' + m.content", "m.role + '\\n' + m.content | string")
    sampler = stage(Increment, speak, jinja=jinja, records=(prompt,))
    rollouts = play(sampler)
    pieces = written(sampler, rollouts)
    assert [text for own, text in pieces if own] == [f"{said}<|im_end|>", "Done.<|im_end|>"]
    assert result in pieces[1][1]
    asked = sampler.template.tokenizer.decode(rollouts.steps.prompt.row(0))
    assert "Count. It stands at 42." in asked
    assert "Increments the counter." in asked, "the policy is told which tools there are"
    assert float(OfEpisodes(EnvironmentReward())(rollouts).scores) == 45
    assert rollouts.played.calls.tolist() == [1]


def test_a_form_of_calls_is_read_off_the_template():
    assert native_calls(template_of(HERMES)).read(f"a {call('f', x=1)}{call('g')}") == [
        Call("f", {"x": 1}),
        Call("g", {}),
    ]
    assert native_calls(template_of(LLAMA3)).read(' {"name": "f", "parameters": {}}') == [
        Call("f", {})
    ]
    assert native_calls(template_of(LLAMA3)).read("I call f.") == []
    assert native_calls(template_of(CHATML)) is None
    assert native_calls(template_of(TOOLS)) is None, "it writes calls, but no JSON with a name"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("<tool_call>\n{oops}\n</tool_call>", "no JSON"),
        ('<tool_call>{"name": "increment"', "not closed"),
        ("<tool_call>[1]</tool_call>", "a name"),
        ('<tool_call>{"name": "increment", "arguments": 3}</tool_call>', "JSON object"),
        ("<tool_call>" + "[" * 3000 + "</tool_call>", "no JSON"),
        (call("increase", a=1), "there is no tool 'increase', but increment"),
        (call("increment", b=1), "missing a required argument: 'a'"),
        (call("reset"), "there is no tool 'reset'"),
        (call("_asked"), "there is no tool '_asked'"),
        (call("get_reward"), "there is no tool 'get_reward'"),
    ],
)
def test_a_malformed_call_is_answered_in_words_and_counted(said: str, told: str):
    sampler = stage(Increment, once(said), most=20_000, limits=Limits(tokens=30_000))
    rollouts = play(sampler)
    assert told in written(sampler, rollouts)[1][1]
    assert (rollouts.played.malformed.tolist(), rollouts.played.calls.tolist()) == ([1], [0])
    assert rollouts.finished.tolist() == [True]
    assert sum(sampler.troubles.counts.values()) == 1


def test_a_call_too_many_is_not_made():
    sampler = stage(Increment, once(call("increment", a=1) * 12), most=2000)
    rollouts = play(sampler)
    assert (rollouts.played.calls.tolist(), rollouts.played.malformed.tolist()) == ([8], [4])
    assert float(rollouts.played.rewards.sum()) == 42 + 8


class Wild:
    """Tools of every bad kind."""

    def reset(self) -> None: ...

    def work(self, how: str) -> str:
        """
        Works.

        Args:
            how: The way.
        """
        return getattr(self, f"_{how}")()

    def _raises(self):
        raise KeyError("gone")

    def _leaves(self):
        raise SystemExit(3)

    def _loops(self):
        while True:
            pass

    def _gigabyte(self):
        return "x" * 10**9

    def _nothing(self):
        return None

    def _unprintable(self):
        class Bad:
            def __str__(self):
                raise RuntimeError("no text")

        return Bad()


@pytest.mark.parametrize(
    ("how", "told", "failed"),
    [
        ("raises", "error: KeyError: 'gone'", 1),
        ("leaves", "error: SystemExit: 3", 1),
        ("loops", "error: work: it took longer than 0.5 s", 1),
        ("gigabyte", "[999998000 more characters]", 0),
        ("nothing", "None", 0),
        ("unprintable", "error: RuntimeError: no text", 1),
    ],
)
def test_a_tool_that_misbehaves_is_bounded_and_the_episode_goes_on(how: str, told: str, failed):
    began = time.monotonic()
    limits = Limits(seconds=0.5, tokens=10_000) if how == "loops" else Limits(tokens=10_000)
    sampler = stage(Wild, once(f"work: {how}"), jinja=CHATML, limits=limits)
    rollouts = play(sampler)
    assert told in written(sampler, rollouts)[1][1]
    assert rollouts.played.failed.tolist() == [failed]
    assert rollouts.finished.tolist() == [True]
    assert time.monotonic() - began < 120


def test_tools_that_cannot_be_interrupted_end_the_run_in_words():
    class Deaf:
        def reset(self) -> None: ...

        def wait(self, how: str) -> str:
            """
            Waits.

            Args:
                how: The way.
            """
            time.sleep(3)
            return "late"

    records = tuple(Prompt(messages(("user", "Go."))) for _ in range(9))
    sampler = stage(
        Deaf, once("wait: long"), jinja=CHATML, records=records, limits=Limits(seconds=0.01)
    )
    with pytest.raises(UserError, match=r"9 calls of the environment.*still run"):
        play(sampler)


def test_a_coroutine_is_awaited_and_blocks_of_text_are_joined():
    class Later:
        def reset(self) -> None: ...

        async def fetch(self, what: str) -> list:
            """
            Fetches.

            Args:
                what: The thing.
            """
            return [{"type": "text", "text": what}, {"type": "text", "text": "!"}]

    sampler = stage(Later, once("fetch: it"), jinja=CHATML)
    assert "user\nit\n!<|im_end|>" in written(sampler, play(sampler))[1][1]


# ---- anything with reset and step


class Gym:
    def reset(self, *, seed=None, options=None):
        self.left = 2
        return f" Seed {seed}.", {}

    def step(self, action):
        self.left -= 1
        return f"{self.left} left", len(action), self.left == 0, False, {}


@dataclass
class Observation:
    text: str
    done: bool
    reward: float | None


class OpenEnv:
    def reset(self, seed=None, episode_id=None, **columns):
        self.left = 2
        return Observation(" Begin.", False, None)

    def step(self, action, timeout_s=None):
        self.left -= 1
        return Observation(f"{self.left} left", self.left == 0, float(len(action)))


class OldGym(Gym):
    def step(self, action):
        return (*super().step(action)[:3], {})


@pytest.mark.parametrize("kind", [Gym, OldGym, OpenEnv])
def test_anything_with_reset_and_step_is_an_environment(kind: type):
    sampler = stage(kind, lambda text: "ab" if "1 left" in text else "a", jinja=CHATML)
    rollouts = play(sampler)
    assert rollouts.played.rewards[0, rollouts.mask[0]].tolist()[-1] == 2
    assert float(rollouts.played.rewards.sum()) == 3
    assert "1 left" in written(sampler, rollouts)[1][1]
    asked = sampler.template.tokenizer.decode(rollouts.steps.prompt.row(0))
    assert ("Seed 0." if kind is not OpenEnv else "Begin.") in asked


def test_what_a_class_lacks_is_said_before_anything_is_made():
    class Bare: ...

    class Toolless:
        def reset(self): ...

    class Undocumented:
        def reset(self): ...

        def act(self, x):
            return x

    for kind, told in ((Bare, "no method reset"), (Toolless, "no tool"), (Undocumented, "hints")):
        with pytest.raises(UserError, match=told):
            check_environment(kind, kind.__name__)
    assert [rewards(kind) for kind in (Increment, Calculator, Gym)] == [True, False, True]


def test_a_reset_that_asks_for_a_column_nobody_has_is_refused():
    class Asking(Increment):
        def reset(self, board):
            return board

    with pytest.raises(UserError, match="asks for 'board'"):
        play(stage(Asking, once("Done.")))


# ---- the calculator


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("37*46", "1702"),
        ("0.1 + 0.2", "0.3"),
        ("1,234 + 1", "1235"),
        ("2 × (3 + 4) − 1", "13"),
        ("2^10", "1024"),
        ("7 / 2", "3.5"),
        ("1/3", "0.333333333333"),
        ("-7 // 2", "-4"),
        ("sqrt(2)", "1.41421356237"),
        ("max(1, 2.5)", "2.5"),
        ("2 ** -1", "0.5"),
        ("factorial(5)", "120"),
    ],
)
def test_the_calculator_calculates(expression: str, value: str):
    assert evaluate(expression) == value


@pytest.mark.timeout(60)  # what is not bounded runs for hours
@pytest.mark.parametrize(
    "expression",
    [
        "9**9**9**9",
        "(9**999)**999",
        "factorial(factorial(20))",
        "factorial(10**9)",
        "exp(10**6)",
        "10**400 * 1.5 ** 0.5",
        "1/0",
        "0 ** -1",
        "(-1) ** 0.5",
        "1e999",
        "__import__('os').system('true')",
        "().__class__",
        "open('/etc/passwd')",
        "[x for x in (1,)]",
        "'a' * 10**9",
        "1 if 1 else 2",
        "lambda: 1",
        "True + 1",
        "sqrt(1, 2)",
        "round(1.5, 10**9)",
        "round(1.5, -10**9)",
        "round(1.5, 1/3)",
        "min()",
        "x",
        "",
        "1 +",
        "(" * 300 + "1" + ")" * 300,
        "-" * 399 + "1",
        "1" * 401,
        "\0",
        "9" * 399 + "*" + "9",
        "1 << 10**9",
    ],
)
def test_the_calculator_refuses_or_answers_at_once(expression: str):
    with contextlib.suppress(ValueError):
        assert len(evaluate(expression)) < 1500


def test_a_pocket_calculator_takes_one_operation():
    assert Calculator(operations=1).calculate("3*4") == "12"
    with pytest.raises(ValueError, match="2 operations at once, at most 1"):
        Calculator(operations=1).calculate("3*4+5")


def test_the_calculator_knows_nothing_but_arithmetic():
    for attack in ("__import__('os')", "().__class__", "open('f')", "'a' * 9", "[1]"):
        with pytest.raises(ValueError, match=r"arithmetic|no function|no value"):
            evaluate(attack)


# ---- Python


def test_python_runs_in_the_sandbox_and_its_errors_are_answers():
    tool = Python("weak")
    assert tool.python("print(6 * 7)") == "42"
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        tool.python("print('so far')\n1 / 0")
