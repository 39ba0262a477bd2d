"""How this machine reaches the network: the proxy of its apt settings, else the usual one."""

import re
from urllib.request import getproxies

from twinmail.oci.apt import AptError, host_network
from twinmail.oci.transport import Transport

_PROXY = re.compile(r'Acquire::(https?)::Proxy "(.+)";', re.IGNORECASE)


def transport_of_machine() -> Transport:
    """Connections through the proxies that apt uses here, or those every other program uses."""
    proxies = {scheme: url for scheme, url in getproxies().items() if scheme in ("http", "https")}
    try:
        lines = host_network()
    except AptError:
        lines = []
    for line in lines:
        if match := _PROXY.fullmatch(line):
            scheme, url = match[1].lower(), match[2]
            if url.upper() == "DIRECT":
                proxies.pop(scheme, None)
            else:
                proxies[scheme] = url
    return Transport(proxies)
