"""A program that ends another, and all that it has started, when whoever asked for it is gone.

``python supervisor.py PROGRAM ARGUMENT…``: its standard input is a pipe that the asking process
holds open. When that closes, be it that the process was killed, the whole process group is ended.
Nothing but the standard library, as it is started by its path.
"""

import os
import signal
import subprocess
import sys
import threading

ENDING = 20.0
"""Seconds that the group has to end by itself."""


def main() -> None:
    program = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it goes last

    def watch() -> None:
        sys.stdin.buffer.read()
        os.killpg(0, signal.SIGTERM)
        threading.Timer(ENDING, os.killpg, (0, signal.SIGKILL)).start()

    threading.Thread(target=watch, daemon=True).start()
    code = program.wait()
    os.killpg(0, signal.SIGTERM)  # workers that it leaves behind
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
