"""Logging in to the webmail: by which names, and how guessing is stopped."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from tests.image.dovecot import PASSWORD
from tests.image.roundcube import Roundcube, address, client, rows
from tests.image.webmail_client import WebmailClient


class TestLogin:
    @pytest.mark.parametrize("name", ["ann", "ANN", "ann@example.org", "Ann@Example.Net", " ann "])
    def test_name_and_addresses_are_one_user(self, roundcube: Roundcube, name: str) -> None:
        assert "task-mail" in client(roundcube).log_in(name, PASSWORD).text
        assert rows(roundcube, "SELECT count(*) FROM users WHERE username LIKE '%ann%'") == [(1,)]

    @pytest.mark.parametrize("user", ["ann", "nobody", "ann@example.org", "team@example.org", ""])
    def test_wrong_password(self, roundcube: Roundcube, user: str) -> None:
        response = client(roundcube).log_in(user, "wrong")
        assert response.status_code == 401
        assert "task-login" in response.text

    def test_form_without_its_token(self, browser: WebmailClient) -> None:
        browser.get()
        browser.token = "forged"
        response = browser.post(
            "?_task=login", {"_task": "login", "_action": "login", "_user": "ann", "_pass": PASSWORD}
        )
        assert "task-mail" not in response.text

    def test_one_who_guesses_is_stopped_and_told(self, roundcube: Roundcube) -> None:
        here, there = address(), address()
        for _ in range(5):
            text = client(roundcube, here).log_in("bob", "wrong").text
            assert "Login failed" in text
        refused = client(roundcube, here).log_in("bob", PASSWORD)
        assert "Too many failed attempts to log in. Try again in" in refused.text
        assert "task-mail" not in refused.text
        # Roundcube's own limit is by account and a minute long; ours leaves the user's other places alone.
        with closing(sqlite3.connect(roundcube.data / "roundcube.db")) as database, database:
            database.execute("UPDATE users SET failed_login = NULL, failed_login_counter = NULL")
        assert "task-mail" in client(roundcube, there).log_in("bob", PASSWORD).text
        assert "Too many" in client(roundcube, here).log_in("bob@example.org", PASSWORD).text

    def test_one_who_tries_many_accounts_is_stopped(self, roundcube: Roundcube) -> None:
        here = address()
        with ThreadPoolExecutor(2) as pool:
            for one in pool.map(
                lambda number: client(roundcube, here).log_in(f"u{number}", "wrong"), range(20)
            ):
                assert one.status_code == 401
        assert "Too many failed attempts" in client(roundcube, here).log_in("ann", PASSWORD).text

    def test_a_flood_is_stopped_before_php_and_told(self, browser: WebmailClient) -> None:
        answers = [browser.post("?_task=login", {"_action": "login"}) for _ in range(60)]
        limited = [answer for answer in answers if answer.status_code == 429]
        assert limited
        assert "Wait a minute" in limited[0].text
        assert browser.get("/program/js/app.min.js").status_code == 200

    def test_there_is_no_way_in_past_the_limit(self, browser: WebmailClient) -> None:
        browser.get()
        fields = {"_task": "login", "_action": "login", "_user": "ann", "_pass": PASSWORD}
        assert browser.post("?_task=mail", fields).status_code == 400
        cookies = {"_task": "login", "_action": "login"}
        assert browser.post("?_task=mail", fields, cookies=cookies).status_code == 400

    def test_password_is_not_in_the_log(self, roundcube: Roundcube) -> None:
        client(roundcube).log_in("ann", "do-not-log-me")
        assert "do-not-log-me" not in roundcube.logs()
        assert "Failed login for ann from 127." in roundcube.logs()
