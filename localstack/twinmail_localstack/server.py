"""A gateway server that binds the address it is told.

LocalStack's own server drops the host of ``GATEWAY_LISTEN`` and binds all addresses: everybody on the network
could read the mail in it.
"""

from typing import Any

from localstack.aws.serving.twisted import TLSMultiplexerFactory
from localstack.config import HostAndPort, is_ipv6_address
from localstack.runtime.server.core import RuntimeServer, RuntimeServerPlugin
from localstack.runtime.server.twisted import TwistedRuntimeServer
from rolo.serving.twisted import TwistedGateway
from twisted.internet import endpoints, reactor, ssl  # type: ignore[import-not-found]


class LoopbackServer(TwistedRuntimeServer):  # type: ignore[misc]
    """The stock server, bound to exactly the configured addresses."""

    def register(
        self,
        gateway: Any,
        listen: list[HostAndPort],
        ssl_creds: tuple[str, str] | None = None,
    ) -> None:
        """Listen on every address of *listen*; HTTP and, with *ssl_creds*, TLS on the same port."""
        site = TwistedGateway(gateway)
        factory = site
        if ssl_creds:
            certificate, key = ssl_creds
            context = ssl.DefaultOpenSSLContextFactory(key, certificate)
            context.getContext().use_certificate_chain_file(certificate)
            factory = TLSMultiplexerFactory(context, False, site)
        for address in listen:
            make = (
                endpoints.TCP6ServerEndpoint
                if is_ipv6_address(address.host)
                else endpoints.TCP4ServerEndpoint
            )
            make(reactor, address.port, interface=address.host).listen(factory)


class LoopbackServerPlugin(RuntimeServerPlugin):  # type: ignore[misc]
    """``GATEWAY_SERVER=loopback``."""

    name = "loopback"

    def load(self, *args: object, **kwargs: object) -> RuntimeServer:
        return LoopbackServer()
