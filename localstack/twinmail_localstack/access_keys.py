"""Access keys outlive a restart: a user that is made again under its name has its keys back.

Without this, every mail client would have to be given a new password whenever LocalStack starts. AWS too is
where the secrets are kept; here it is a file that only its owner reads.
"""

import json
from pathlib import Path
from typing import Any

from localstack.runtime import hooks
from moto.core.utils import utcnow
from moto.iam.models import AccessKey, AccessKeyLastUsed, IAMBackend, iam_backends

from twinmail_localstack import settings

_ACCESS_KEY: Any = AccessKey

Keys = dict[str, list[dict[str, str]]]
"""Id, secret and status of each key, by user."""


def _path(backend: Any) -> Path:
    return settings.current().state / "iam" / f"{backend.account_id}.json"


def load(path: Path) -> Keys:
    """What was kept; empty if nothing was, or it cannot be read."""
    try:
        kept: Keys = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return kept


def save(path: Path, keys: Keys) -> None:
    """Keep *keys*."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_suffix(".new")
    temporary.touch(mode=0o600)
    temporary.write_text(json.dumps(keys))
    temporary.replace(path)


def restore(backend: Any, user_name: str, kept: Keys) -> None:
    """Give the new user *user_name* its keys back."""
    for one in kept.get(user_name, ()):
        key: Any = _ACCESS_KEY(user_name, "AKIA", backend.account_id, one["status"])
        key.access_key_id, key.secret_access_key = one["id"], one["secret"]
        backend.users[user_name].access_keys.append(key)
        backend.access_keys[key.access_key_id] = key


def record(backend: Any, user_name: str) -> None:
    """Keep the keys of *user_name* as they are now."""
    path = _path(backend)
    kept = load(path)
    kept[user_name] = [
        {"id": one.access_key_id, "secret": one.secret_access_key, "status": one.status}
        for one in backend.users[user_name].access_keys
    ]
    save(path, {name: keys for name, keys in kept.items() if keys})


def note_use(access_key: str, service: str, region: str) -> None:
    """Let IAM know that *access_key* has signed a request; LocalStack itself says so of some services."""
    for partitions in list(iam_backends.values()):
        for backend in list(partitions.values()):
            if key := backend.access_keys.get(access_key):
                key.last_used = AccessKeyLastUsed(timestamp=utcnow(), service=service, region=region)


def _use(chain: Any, context: Any, response: Any) -> None:
    authorization = context.request.headers.get("Authorization", "")
    access_key = authorization.partition("Credential=")[2].partition("/")[0]
    if access_key and context.service_operation is not None:
        note_use(access_key, context.service_operation.service, context.region or "")


@hooks.on_infra_start()  # type: ignore[untyped-decorator]
def keep_access_keys() -> None:
    """Follow the operations that change keys, and the requests that are signed with them."""
    from localstack.aws import handlers

    handlers.run_custom_response_handlers.append(_use)
    create_user, changes = IAMBackend.create_user, ("create_access_key", "update_access_key")
    delete_key = IAMBackend.delete_access_key_by_name

    def create_user_and_restore(
        backend: Any, region_name: str, user_name: str, *rest: Any, **named: Any
    ) -> Any:
        user = create_user(backend, region_name, user_name, *rest, **named)
        restore(backend, user_name, load(_path(backend)))
        return user

    def delete_and_record(backend: Any, name: str) -> None:
        user_name = backend.access_keys[name].user_name
        delete_key(backend, name)
        if user_name in backend.users:
            record(backend, user_name)

    def recording(change: Any) -> Any:
        def run(backend: Any, user_name: str, *rest: Any, **named: Any) -> Any:
            key = change(backend, user_name, *rest, **named)
            record(backend, user_name)
            return key

        return run

    replaced = {name: recording(getattr(IAMBackend, name)) for name in changes}
    replaced["create_user"] = create_user_and_restore
    replaced["delete_access_key_by_name"] = delete_and_record
    for name, method in replaced.items():
        setattr(IAMBackend, name, method)
