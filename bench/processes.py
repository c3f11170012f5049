"""The processes of a measurement: started, talked to, and ended by their own ids whatever happens."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from registry.shell.child import ends_with_parent
from registry.shell.nats_process import find_binary

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT = 15.0
END_TIMEOUT = 12.0


class BenchError(Exception):
    """Something did not do its part; the message says what, and what it last wrote."""


class Process:
    """A child that ends with this process, even when this one is killed."""

    def __init__(self, command: list[str], directory: Path) -> None:
        self.name = " ".join(command[2:4]) if command[0] == sys.executable else Path(command[0]).name
        handle, path = tempfile.mkstemp(dir=directory, prefix="stderr-")
        self._errors = Path(path)
        try:
            self.popen = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=handle,
                bufsize=0,
                preexec_fn=ends_with_parent(signal.SIGKILL),  # noqa: PLW1509 - there is one thread
            )  # fmt: skip
        finally:
            os.close(handle)
        self._heard = b""

    def line(self, within: float) -> str:
        """Return the next line that it writes.

        Raises:
            BenchError: If it ends, or writes none in time.
        """
        assert self.popen.stdout is not None
        deadline = time.monotonic() + within
        while b"\n" not in self._heard:
            ready, _, _ = select.select([self.popen.stdout], [], [], max(0.0, deadline - time.monotonic()))
            heard = os.read(self.popen.stdout.fileno(), 1 << 16) if ready else b""
            if not heard:
                what = "ended" if ready else f"said nothing for {within:g} s"
                raise BenchError(f"{self.name} {what}: {self.errors()}")
            self._heard += heard
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode()

    def errors(self) -> str:
        """Return the end of what it wrote to standard error."""
        return self._errors.read_text(errors="replace")[-2000:] or "(nothing on standard error)"

    def end(self) -> None:
        """End it: politely, then not."""
        assert self.popen.stdin is not None
        assert self.popen.stdout is not None
        self.popen.stdin.close()
        for attempt in (self._wait_only, self.popen.terminate, self.popen.kill):
            attempt()
            try:
                self.popen.wait(END_TIMEOUT)
                break
            except subprocess.TimeoutExpired:
                continue
        self.popen.stdout.close()

    def _wait_only(self) -> None: ...

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class Server(Process):
    """A nats-server with JetStream on a free port of loopback, with a temporary store."""

    def __init__(self) -> None:
        binary = find_binary()
        self.directory = Path(tempfile.mkdtemp(prefix="agent-registry-bench-"))
        try:
            options = ["-a", "127.0.0.1", "-p", "-1", "-js", "-sd", str(self.directory / "store")]
            super().__init__([binary, *options, "--ports_file_dir", str(self.directory)], self.directory)
            self.url = self._wait_for_url()
        except BaseException:
            self.end()
            raise

    def _wait_for_url(self) -> str:
        ports = self.directory / f"{self.name}_{self.popen.pid}.ports"
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and self.popen.poll() is None:
            try:
                return json.loads(ports.read_text())["nats"][0]
            except (FileNotFoundError, json.JSONDecodeError):
                time.sleep(0.02)
        raise BenchError(f"nats-server did not start: {self.errors()}")

    def _wait_only(self) -> None:
        self.popen.send_signal(signal.SIGTERM)  # it does not look at its standard input

    def end(self) -> None:
        if hasattr(self, "popen"):
            super().end()
        shutil.rmtree(self.directory, ignore_errors=True)


class Loaded(Process):
    """The process under load; see `bench.loaded`."""

    def __init__(self, server: Server, role: str, loop: str, **options: object) -> None:
        told = json.dumps({"role": role, "url": server.url, "loop": loop, **options})
        super().__init__([sys.executable, "-m", "bench.loaded", told], server.directory)
        self.name = f"{role} under load"
        try:
            self.ready = json.loads(self.line(90.0))
        except BaseException:
            self.end()
            raise

    def ask(self, do: str, within: float = 60.0, **order: object) -> dict:
        assert self.popen.stdin is not None
        self.popen.stdin.write(json.dumps({"do": do, **order}).encode() + b"\n")
        answer = json.loads(self.line(within))
        if "error" in answer:
            raise BenchError(f"{self.name}: {answer['error']}: {self.errors()}")
        return answer


def generate(server: Server, job: str, within: float = 90.0, **options: object) -> dict:
    """Run a generator to its end and return what it reports; see `bench.generator`."""
    told = json.dumps({"job": job, "url": server.url, **options})
    with Process([sys.executable, "-m", "bench.generator", told], server.directory) as process:
        process.name = f"generator of {job}"
        return json.loads(process.line(within))
