"""Who reaches which port of a machine at Lightsail; pure."""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twinmail.config import Server

PUBLIC = (80, 443, 993)
"""What everybody may reach: for certificates and redirects, webmail and what mail programs ask, IMAP."""
SUBMISSION = 465
"""That too, where the server takes mail from clients."""
SSH = 22

_EVERYBODY = (("0.0.0.0/0",), ("::/0",))


@dataclass(frozen=True)
class Opening:
    """A TCP port, and the networks that may connect to it."""

    port: int
    ipv4: tuple[str, ...]
    ipv6: tuple[str, ...]

    def __str__(self) -> str:
        everybody = (self.ipv4, self.ipv6) == _EVERYBODY
        return f"{self.port} from {'everywhere' if everybody else ' and '.join((*self.ipv4, *self.ipv6))}"

    def port_info(self) -> dict[str, Any]:
        """As PutInstancePublicPorts wants it."""
        info: dict[str, Any] = {"fromPort": self.port, "toPort": self.port, "protocol": "tcp"}
        return info | {
            name: list(part) for name, part in (("cidrs", self.ipv4), ("ipv6Cidrs", self.ipv6)) if part
        }


def wanted(server: Server) -> frozenset[Opening]:
    """Exactly what *server* needs."""
    public = (*PUBLIC, *((SUBMISSION,) if server.submission else ()))
    from_here = server.lightsail.ssh_from if server.lightsail else ()
    return frozenset({Opening(port, *_EVERYBODY) for port in public} | {_ssh(from_here)})


def found(states: Iterable[Mapping[str, Any]]) -> frozenset[Opening]:
    """What GetInstancePortStates says is open."""
    return frozenset(_opening(one) for one in states if one.get("state", "open") == "open")


def _ssh(networks: Sequence[str]) -> Opening:
    parsed = [ipaddress.ip_network(one, strict=False) for one in networks]
    return Opening(
        SSH,
        tuple(sorted(str(one) for one in parsed if one.version == 4)),
        tuple(sorted(str(one) for one in parsed if one.version == 6)),
    )


def _opening(state: Mapping[str, Any]) -> Opening:
    # Ranges and other protocols are nobody's here: they differ from all that is wanted.
    single = (state["fromPort"], state["protocol"]) == (state["toPort"], "tcp")
    return Opening(
        state["fromPort"] if single else -1,
        tuple(sorted(state.get("cidrs") or ())),
        tuple(sorted(state.get("ipv6Cidrs") or ())),
    )
