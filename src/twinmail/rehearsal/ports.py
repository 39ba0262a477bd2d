"""TCP ports on loopback that nobody uses."""

import socket

from twinmail.local.state import LOOPBACK


def free_ports(count: int) -> list[int]:
    """So many of them, all different."""
    sockets = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
    try:
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()
