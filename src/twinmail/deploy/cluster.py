"""A Kubernetes cluster, by the ``kubectl`` of this machine; what that says becomes errors with a remedy."""

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinmail.errors import PermanentError, TransientError

_UNREACHABLE = re.compile(
    r"connection refused|no route to host|i/o timeout|no such host|connect: network is unreachable|"
    r"TLS handshake timeout|was refused - did you specify|Unable to connect to the server",
    re.IGNORECASE,
)
_REMEDIES = (
    (
        re.compile(r'context .* does not exist|context was not found|no context exists|"[^"]*" not found in'),
        "kubectl config get-contexts shows those that there are; say which with "
        "servers.<server>.kubernetes.context in twinmail.toml",
    ),
    (
        re.compile(r"Unauthorized|provide credentials|Forbidden|forbidden: User"),
        "the user of that context may not do this; take one that may, or have the cluster's owner allow it",
    ),
    (
        re.compile(r"violates PodSecurity"),
        "the cluster asks for more than the restricted profile; compare its admission configuration with "
        "docs/deploy-primary.md",
    ),
    (
        re.compile(r"no matches for kind|resource mapping not found"),
        "the cluster does not know that kind: install what brings it (cert-manager, the Prometheus "
        "operator), or leave its component out of servers.<server>.kubernetes.components",
    ),
)


class ClusterError(PermanentError):
    """The cluster, or kubectl, refuses; the text has its words and the remedy."""


class ClusterUnavailable(TransientError):
    """The cluster cannot be reached now."""


@dataclass(frozen=True)
class Cluster:
    """One cluster.

    Attributes:
        kubectl: the program.
        context: of the kubeconfig; empty is the current one.
        namespace: of everything that is asked for.
        kubeconfig: file; None is kubectl's own choice.
    """

    kubectl: Path
    context: str
    namespace: str
    kubeconfig: Path | None = None

    def run(self, *arguments: str, ok: Sequence[int] = (0,)) -> "subprocess.CompletedProcess[str]":
        """Run kubectl with *arguments* and return what it printed.

        Raises:
            ClusterUnavailable: see there.
            ClusterError: it ended with a code that is not among *ok*.
        """
        argv = [str(self.kubectl)]
        argv += [f"--kubeconfig={self.kubeconfig}"] if self.kubeconfig else []
        argv += [f"--context={self.context}"] if self.context else []
        argv += [f"--namespace={self.namespace}", *arguments]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        except OSError as error:
            raise ClusterError(f"{self.kubectl}: {error.strerror}; install kubectl") from error
        if done.returncode not in ok:
            raise self._error(arguments, done)
        return done

    def json(self, *arguments: str) -> Any:
        """What kubectl prints with ``--output=json``; None if it prints nothing."""
        text = self.run(*arguments, "--output=json").stdout
        return json.loads(text) if text.strip() else None

    def _error(self, arguments: Sequence[str], done: "subprocess.CompletedProcess[str]") -> Exception:
        words = done.stderr.strip() or done.stdout.strip() or f"ended with {done.returncode}"
        where = f"cluster {self.context or '(current context)'}: kubectl {arguments[0]}: {words}"
        if _UNREACHABLE.search(words):
            return ClusterUnavailable(f"{where}; is it on, and is this machine in its network?")
        for pattern, remedy in _REMEDIES:
            if pattern.search(words):
                return ClusterError(f"{where}; {remedy}")
        return ClusterError(where)
