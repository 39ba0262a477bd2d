"""``image.toml``: read strictly, and every problem told at once."""

from pathlib import Path

import pytest

from twinmail.errors import ConfigError
from twinmail.oci.locking import check
from twinmail.oci.spec import File, ImageSpec, Link, User, chain, load_all

ROOT = Path(__file__).parents[2]


def write(root: Path, name: str, text: str) -> Path:
    folder = root / "images" / name
    folder.mkdir(parents=True)
    (folder / "image.toml").write_text(text)
    return folder / "image.toml"


def test_a_declaration_is_read(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "app",
        """
        name = "app"
        packages = ["a", "b"]
        users = [{ name = "app", uid = 7, gid = 8 }]
        [links]
        "/etc/localtime" = "/usr/share/zoneinfo/Etc/UTC"
        [[files]]
        path = "/etc/app.conf"
        mode = "0640"
        content = "x"
        [config]
        entrypoint = ["/bin/app"]
        env = { A = "b" }
        """,
    )
    spec = ImageSpec.load(path)
    assert spec.packages == ("a", "b")
    assert spec.users == (User("app", 7, 8),)
    assert spec.links == (Link("/etc/localtime", "/usr/share/zoneinfo/Etc/UTC"),)
    assert spec.files == (File("/etc/app.conf", 0o640, content="x"),)
    assert (spec.config.entrypoint, spec.config.env) == (("/bin/app",), {"A": "b"})
    assert spec.lock_path == path.parent / "image.lock"


def test_all_problems_are_told_together(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "app",
        """
        name = "other"
        package = ["a"]
        packages = ["perl"]
        provided = ["perl"]
        [python]
        requirements = "missing.txt"
        entry_points = { group = { a = "b:c" } }
        [links]
        "etc/../x" = "y"
        [[users]]
        uid = -1
        gid = "0"
        [[files]]
        path = "/f"
        mode = 644
        [config]
        cmd = "sh"
        port = 1
        """,
    )
    with pytest.raises(ConfigError) as caught:
        ImageSpec.load(path)
    assert caught.value.source == "app/image.toml"
    assert sorted(caught.value.problems) == sorted(
        f"app/image.toml: {line}"
        for line in (
            "python.requirements: 'missing.txt' is not a file beside image.toml",
            "python.distribution: missing; entry points belong to a named distribution",
            "users[0].name: missing; expected a string",
            "users[0].uid: expected a number, got -1",
            "users[0].gid: expected a number, got '0'",
            "links: expected a clean absolute path, got 'etc/../x'",
            'files[0].mode: expected octal permissions such as "0755", got 644',
            "config.cmd: expected a list of strings, got 'sh'",
            "config.port: unknown key; known here: entrypoint, cmd, env, user, workdir, stop_signal, labels",
            "name: expected the folder's name 'app', got 'other'",
            "provided: 'perl' is also in packages",
            "package: unknown key; known here: name, base, packages, provided, exclude, python, users, groups, "
            "links, files, directories, config",
        )
    )


def test_bases_come_before_what_stands_on_them(tmp_path: Path) -> None:
    write(tmp_path, "a", 'name = "a"\nbase = "m"')
    write(tmp_path, "m", 'name = "m"\nbase = "z"')
    write(tmp_path, "z", 'name = "z"')
    specs = load_all(tmp_path)
    assert list(specs) == ["z", "m", "a"]
    assert [spec.name for spec in chain(specs, "a")] == ["z", "m", "a"]


def test_a_base_must_exist_and_end_somewhere(tmp_path: Path) -> None:
    write(tmp_path, "a", 'name = "a"\nbase = "b"')
    write(tmp_path, "b", 'name = "b"\nbase = "a"')
    write(tmp_path, "c", 'name = "c"\nbase = "d"')
    with pytest.raises(ConfigError) as caught:
        load_all(tmp_path)
    assert caught.value.problems == (
        "a/image.toml: base: stands on itself; known: a, b, c",
        "b/image.toml: base: stands on itself; known: a, b, c",
        "c/image.toml: base: unknown image 'd'; known: a, b, c",
    )


def test_not_toml_is_one_problem(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"app/image\.toml:\n  not TOML: "):
        ImageSpec.load(write(tmp_path, "app", "name ="))


def test_the_images_of_this_checkout_are_locked() -> None:
    specs = load_all(ROOT)
    assert {"base", "dovecot", "syncer", "localstack"} <= set(specs)
    for name, spec in specs.items():
        lock = check(specs, name)
        for platform in lock.platforms.values():
            names = [one.name for one in platform.packages]
            below = {
                one.name
                for lower in chain(specs, name)[:-1]
                for part in check(specs, lower.name).platforms.values()
                for one in part.packages
            }
            assert not below & set(names), f"{name} repeats what its base has"
            assert not set(spec.provided) & set(names)
