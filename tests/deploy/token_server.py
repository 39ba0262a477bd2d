"""A token server as registries send their clients to (distribution, "Token authentication"), with one user."""

import base64
import datetime
import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

SERVICE, ISSUER = "tests.registry", "tests.tokens"


@dataclass
class TokenServer:
    """The running server.

    Attributes:
        realm: its URL.
        certificate: PEM file with which the registry checks its tokens.
        asked: user (None for nobody) and scopes of each request.
    """

    realm: str
    certificate: Path
    asked: list[tuple[str | None, tuple[str, ...]]] = field(default_factory=list)

    def auth(self) -> dict[str, Any]:
        """The part of the registry's configuration."""
        return {
            "token": {
                "realm": self.realm,
                "service": SERVICE,
                "issuer": ISSUER,
                "rootcertbundle": str(self.certificate),
            }
        }


@contextmanager
def run_token_server(folder: Path, user: str, password: str) -> Iterator[TokenServer]:
    """A server that lets *user* do what it asks for, and nobody nothing; tokens are good for some seconds."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    certificate = _certificate(key)
    file = folder / "tokens.pem"
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            scopes = tuple(query.get("scope", ()))
            name = self._user()
            server.asked.append((name, scopes))
            if self.headers.get("Authorization") and name is None:
                self._send(401, {"errors": [{"code": "UNAUTHORIZED", "message": "wrong password"}]})
                return
            self._send(200, {"token": _token(key, certificate, name, scopes)})

        def _user(self) -> str | None:
            given = self.headers.get("Authorization", "")
            expected = f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
            return user if given == expected else None

        def _send(self, status: int, document: dict[str, Any]) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server = TokenServer(f"http://127.0.0.1:{http.server_port}/token", file)
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield server
        http.shutdown()


def _certificate(key: rsa.RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ISSUER)])
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )


def _token(
    key: rsa.RSAPrivateKey, certificate: x509.Certificate, user: str | None, scopes: tuple[str, ...]
) -> str:
    now = int(time.time())
    access = [
        dict(zip(("type", "name", "actions"), (kind, name, actions.split(",")), strict=True))
        for kind, name, actions in (one.split(":") for one in scopes)
    ]
    der = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()
    claims = {
        "iss": ISSUER,
        "aud": SERVICE,
        "sub": user or "",
        "iat": now,
        "nbf": now - 60,
        "exp": now + 60,
        "jti": uuid.uuid4().hex,
        "access": access if user else [],
    }
    text = f"{_part({'typ': 'JWT', 'alg': 'RS256', 'x5c': [der]})}.{_part(claims)}"
    signature = key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{text}.{_base64(signature)}"


def _part(document: dict[str, Any]) -> str:
    return _base64(json.dumps(document).encode())


def _base64(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
