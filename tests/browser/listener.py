"""A web server somewhere on the Internet that writes down who asks it for what."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.browser.mail import PNG
from twinmail.local import pki
from twinmail.local.state import LOOPBACK


@dataclass
class Listener:
    """Attributes:
    url: with a slash at the end; HTTPS, with a certificate that the browser trusts.
    asked: paths in the order of the requests.
    """

    url: str
    asked: list[str] = field(default_factory=list)


@contextmanager
def listener(authority: Path, folder: Path) -> Iterator[Listener]:
    """Listen until the end; *authority* is the folder of the local certification authority."""
    pki.ensure(authority, folder, ("tracker.example",))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            one.asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "image/png")
            self.send_header("Content-Length", str(len(PNG)))
            self.end_headers()
            self.wfile.write(PNG)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    one = Listener(f"https://{LOOPBACK}:{server.server_port}/")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield one
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
