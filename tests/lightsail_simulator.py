"""Lightsail in memory, behind boto3's own client: its service model checks each request and each answer."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import boto3
from botocore.validate import ParamValidator


class LightsailSimulator:
    """One account.

    Attributes:
        calls: every call that changes something, with what it was asked.
        fail_at: number of changing calls that succeed before one fails; None is never.
        starting: how often a new machine is looked at before it runs.
        address: of every static IP.
        user: of every machine.
        host_keys: of every machine.
    """

    def __init__(self, starting: int = 2) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.fail_at: int | None = None
        self.starting = starting
        self.address, self.user, self.host_keys = "198.51.100.7", "admin", ["AAAAC3"]
        self.keys: dict[str, str] = {}
        self.static_ips: dict[str, dict[str, Any]] = {}
        self.instances: dict[str, dict[str, Any]] = {}
        self.ports: dict[str, list[dict[str, Any]]] = {}

    def client(self) -> Any:
        client = boto3.client(
            "lightsail",
            region_name="eu-central-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        client.meta.events.register("before-call.lightsail", self._call)
        return client

    def _call(self, model: Any, params: dict[str, Any], **_: Any) -> tuple[Any, dict[str, Any]]:
        asked = json.loads(params["body"])
        name = model.name
        if not name.startswith("Get"):
            if self.fail_at is not None and len(self.calls) >= self.fail_at:
                return self._error("ServiceException", "simulated")
            self.calls.append((name, asked))
        answer: Callable[[dict[str, Any]], dict[str, Any] | None] = getattr(self, name)
        said = answer(asked)
        if said is None:
            return self._error("NotFoundException", f"{name} {asked}")
        report = ParamValidator().validate(said, model.output_shape)
        assert not report.has_errors(), report.generate_report()
        return SimpleNamespace(status_code=200), {**said, "ResponseMetadata": {}}

    def _error(self, code: str, text: str) -> tuple[Any, dict[str, Any]]:
        return SimpleNamespace(status_code=400), {
            "Error": {"Code": code, "Message": text},
            "ResponseMetadata": {},
        }

    def GetKeyPair(self, asked: dict[str, Any]) -> dict[str, Any] | None:
        name = asked["keyPairName"]
        return {"keyPair": {"name": name}} if name in self.keys else None

    def ImportKeyPair(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.keys[asked["keyPairName"]] = asked["publicKeyBase64"]
        return {"operation": {}}

    def GetStaticIp(self, asked: dict[str, Any]) -> dict[str, Any] | None:
        found = self.static_ips.get(asked["staticIpName"])
        return {"staticIp": found} if found else None

    def AllocateStaticIp(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = asked["staticIpName"]
        assert name not in self.static_ips
        self.static_ips[name] = {"name": name, "ipAddress": self.address, "isAttached": False}
        return {"operations": []}

    def AttachStaticIp(self, asked: dict[str, Any]) -> dict[str, Any] | None:
        instance = self.instances.get(asked["instanceName"])
        if instance is None:
            return None
        assert instance["state"]["name"] == "running"
        self.static_ips[asked["staticIpName"]] |= {"attachedTo": instance["name"], "isAttached": True}
        return {"operations": []}

    def CreateInstances(self, asked: dict[str, Any]) -> dict[str, Any]:
        assert asked["keyPairName"] in self.keys
        for name in asked["instanceNames"]:
            assert name not in self.instances
            self.instances[name] = {
                "name": name,
                "blueprintId": asked["blueprintId"],
                "bundleId": asked["bundleId"],
                "location": {"availabilityZone": asked["availabilityZone"]},
                "sshKeyName": asked["keyPairName"],
                "state": {"code": 0, "name": "pending"},
                "addOns": [self._add_on(one) for one in asked["addOns"]],
                "metadataOptions": {"httpTokens": "optional"},
                "username": self.user,
            }
            # What a new machine lets in by itself.
            self.ports[name] = [self._port(22), self._port(80)]
        return {"operations": []}

    def GetInstance(self, asked: dict[str, Any]) -> dict[str, Any] | None:
        found = self.instances.get(asked["instanceName"])
        if found is None:
            return None
        if found["state"]["name"] == "pending":
            self.starting -= 1
            if self.starting <= 0:
                found["state"] = {"code": 16, "name": "running"}
        return {"instance": found}

    def StartInstance(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.instances[asked["instanceName"]]["state"] = {"code": 0, "name": "pending"}
        return {"operations": []}

    def GetInstancePortStates(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"portStates": self.ports[asked["instanceName"]]}

    def PutInstancePublicPorts(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.ports[asked["instanceName"]] = [{**one, "state": "open"} for one in asked["portInfos"]]
        return {"operation": {}}

    def EnableAddOn(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.instances[asked["resourceName"]]["addOns"] = [self._add_on(asked["addOnRequest"])]
        return {"operations": []}

    def UpdateInstanceMetadataOptions(self, asked: dict[str, Any]) -> dict[str, Any]:
        options = {name: value for name, value in asked.items() if name != "instanceName"}
        self.instances[asked["instanceName"]]["metadataOptions"] = options
        return {"operation": {}}

    def GetInstanceAccessDetails(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = asked["instanceName"]
        keys = [{"algorithm": "ssh-ed25519", "publicKey": one} for one in self.host_keys]
        return {"accessDetails": {"hostKeys": keys, "instanceName": name, "username": self.user}}

    def _add_on(self, asked: dict[str, Any]) -> dict[str, Any]:
        at = asked["autoSnapshotAddOnRequest"]["snapshotTimeOfDay"]
        return {"name": asked["addOnType"], "status": "Enabled", "snapshotTimeOfDay": at}

    def _port(self, number: int) -> dict[str, Any]:
        return {
            "fromPort": number,
            "toPort": number,
            "protocol": "tcp",
            "state": "open",
            "cidrs": ["0.0.0.0/0"],
            "ipv6Cidrs": ["::/0"],
        }
