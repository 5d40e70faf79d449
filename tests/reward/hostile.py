"""Forty programs that try to get out, to take all there is, or not to end.

Each is bounded by itself, so that a missing layer costs no machine, and prints ``LEAK`` where it
got something that it should not. ``@NAMES@`` stand for things outside that a witness watches.
"""

from __future__ import annotations

__all__ = ["PROGRAMS"]

TEXT = r"""
# 01 fork bomb
import os, time
made = 0
while made < 60:
    try: child = os.fork()
    except OSError: break
    if child == 0:
        time.sleep(60)
        os._exit(0)
    made += 1
if made >= 60: print('LEAK', made, flush=True)

# 02 thread bomb
import threading, time
made = 0
try:
    while made < 200:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        made += 1
except (RuntimeError, MemoryError): pass
if made >= 200: print('LEAK', made, flush=True)

# 03 memory in one piece
try: held = bytearray(2 << 30); print('LEAK')
except MemoryError: pass

# 04 memory in many pieces and many processes
import mmap, os, time
for one in range(6):
    try:
        if os.fork() == 0: break
    except OSError: break
held = []
try:
    for one in range(5):
        held.append(mmap.mmap(-1, 64 << 20))
        held[-1].write(b'x' * (64 << 20))
except (OSError, MemoryError): pass
time.sleep(4)
print('LEAK', len(held), flush=True)

# 05 memory in files of memory
import os
made = 0
try:
    for one in range(60):
        file = os.memfd_create(str(one))
        made += os.write(file, bytes(8 << 20))
except OSError: pass
if made > 64 << 20: print('LEAK', made)

# 06 one huge file
made = 0
try:
    with open('@HERE@/huge', 'wb') as file:
        for one in range(96): made += file.write(bytes(1 << 20)); file.flush()
except OSError: pass
if made > 64 << 20: print('LEAK', made)

# 07 thousands of files of a megabyte
made = 0
try:
    for one in range(96):
        with open(f'@HERE@/{one}', 'wb') as file: made += file.write(bytes(1 << 20))
except OSError: pass
if made > 64 << 20: print('LEAK', made)

# 08 a million empty files
made = 0
try:
    for one in range(4000): open(f'@HERE@/{one}', 'w').close(); made += 1
except OSError: pass
if made >= 4000: print('LEAK', made)

# 09 a sparse file
import os
try:
    with open('@HERE@/sparse', 'wb+') as file:
        file.truncate(1 << 40)
        print('LEAK', len(file.read(1 << 20)))
except (OSError, MemoryError): pass

# 10 folders too deep to remove
import os
made = 0
try:
    os.chdir('@HERE@')
    while made < 600:
        os.mkdir('x' * 200); os.chdir('x' * 200); made += 1
    os.chmod('.', 0)
    print('LEAK', made)
except OSError: pass

# 11 output without end
while True: print('x' * 1000)

# 12 errors without end
import sys
while True: print('x' * 1000, file=sys.stderr)

# 13 a line of a gigabyte
import os
part = b'x' * (1 << 20)
for one in range(1024): os.write(1, part)

# 14 a child that keeps the output open
import os, time
try:
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
except OSError: pass
print('parent is done')

# 15 bytes that are no text, and orders to the terminal
import os
os.write(1, b'\xff\xfe\0\x1b[2J\x1b]0;LEAK\x07\x9b31m\xe2\x80\xae')

# 16 connects to the world
import socket
try: socket.create_connection(('192.0.2.1', 80), 1); print('LEAK')
except OSError: pass

# 17 connects to this machine
import socket
try: socket.create_connection(('127.0.0.1', @PORT@), 2); print('LEAK')
except OSError: pass

# 18 sockets with a path, and without
import socket
for address in ('@UNIX@', '\0@ABSTRACT@'):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        try:
            socket.socket(socket.AF_UNIX, kind).connect(address)
            print('LEAK', address[1:])
        except OSError: pass
try:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.sendto(b'x', '\0@ABSTRACT@-d')
    print('LEAK')
except OSError: pass

# 19 sends a datagram
import socket
try:
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.sendto(b'LEAK', ('127.0.0.1', @UDP@))
    print('SENT')
except OSError: pass

# 20 listens and waits
import socket
try:
    one = socket.socket(); one.settimeout(2)
    one.bind(('127.0.0.1', @FREE@)); one.listen()
    one.accept(); print('LEAK')
except OSError: pass

# 21 reads its environment
import os
for name in ('BACKFLIP_FLAG', 'HOME', 'PATH', 'USER'):
    if name in os.environ: print('LEAK', name)

# 22 reads the environments and commands of others
import os
try: names = os.listdir('/proc')
except OSError: names = []
for name in [*filter(str.isdigit, names), os.getppid(), 1, 'self']:
    for file in ('environ', 'cmdline', 'maps'):
        try: text = open(f'/proc/{name}/{file}', 'rb').read()
        except OSError: continue
        other = file == 'cmdline' and str(name) not in ('self', str(os.getpid()))
        if b'@FLAG@' in text or (other and text): print('LEAK', name, file)

# 23 reads files of the machine
for name in ('/etc/passwd', '@SECRET@', '/etc/shadow', '/root/.bashrc', '@REPOSITORY@'):
    try: print('LEAK', len(open(name, 'rb').read(9)), name)
    except OSError: pass

# 24 looks for packages of the machine
import os, sys
for path in sys.path:
    for up in (path, os.path.dirname(path), os.path.dirname(os.path.dirname(path))):
        for name in ('site-packages', 'dist-packages', 'python3/dist-packages'):
            try: found = os.listdir(f'{up}/{name}')
            except OSError: continue
            for one in found:
                try:
                    for file in os.listdir(f'{up}/{name}/{one}'):
                        open(f'{up}/{name}/{one}/{file}', 'rb').read(1)
                        print('LEAK', file)
                except OSError: pass

# 25 reads and writes every open file
import os
for file in range(3, 1000):
    try: os.write(file, b'{"end": "exit", "code": 0}'); print('LEAK', file)
    except OSError: pass
    try: os.read(file, 100); print('LEAK', file)
    except OSError: pass

# 26 writes wherever others write
import os
for folder in ('/tmp', '/dev/shm', '/var/tmp', '@OUTSIDE@', '/', '/run', '/work/..'):
    try: open(f'{folder}/@MARK@', 'w').write('x')
    except OSError: pass

# 27 replaces files of its interpreter
import os, sys
for name in (os.__file__, sys.executable, os.path.dirname(os.__file__) + '/__pycache__/x.pyc'):
    try: open(name, 'ab').close(); print('LEAK', name)
    except OSError: pass

# 28 links that lead out
import os
for make in (os.symlink, os.link):
    try:
        make('@SECRET@', f'@HERE@/{make.__name__}')
        print('LEAK', open(f'@HERE@/{make.__name__}').read())
    except OSError: pass

# 29 kills whom it can
import os, signal
for victim in (@VICTIM@, os.getppid(), @LAUNCHING@, -1):
    try: os.kill(victim, signal.SIGKILL)
    except (OSError, OverflowError): pass
try: os.kill(0, signal.SIGKILL)
except OSError: pass

# 30 reads the memory of another process
import ctypes, os
libc = ctypes.CDLL(None)
text = ctypes.create_string_buffer(64)
class Part(ctypes.Structure): _fields_ = [('at', ctypes.c_void_p), ('size', ctypes.c_size_t)]
for victim in (@VICTIM@, os.getppid()):
    if libc.ptrace(16, victim, 0, 0) == 0: print('LEAK ptrace')
    here, there = (ctypes.byref(Part(one, 8)) for one in (ctypes.addressof(text), @ADDRESS@))
    if libc.process_vm_readv(victim, here, 1, there, 1, 0) > 0: print('LEAK memory')
    try: open(f'/proc/{victim}/mem', 'rb'); print('LEAK mem')
    except OSError: pass

# 31 a daemon that writes later
import os, time
try:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for one in range(3): os.close(one)
            time.sleep(1)
            open('@OUTSIDE@/@MARK@', 'w').close()
            time.sleep(60)
        os._exit(0)
except OSError: pass

# 32 ignores signals
import signal
for one in range(1, 65):
    try: signal.signal(one, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True: pass

# 33 sleeps for ever
import time
time.sleep(10 ** 6)

# 34 one step that takes for ever
import re
re.match(r'(a+)+$', 'a' * 64 + 'b')

# 35 stops itself
import os, signal
os.kill(os.getpid(), signal.SIGSTOP)

# 36 forty zombies
import os
for one in range(40):
    try:
        if os.fork() == 0: os._exit(0)
    except OSError: pass

# 37 leaves before its tests
import os
print('passed')
os._exit(0)

# 38 redefines whatever tests use
import atexit, builtins
class Always:
    __eq__ = __lt__ = __gt__ = lambda *a: True
builtins.AssertionError = Warning
builtins.abs = builtins.len = lambda *a: 4
atexit.register(print, 'passed')
def double(x): return Always()

# 39 looks for the checker
import gc, inspect, sys
def double(x):
    for one in gc.get_objects():
        if isinstance(one, dict) and ('nonce' in one or 'expected' in one): one.update(passed=2)
    for one in inspect.stack(): one.frame.f_locals.update(wanted=0, passed=2)
    return sys.modules['__main__'].__dict__.get('expected')

# 40 asks the kernel for more rights
import ctypes, os, resource, sys
libc = ctypes.CDLL(None, use_errno=True)
def tried(name, result):
    if result >= 0 or ctypes.get_errno() not in (1, 38): print('LEAK', name)
tried('unshare', libc.unshare(0x10000000))
tried('mount', libc.mount(b'none', b'/mnt', b'tmpfs', 0, None))
tried('personality', libc.personality(0x0008))
tried('umount', libc.umount2(b'/work', 2))
tried('sethostname', libc.sethostname(b'x', 1))
if os.uname().machine == 'x86_64':
    doors = {'io_uring': 425, 'bpf': 321, 'keyctl': 250, 'userfaultfd': 323, 'perf': 298}
    for name, number in doors.items(): tried(name, libc.syscall(number, 1, 0, 0, 0, 0))
for name in ('/bin/su', '/usr/bin/su', '/usr/bin/passwd', '/bin/mount', '/bin/sh'):
    try:
        if os.access(name, os.X_OK) and os.spawnv(os.P_WAIT, name, [name, '--version']) != 127:
            print('LEAK', name)
    except OSError: pass
try: os.setuid(0); print('LEAK root')
except OSError: pass
try: resource.setrlimit(resource.RLIMIT_NPROC, (10 ** 6, 10 ** 6)); print('LEAK limits')
except (OSError, ValueError): pass
sys.setrecursionlimit(10 ** 9)
held = []
for one in range(10 ** 6): held = [held]
repr(held)
"""


def _parted() -> dict[str, str]:
    parts = TEXT.split("\n# ")[1:]
    return {name: program for name, _, program in (part.partition("\n") for part in parts)}


PROGRAMS = _parted()
"""Programs by number and name."""
