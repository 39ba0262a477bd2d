"""As much of Route 53's API as certbot calls, on a loopback port; changes are told to a DNS server.

moto has the same without HTTP, which another process cannot call; its server needs a web framework.
Source: Route 53 API Reference, "ListHostedZones", "ChangeResourceRecordSets", "GetChange".
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.etree import ElementTree

from tests.deploy.recorded_calls import Need

_SPACE = "https://route53.amazonaws.com/doc/2013-04-01/"
_CHANGE = (
    "<ChangeInfo><Id>/change/C1</Id><Status>INSYNC</Status>"
    "<SubmittedAt>2026-11-23T00:00:00Z</SubmittedAt></ChangeInfo>"
)


@dataclass
class Route53:
    """One zone.

    Attributes:
        records: TXT records by name, as they are now.
        changed: type and name of each change.
        needs: the permission of each call.
    """

    url: str
    records: dict[str, list[str]] = field(default_factory=dict)
    changed: list[tuple[str, str]] = field(default_factory=list)
    needs: list[Need] = field(default_factory=list)

    def need(self, action: str, resource: str, **context: str) -> None:
        """Note what one call needs; the keys of its context are those of `ChangeResourceRecordSets`."""
        keys = {f"route53:ChangeResourceRecordSets{key}": (value,) for key, value in context.items()}
        self.needs.append(Need("user/certificates", f"route53:{action}", resource, keys))


@contextmanager
def run_route53(zone: str, tell: Callable[[str, str], None]) -> Iterator[Route53]:
    """The zone *zone*; every TXT value that is written is given to *tell* with its name."""
    found = Route53("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "/change/" in self.path:
                found.need("GetChange", f"arn:aws:route53:::change/{self.path.rpartition('/')[2]}")
                self._answer("GetChangeResponse", _CHANGE)
                return
            found.need("ListHostedZones", "*")
            listed = (
                f"<HostedZones><HostedZone><Id>/hostedzone/Z1</Id><Name>{zone}.</Name><CallerReference>1"
                "</CallerReference><Config><PrivateZone>false</PrivateZone></Config></HostedZone>"
                "</HostedZones><IsTruncated>false</IsTruncated><MaxItems>100</MaxItems>"
            )
            self._answer("ListHostedZonesResponse", listed)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            for change in ElementTree.fromstring(body).iter(f"{{{_SPACE}}}Change"):
                action, kind, name = (
                    next(change.iter(f"{{{_SPACE}}}{tag}")).text or "" for tag in ("Action", "Type", "Name")
                )
                name = f"{name.rstrip('.')}."
                values = [(one.text or "").strip('"') for one in change.iter(f"{{{_SPACE}}}Value")]
                found.changed.append((kind, name))
                normal = {"RecordTypes": kind, "NormalizedRecordNames": name.rstrip(".").lower()}
                found.need("ChangeResourceRecordSets", "arn:aws:route53:::hostedzone/Z1", **normal)
                if action == "DELETE":
                    found.records.pop(name, None)
                    continue
                found.records[name] = values
                for value in values:
                    tell(name, value)
            self._answer("ChangeResourceRecordSetsResponse", _CHANGE)

        def _answer(self, element: str, inner: str) -> None:
            text = f'<?xml version="1.0"?><{element} xmlns="{_SPACE}">{inner}</{element}>'.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
