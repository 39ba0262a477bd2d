"""Which secrets there are, where each lives and who reads it; ``docs/secrets.md`` shows the same table."""

from dataclasses import dataclass

from twinmail.config import Config, Server


@dataclass(frozen=True)
class Kind:
    """Secrets of one kind.

    Attributes:
        name: in the operator's store, with ``SERVER``; empty if it is not kept there.
        what: what it opens.
        lives: where it is besides the store.
        readers: who reads it there.
        rotation: how it is replaced.
    """

    name: str
    what: str
    lives: str
    readers: str
    rotation: str


KINDS = (
    Kind(
        "syncer/SERVER/credentials",
        "access key of the IAM user of the syncer",
        "IAM; a file 0600 on the server, or a Secret of the cluster",
        "syncer",
        "./inv secrets rotate syncer",
    ),
    Kind(
        "relay/SERVER/credentials",
        "access key of the IAM user of the relay",
        "IAM; a file 0600 on the server, or a Secret of the cluster",
        "relay",
        "./inv secrets rotate syncer",
    ),
    Kind(
        "relay/SERVER/password",
        "the relay, for Dovecot on the same server",
        "a file 0600 on the server, or a Secret of the cluster",
        "Dovecot, relay",
        "remove it, then deploy the server",
    ),
    Kind(
        "smtp/webmail",
        "sending by SES as any address of ours",
        "IAM; a file 0600 on the server",
        "Roundcube",
        "./inv secrets rotate smtp",
    ),
    Kind(
        "certificate/SERVER/credentials",
        "access key that may write _acme-challenge records",
        "IAM; a file 0600 on the server, or a Secret of the cluster",
        "certbot, cert-manager",
        "a new key in IAM, then set it",
    ),
    Kind(
        "certificate/SERVER/wish",
        "nothing: another text asks certbot for a new key",
        "a file on the server",
        "certbot",
        "./inv secrets rotate tls",
    ),
    Kind(
        "cloudflare/SERVER",
        "the way into the cluster: credentials file of a Cloudflare tunnel",
        "Cloudflare; a Secret of the cluster",
        "cloudflared",
        "a new tunnel, then set it",
    ),
    Kind(
        "tls/SERVER/key.pem",
        "key of a certificate that you bring yourself",
        "a Secret of the cluster",
        "Dovecot",
        "./inv secrets set tls/SERVER/key.pem",
    ),
    Kind(
        "tls/SERVER/cert.pem",
        "nothing: the certificate of that key",
        "a Secret of the cluster",
        "Dovecot",
        "with its key",
    ),
    Kind(
        "ssh/SERVER",
        "root on the server",
        "nowhere else",
        "ssh",
        "by hand, at Lightsail",
    ),
    Kind(
        "import/NAME",
        "an older account, for ./inv import --secret import/NAME",
        "nowhere else",
        "./inv import",
        "set it anew; remove it after the import",
    ),
    Kind(
        "",
        "key of the certificate by Let's Encrypt",
        "the volumes acme and tls of the server; in a cluster the Secret twinmail-tls",
        "Dovecot, nginx, certbot",
        "with each renewal; see docs/certificates.md",
    ),
    Kind(
        "webmail/SERVER/des-key",
        "passwords in open webmail sessions",
        "a file 0600 on the server; before it is first replaced, only in the volume of the webmail",
        "Roundcube",
        "./inv secrets rotate des-key",
    ),
    Kind(
        "",
        "mailboxes: only ARGON2ID digests of passwords",
        "state/accounts.json in the bucket; .server/users in the volume of the mail",
        "syncer, Dovecot",
        "./inv user passwd NAME",
    ),
    Kind(
        "",
        "sending by SES as one mailbox",
        "IAM; the mail program it was shown to",
        "nobody here",
        "./inv smtp-credentials MAILBOX --rotate",
    ),
)


def expected(config: Config) -> dict[str, Kind]:
    """The secrets that *config* calls for and the store holds, by name; those of optional parts come too."""
    found: dict[str, Kind] = {}
    for kind in KINDS:
        if kind.name == "smtp/webmail" and _webmail(config):
            found[kind.name] = kind
        if "SERVER" not in kind.name:
            continue
        for server, one in config.servers.items():
            if not _needs(one, kind.name):
                continue
            found[kind.name.replace("SERVER", server)] = kind
    return found


def table() -> str:
    """The table of ``docs/secrets.md``."""
    lines = ["| in the store | opens | lives also | read by | replaced by |", "|---|---|---|---|---|"]
    for one in KINDS:
        name = f"`{one.name}`" if one.name else "no"
        command, _, rest = one.rotation.partition(" (")
        how = f"`{command}`{f' ({rest}' if rest else ''}" if command.startswith("./inv") else one.rotation
        lines.append(f"| {name} | {one.what} | {one.lives} | {one.readers} | {how} |")
    return "\n".join(lines) + "\n"


def _needs(server: Server, kind: str) -> bool:
    """Whether *server* has a use for secrets of *kind*, at least with optional parts."""
    in_cluster = server.kubernetes is not None
    return {
        "relay": server.submission,
        "webmail": server.webmail,
        "ssh": server.lightsail is not None,
        "cloudflare": in_cluster,
        "tls": in_cluster,
    }.get(kind.partition("/")[0], not (in_cluster and kind.endswith("/wish")))


def _webmail(config: Config) -> bool:
    return any(one.webmail for one in config.servers.values())
