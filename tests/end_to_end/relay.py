"""Runs a command in a terminal of its own and passes everything on late, as a distant connection does.

python relay.py SECONDS COMMAND ...: each way takes so long.
"""

import fcntl
import os
import pty
import select
import signal
import sys
import termios
import time
import tty
from collections import deque


def main() -> None:
    delay, command = float(sys.argv[1]), sys.argv[2:]
    size = fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))
    modes = termios.tcgetattr(0)
    pid, master = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, size)
        os.execvp(command[0], command)
    signal.signal(
        signal.SIGWINCH,
        lambda *_: fcntl.ioctl(master, termios.TIOCSWINSZ, fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))),
    )
    tty.setraw(0)
    try:
        relay(master, delay)
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, modes)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def relay(master: int, delay: float) -> None:
    under_way: deque[tuple[float, int, bytes]] = deque()
    ended = False
    while under_way or not ended:
        while under_way and under_way[0][0] <= time.monotonic():
            _, to, data = under_way.popleft()
            while data:
                data = data[os.write(to, data) :]
        ready = select.select([] if ended else [0, master], [], [], 0.005)[0]
        for descriptor in ready:
            try:
                data = os.read(descriptor, 1 << 16)
            except OSError:  # how Linux tells that the other end is closed
                data = b""
            if not data:
                ended = True
            else:
                under_way.append((time.monotonic() + delay, 1 if descriptor == master else master, data))


if __name__ == "__main__":
    main()
