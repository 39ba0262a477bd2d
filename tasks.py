"""Assembles the tasks of ``./inv``; the work is in ``twinmail``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))

from invoke.collection import Collection

from twinmail.tasks import (
    alias,
    app_password,
    audit,
    bench,
    build,
    chaos,
    client,
    config,
    cost,
    deploy,
    dlq,
    dns,
    doctor,
    import_,
    leave,
    lock,
    pack,
    push,
    rehearse,
    restore,
    search,
    secrets,
    send,
    show,
    smtp_credentials,
    status,
    system,
    test,
    user,
)
from twinmail.tasks.program import Program

namespace = Collection()
for task in (
    system.up,
    send.send,
    status.status,
    doctor.doctor,
    cost.cost,
    dns.dns,
    search.search,
    show.show,
    dlq.dlq,
    audit.audit,
    pack.pack,
    restore.restore,
    smtp_credentials.smtp_credentials,
    test.test,
    test.e2e,
    test.screenshots,
    bench.bench,
    build.build,
    push.push,
    rehearse.rehearse,
    chaos.chaos,
    lock.lock,
    config.config,
    client.client_profile,
    import_.import_,
    leave.leave,
):
    namespace.add_task(task)
for group in (
    deploy.collection,
    secrets.collection,
    user.collection,
    alias.collection,
    app_password.collection,
):
    namespace.add_collection(group)

if __name__ == "__main__":
    Program(namespace=namespace).run()
