"""The active receipt rule set, as the SES API says, remembered for less than a second."""

import asyncio
import time
from concurrent.futures import Executor
from typing import Any

from twinmail_localstack.edge.receipt import RuleSet

LIFETIME = 0.5
"""Seconds a rule set is used before it is read again."""


class Rules:
    """Reads the rule set; many sessions that ask at once cause one request."""

    def __init__(self, ses: Any, executor: Executor) -> None:
        self._ses = ses
        self._executor = executor
        self._lock = asyncio.Lock()
        self._known = RuleSet()
        self._expires = 0.0

    async def current(self) -> RuleSet:
        """The active rule set; empty if none is active.

        Raises:
            botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError: SES is not available.
        """
        async with self._lock:
            if time.monotonic() >= self._expires:
                loop = asyncio.get_running_loop()
                self._known = await loop.run_in_executor(self._executor, self._read)
                self._expires = time.monotonic() + LIFETIME
            return self._known

    def _read(self) -> RuleSet:
        rules = self._ses.describe_active_receipt_rule_set().get("Rules") or []
        unconditional = any(rule.get("Enabled") and not rule.get("Recipients") for rule in rules)
        return RuleSet.from_api(rules, self._verified_domains() if unconditional else ())

    def _verified_domains(self) -> list[str]:
        domains = self._ses.list_identities(IdentityType="Domain").get("Identities", [])
        if not domains:
            return []
        answer = self._ses.get_identity_verification_attributes(Identities=domains)
        attributes = answer["VerificationAttributes"]
        return [one for one in domains if attributes.get(one, {}).get("VerificationStatus") == "Success"]
