"""Passwords as Dovecot checks them."""

import re

import pytest

from twinmail import password
from twinmail.password import PasswordError

DIGEST = password.digest("correct horse")


def test_digest_is_what_dovecot_reads() -> None:
    assert re.fullmatch(
        r"\{ARGON2ID\}\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}", DIGEST
    )


def test_digest_belongs_to_one_password() -> None:
    assert password.verify(DIGEST, "correct horse")
    assert not password.verify(DIGEST, "correct horse ")
    assert not password.verify("{ARGON2ID}$argon2id$nonsense", "correct horse")
    assert password.digest("correct horse") != DIGEST


@pytest.mark.parametrize("secret", ["", "x" * 513, "a\0b"])
def test_passwords_that_cannot_be_used(secret: str) -> None:
    with pytest.raises(PasswordError, match=r"^password: expected 1 to 512 octets without NUL, got"):
        password.digest(secret)


def test_generated_passwords_are_strong_and_easy_to_type() -> None:
    found = {password.new_password() for _ in range(200)}
    assert len(found) == 200
    assert all(re.fullmatch(r"([a-hjkmnp-z2-9]{5}-){3}[a-hjkmnp-z2-9]{5}", one) for one in found)


def test_name_of_an_app_password_is_its_first_group() -> None:
    assert password.name_of("abcde-fghij-kmnpq-rstuv") == "abcde"
