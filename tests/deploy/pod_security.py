"""The restricted profile of the Pod Security Standards, as a check of one pod.

Source: Kubernetes documentation, "Pod Security Standards", profiles Baseline and Restricted (v1.32): every control
of both, field by field.
"""

from collections.abc import Iterator, Mapping
from typing import Any

_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
_SECCOMP = {"RuntimeDefault", "Localhost"}


def violations(pod: Mapping[str, Any]) -> Iterator[str]:
    """In what *pod* (a pod's ``spec``) is not restricted, a line each."""
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            yield f"{field} is on"
    for volume in pod.get("volumes", ()):
        for kind in set(volume) - {"name"} - _VOLUMES:
            yield f"volume {volume['name']}: {kind}"
    above = pod.get("securityContext", {})
    for field in ("windowsOptions", "sysctls", "seLinuxOptions", "appArmorProfile"):
        if field in above:
            yield f"securityContext.{field} is set"
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in pod.get(kind, ()):
            for line in _container(container, above):
                yield f"{container['name']}: {line}"


def _container(container: Mapping[str, Any], above: Mapping[str, Any]) -> Iterator[str]:
    own = container.get("securityContext", {})
    capabilities = own.get("capabilities", {})
    if own.get("privileged"):
        yield "is privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "may gain privileges"
    if "ALL" not in capabilities.get("drop", ()):
        yield "keeps capabilities"
    if set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
        yield "adds capabilities"
    if not own.get("runAsNonRoot", above.get("runAsNonRoot")):
        yield "may run as root"
    if own.get("runAsUser", above.get("runAsUser")) == 0:
        yield "runs as root"
    if own.get("seccompProfile", above.get("seccompProfile", {})).get("type") not in _SECCOMP:
        yield "has no seccomp profile"
    if own.get("procMount", "Default") != "Default":
        yield "unmasks /proc"
    if any("hostPort" in port for port in container.get("ports", ())):
        yield "takes a port of the node"
