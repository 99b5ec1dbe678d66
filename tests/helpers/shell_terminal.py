"""A terminal with a shell in which a command was typed, to be closed under it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shlex
import struct
import subprocess
import termios
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

SHELL = ("setsid", "--ctty", "bash", "--norc", "--noprofile", "-i")


class ShellTerminal:
    """An interactive shell in a new session, with the command as its job in the foreground. Use in a `with` block, at
    whose end the terminal is closed. `screen` is all that was written so far."""

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str], columns: int = 80) -> None:
        script = folder / "typed.sh"
        script.write_text(f"exec {shlex.join(command)}\n")
        self.screen = ""
        self._end, other = pty.openpty()
        variables = {**environment, "TERM": "xterm", "PS1": "$ "}
        self._shell = subprocess.Popen(SHELL, stdin=other, stdout=other, stderr=other, cwd=folder, env=variables)
        os.close(other)
        fcntl.ioctl(self._end, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self._open, self._ended = True, threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.type(f"bash {script}; echo code $?\n")

    def type(self, text: str) -> None:
        """Type on the keyboard; "\\x03" is Ctrl-C."""
        os.write(self._end, text.encode())

    def kill_shell(self) -> None:
        """Kill the shell with SIGKILL."""
        self._shell.kill()

    def close(self) -> None:
        """Close the terminal, which hangs up on all its processes."""
        if self._open:
            self._open = False
            self._ended.set()
            self._reader.join()
            os.close(self._end)
            self._shell.wait()

    def _read(self) -> None:
        """Read what is written: a terminal that nobody reads blocks its processes."""
        while not self._ended.is_set():
            if select.select([self._end], [], [], 0.05)[0]:
                try:
                    self.screen += os.read(self._end, 1 << 16).decode(errors="replace")
                except OSError:  # no process has it open any more
                    return

    def __enter__(self) -> ShellTerminal:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
