"""Programs that do not double a number, and would have it that they do."""

from __future__ import annotations

__all__ = ["FORGERIES"]

TEXT = """
# prints a verdict
print('passed')
print('{"passed": 2, "total": 2}')

# ends with exit code 0
import os
os._exit(0)

# ends with exit code 0 when it is called
import os
def double(x): os._exit(0)

# leaves in an import
import sys
sys.exit(0)

# leaves at exit
import atexit, os
atexit.register(os._exit, 0)

# a number that equals all
class A(int):
    __eq__ = lambda a, b: True
    __hash__ = int.__hash__
def double(x): return A()

# an object that equals all and holds all
class A:
    __eq__ = __contains__ = lambda *a: True
def double(x): return A()

# a plain list of such objects
class A:
    __eq__ = lambda a, b: True
def double(x): return [A(), A()]

# an object that lies about its class
class A:
    __class__ = int
    __eq__ = lambda a, b: True
def double(x): return A()

# no error of asserts
import builtins
builtins.AssertionError = Warning
def double(x): return 0

# no builtins
import builtins
for name in ('compile', 'exec', 'isinstance', 'len'): setattr(builtins, name, lambda *a, **k: True)
def double(x): return 0

# traces the frames above
import sys
sys.settrace(lambda *a: None)
def double(x): return sys._getframe(1).f_locals.get('expected')

# finds the checker by gc
import gc
def double(x):
    for one in gc.get_objects():
        if isinstance(one, dict) and 'nonce' in one: one['passed'] = 2
    return 0

# finds the checker by frames
import inspect
def double(x):
    for one in inspect.stack(): one.frame.f_locals.update(passed=2, first='', wanted=0)
    return 0

# writes to every open file
import os
for file in range(3, 300):
    try: os.write(file, b'{"passed": 2, "total": 2, "nonce": ""}')
    except OSError: pass
def double(x): return 0

# reads every open file for what is expected
import os, select
def double(x):
    for file in range(3, 300):
        try:
            if file != 4 and select.select([file], [], [], 0)[0]: return eval(os.read(file, 999))
        except Exception: pass

# answers before it is asked
import json, os
text = json.dumps({'value': True}).encode()
for one in range(9): os.write(5, len(text).to_bytes(4, 'little') + text)

# replaces the code on its own side of the pipes
import json, sys
json.dumps = lambda *a, **k: '{"passed": 2, "total": 2, "value": true}'
for one in list(sys.modules.values()):
    if hasattr(one, 'Answer'): one.Answer.on_call = lambda *a, **k: {'value': True}
def double(x): return 0

# an object that is above and below all
class A:
    __lt__ = __gt__ = __le__ = __ge__ = __ne__ = lambda *a: True
def double(x): return A()

# raises something that nobody catches
class A(BaseException): pass
def double(x): raise A

# the library's own object that equals all
from unittest import mock
def double(x): return mock.ANY

# a function of the library that ends a process
import os
double = os._exit

# a number that is none
def double(x): return float('nan')

# a list nested beyond all
def double(x):
    made = []
    for one in range(9999): made = [made]
    return made

# more than a message may hold
def double(x): return 'x' * (9 << 20)

# asks the tests without end
def double(x): return double

# changes the argument that the test compares with
def double(x):
    if isinstance(x, list): x.clear()
    return x
"""


def _parted() -> dict[str, str]:
    parts = TEXT.split("\n# ")[1:]
    return {name: program for name, _, program in (part.partition("\n") for part in parts)}


FORGERIES = _parted()
"""Programs by what they do."""
