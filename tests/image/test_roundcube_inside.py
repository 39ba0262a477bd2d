"""The webmail seen from inside with testinfra: processes, sockets, secrets, settings."""

import re
from collections.abc import Callable

from testinfra.host import Host

from tests.image.conftest import ExecBackend
from tests.image.roundcube import Roundcube


class TestInside:
    def hosts(self, server: Roundcube) -> dict[str, Host]:
        assert server.web
        assert server.php
        return {"web": Host(ExecBackend(server.web)), "php": Host(ExecBackend(server.php))}

    def test_versions(self, inside: Callable[[str], Host]) -> None:
        host = inside("roundcube")
        assert "nginx/1.26." in host.run("/usr/sbin/nginx -v 2>&1").stdout
        assert host.check_output("/usr/bin/php8.4 -r 'echo PHP_VERSION;' 2>/dev/null").startswith("8.4.")
        text = host.file("/usr/share/roundcube/program/include/iniset.php").content_string
        assert re.search(r"RCMAIL_VERSION', '1\.6\.\d+'", text)

    def test_php_is_hardened(self, inside: Callable[[str], Host]) -> None:
        host = inside("roundcube")
        script = (
            'foreach (["expose_php","display_errors","allow_url_fopen","allow_url_include","enable_dl","file_uploads",'
            '"upload_max_filesize","post_max_size","cgi.fix_pathinfo","session.cookie_secure","open_basedir",'
            '"session.use_strict_mode","opcache.validate_timestamps"] as $one) echo "$one=", ini_get($one), "\\n";'
            'foreach (["exec","system","shell_exec","passthru","proc_open","popen","mail","putenv","symlink",'
            '"pcntl_exec","pcntl_fork","posix_kill","dl"] as $one) if (function_exists($one)) echo "has $one\\n";'
            'foreach (["ffi","phar","ftp","sockets","shmop","sysvshm","curl"] as $one)'
            ' if (extension_loaded($one)) echo "has $one\\n";'
        )
        output = host.check_output(f"/usr/bin/php8.4 -c /etc/php/8.4/fpm/php.ini -r '{script}'")
        assert "has " not in output
        found = dict(line.split("=", 1) for line in output.splitlines())
        off = ("expose_php", "display_errors", "allow_url_fopen", "allow_url_include", "enable_dl")
        assert all(
            found[name] in ("", "0") for name in (*off, "cgi.fix_pathinfo", "opcache.validate_timestamps")
        )
        assert (
            found["session.cookie_secure"] == found["session.use_strict_mode"] == found["file_uploads"] == "1"
        )
        assert (found["upload_max_filesize"], found["post_max_size"]) == ("40M", "42M")
        assert "/var/lib/twinmail" in found["open_basedir"].split(":")
        assert not {"/", "/tmp", "/proc", "/etc", "/usr"} & set(found["open_basedir"].split(":"))

    def test_listens_once_and_on_loopback_as_told(self, debug_roundcube: Roundcube) -> None:
        for name, host in self.hosts(debug_roundcube).items():
            ours = socket_inodes(host)
            listening = {
                fields[1]
                for path in ("/proc/net/tcp", "/proc/net/tcp6", "/proc/net/udp", "/proc/net/udp6")
                for fields in map(
                    str.split, host.check_output(f"cat {path} 2>/dev/null || true").splitlines()[1:]
                )
                if fields[9] in ours and (fields[3] == "0A" or "udp" in path)
            }
            assert listening == ({f"0100007F:{debug_roundcube.port:04X}"} if name == "web" else set())

    def test_processes_are_one_user_without_capabilities(self, debug_roundcube: Roundcube) -> None:
        for name, host in self.hosts(debug_roundcube).items():
            lines = host.check_output("cat /proc/[0-9]*/status").splitlines()
            assert {line.split()[1] for line in lines if line.startswith("Uid:")} == {"1000"}
            assert {line.split()[1] for line in lines if line.startswith("CapEff:")} == {"0" * 16}
            names = {line.split()[1] for line in lines if line.startswith("Name:")}
            assert {"web": "nginx", "php": "php-fpm8.4"}[name] in names

    def test_each_container_sees_only_its_secrets(self, debug_roundcube: Roundcube) -> None:
        hosts = self.hosts(debug_roundcube)
        web = hosts["web"].check_output("find /etc/twinmail -type f").split()
        php = hosts["php"].check_output("find /etc/twinmail -type f").split()
        assert "/etc/twinmail/tls/key.pem" in web
        assert not any("smtp" in path for path in web)
        assert "/etc/twinmail/smtp.json" in php
        assert not any("key" in path for path in php)

    def test_memory_fits_a_small_machine(self, debug_roundcube: Roundcube) -> None:
        used = 0
        for host in self.hosts(debug_roundcube).values():
            lines = host.check_output("cat /proc/[0-9]*/status").splitlines()
            used += sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "RssShmem:")))
        assert used < 64 * 1024, f"{used} KiB"

    def test_settings_are_data(self, inside: Callable[[str], Host]) -> None:
        """Nothing of a site is in the image, and no key that every copy would share."""
        host = inside("roundcube")
        text = host.file("/etc/roundcube/config.inc.php").content_string
        assert "$config['des_key'] = trim((string) file_get_contents($key));" in text
        assert not host.file("/var/lib/twinmail/des_key").exists
        assert host.check_output("find /etc/twinmail /var/lib/twinmail -mindepth 1") == ""


def socket_inodes(host: Host) -> set[str]:
    """Inodes of the sockets of the container's processes; /proc/net shows the whole machine's."""
    links = host.check_output("for one in /proc/[0-9]*/fd/*; do readlink $one; done; true").split()
    return {match[1] for match in (re.fullmatch(r"socket:\[(\d+)\]", link) for link in links) if match}
