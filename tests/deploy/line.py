"""A line between a client and a registry that can be made to stop, or to be cut, after so many octets."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Line:
    """Takes connections on *port* and hands them on to *target*.

    Attributes:
        passed: octets towards the target.
        stuck: set when the line has stopped.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.passed = 0
        self.stuck = threading.Event()
        self._go_on = threading.Event()
        self._guard = threading.Lock()
        self._stop_after: int | None = None
        self._cut_after: int | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def stop_after(self, octets: int) -> None:
        """Let *octets* more through, then none, until `go_on`."""
        self.stuck.clear()
        self._go_on.clear()
        self._stop_after = self.passed + octets

    def go_on(self) -> None:
        """Let everything through again."""
        self._stop_after = None
        self._go_on.set()

    def cut_after(self, octets: int) -> None:
        """Cut the connection that carries the octet after *octets* more, once."""
        self._cut_after = self.passed + octets

    def close(self) -> None:
        """Take no more connections."""
        self.go_on()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                target = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            for source, sink, forth in ((client, target, True), (target, client, False)):
                threading.Thread(target=self._pump, args=(source, sink, forth), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, forth: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if forth and self._is_cut(len(data)):
                    break
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _is_cut(self, octets: int) -> bool:
        with self._guard:
            self.passed += octets
            if self._cut_after is not None and self.passed > self._cut_after:
                self._cut_after = None
                return True
            stopped = self._stop_after is not None and self.passed > self._stop_after
        if stopped:
            self.stuck.set()
            self._go_on.wait()
        return False


@contextmanager
def line_to(port: int) -> Iterator[Line]:
    """A line to the loopback *port*."""
    line = Line(port)
    try:
        yield line
    finally:
        line.close()
