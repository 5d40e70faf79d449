"""A program that ends another, and all that it has started, when whoever asked for it is gone.

``python supervisor.py SECONDS PROGRAM ARGUMENT…``: its standard input is a pipe that the asking
process holds open. When that closes, be it that the process was killed, the whole process group is
told to end, and killed after so many seconds. It watches from a process of its own, since some who
end a process end its children too. Nothing but the standard library, as it is started by its path.
"""

import os
import signal
import subprocess
import sys
import threading


def main() -> None:
    watching = os.fork()
    if watching:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(watching, 0)[1]) & 0xFF)
    seconds, command = float(sys.argv[1]), sys.argv[2:]
    program = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it goes last

    def watch() -> None:
        sys.stdin.buffer.read()
        if seconds:
            os.killpg(0, signal.SIGTERM)
        threading.Timer(seconds, os.killpg, (0, signal.SIGKILL)).start()

    threading.Thread(target=watch, daemon=True).start()
    code = program.wait()
    os.killpg(0, signal.SIGTERM)  # workers that it leaves behind
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
