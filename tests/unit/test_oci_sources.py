"""Where files come from: the machine's apt and pip settings, as Debian, Ubuntu and clouds write them."""

from pathlib import Path

import pytest

from twinmail.errors import ConfigError
from twinmail.oci.apt import paragraphs
from twinmail.oci.index import Index, Remote, parse_page, pip_settings
from twinmail.oci.mirrors import Mirrors
from twinmail.oci.transport import Transport, _identity
from twinmail.oci.wheels import Pin, choose, pins


def apt_settings(tmp_path: Path, **files: str) -> Path:
    (tmp_path / "sources.list.d").mkdir()
    for name, text in files.items():
        place = (
            tmp_path / "sources.list"
            if name == "main"
            else tmp_path / "sources.list.d" / name.replace("_", ".")
        )
        place.write_text(text)
    return tmp_path


def mirrors(tmp_path: Path, override: str | None = None) -> dict[str, tuple[str, ...]]:
    return dict(Mirrors.of_machine(tmp_path, override, etc=tmp_path).archives)


def test_deb822_sources_of_a_debian_of_another_release(tmp_path: Path) -> None:
    apt_settings(
        tmp_path,
        debian_sources="""\
Types: deb
# a comment in the middle
URIs: http://mirror.example/debian/
Suites: bookworm bookworm-updates
Components: main contrib

Types: deb deb-src
URIs: http://security.example/debian-security
Suites: bookworm-security
Components: main

Enabled: no
Types: deb
URIs: http://disabled.example/debian
Suites: trixie
Components: main
""",
    )
    assert mirrors(tmp_path) == {
        "debian": ("http://mirror.example/debian",),
        "debian-security": (
            "http://security.example/debian-security",
            "http://mirror.example/debian-security",
        ),
    }


def test_one_line_sources_and_foreign_repositories(tmp_path: Path) -> None:
    apt_settings(
        tmp_path,
        main="""\
# deb http://commented.example/debian trixie main
deb [arch=amd64 signed-by=/k.gpg] https://one.example/debian trixie main # first
deb-src http://source.example/debian trixie main
deb http://two.example/debian bullseye main
deb http://two.example/security bullseye/updates main
deb cdrom:[Debian]/ trixie main
""",
        docker_list="deb https://docker.example/linux/debian trixie stable\n",
        old_list_save="deb http://saved.example/debian trixie main\n",
    )
    assert mirrors(tmp_path) == {
        "debian": ("https://one.example/debian", "http://two.example/debian"),
        "debian-security": (
            "http://two.example/security",
            "https://one.example/debian-security",
            "http://two.example/debian-security",
        ),
    }


def test_a_machine_that_names_the_main_archive_alone(tmp_path: Path) -> None:
    apt_settings(tmp_path, main="deb http://mirror.example/debian bookworm main\n")
    assert mirrors(tmp_path) == {
        "debian": ("http://mirror.example/debian",),
        "debian-security": ("http://mirror.example/debian-security",),
    }


def test_mirror_lists_of_cloud_images(tmp_path: Path) -> None:
    (tmp_path / "mirrors.list").write_text("# best first\nhttps://cloud.example/debian priority:1\n")
    apt_settings(
        tmp_path,
        debian_sources=f"Types: deb\nURIs: mirror+file://{tmp_path}/mirrors.list\nSuites: trixie\nComponents: main\n",
    )
    assert mirrors(tmp_path)["debian"] == ("https://cloud.example/debian",)


def test_ubuntu_has_no_debian_mirror(tmp_path: Path) -> None:
    apt_settings(
        tmp_path,
        ubuntu_sources="Types: deb\nURIs: http://ubuntu.example/ubuntu\nSuites: noble noble-security\nComponents: main\n",
    )
    assert mirrors(tmp_path) == {"debian": (), "debian-security": ()}
    assert list(Mirrors.of_machine(tmp_path, None, etc=tmp_path).sources()) == []


def test_a_machine_without_apt_has_no_mirror(tmp_path: Path) -> None:
    assert mirrors(tmp_path) == {"debian": (), "debian-security": ()}


@pytest.mark.parametrize(
    "given", ["http://mine.example", "http://mine.example/", "http://mine.example/debian"]
)
def test_the_override_comes_first(tmp_path: Path, given: str) -> None:
    apt_settings(tmp_path, main="deb http://other.example/debian trixie main\n")
    assert mirrors(tmp_path, given) == {
        "debian": ("http://mine.example/debian", "http://other.example/debian"),
        "debian-security": ("http://mine.example/debian-security", "http://other.example/debian-security"),
    }


def test_urls_of_a_package_end_in_the_archive_of_the_past(tmp_path: Path) -> None:
    found = Mirrors({"debian": ("http://m.example/d",)}, tmp_path, tmp_path, "http://past.example").at(
        "20250601T000000Z"
    )
    path = "debian/pool/main/a/a_1+b~c_all.deb"
    urls = found.urls(path)
    assert urls == (
        "http://m.example/d/pool/main/a/a_1%2bb%7ec_all.deb",
        "http://past.example/debian/20250601T000000Z/pool/main/a/a_1%2bb%7ec_all.deb",
    )
    assert [found.path(url) for url in urls] == [path, path]


def test_passwords_stay_out_of_urls_that_are_shown() -> None:
    url, headers = _identity("https://user:p%40ss@mirror.example:8080/debian/x")
    assert url == "https://mirror.example:8080/debian/x"
    assert headers == {"Authorization": "Basic dXNlcjpwQHNz"}
    assert _identity("https://mirror.example/x") == ("https://mirror.example/x", {})


def test_control_stanzas_with_continuations() -> None:
    assert paragraphs("A: 1\n more\nB: 2\n\n\nA: 3\n") == [{"A": "1 more", "B": "2"}, {"A": "3"}]


def test_pip_settings_override_each_other_as_in_pip() -> None:
    listing = "\n".join(
        (
            ":env:.find-links='/env'",
            "global.index-url='https://global.example/simple'",
            "global.extra-index-url='https://a.example https://b.example'",
            "download.index-url='https://download.example/simple'",
            "global.find-links='/global'",
            "wheel.index-url='https://wheel.example/simple'",
        )
    )
    assert pip_settings(listing) == {
        "find-links": "/env",
        "index-url": "https://download.example/simple",
        "extra-index-url": "https://a.example https://b.example",
    }


def test_index_follows_pip_settings(tmp_path: Path) -> None:
    (tmp_path / "x-1-py3-none-any.whl").write_bytes(b"x")
    settings = {
        "index-url": "https://one.example/simple/",
        "extra-index-url": "file:///opt/simple https://two.example/simple",
        "find-links": f"{tmp_path} /does/not/exist https://three.example/",
        "proxy": "http://proxy.example:3128",
    }
    index = Index.of_settings(Transport(), settings)
    assert index.pages == ("https://one.example/simple", "https://two.example/simple")
    assert index.local("x-1-py3-none-any.whl") == tmp_path / "x-1-py3-none-any.whl"
    assert index.local("y-1-py3-none-any.whl") is None
    assert index.transport.proxies["https"] == "http://proxy.example:3128"
    assert (
        Index.of_settings(Transport(), {"no-index": "true", "index-url": "https://one.example"}).pages == ()
    )


def test_without_settings_pip_knows_its_index() -> None:
    (page,) = Index.of_settings(Transport(), {}).pages
    assert page.startswith("https://")
    assert page.endswith("/simple")


def test_pages_in_json_and_html_say_the_same() -> None:
    html = (
        b'<a href="../../f/a-1.whl#sha256=ab">a</a><a href="https://cdn.example/a-2%2Bx.whl">b</a><a>no</a>'
    )
    json = b'{"files": [{"filename": "a-1.whl", "url": "../../f/a-1.whl", "hashes": {"sha256": "ab"}, "size": 3}]}'
    url = "https://index.example/simple/a/"
    assert parse_page(url, "text/html", html) == [
        Remote("a-1.whl", "https://index.example/f/a-1.whl", "ab"),
        Remote("a-2+x.whl", "https://cdn.example/a-2%2Bx.whl"),
    ]
    assert parse_page(url, "application/vnd.pypi.simple.v1+json", json) == [
        Remote("a-1.whl", "https://index.example/f/a-1.whl", "ab", 3)
    ]


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ("cp313-cp313-manylinux_2_17_x86_64.manylinux2014_x86_64", "cp312-abi3-manylinux_2_28_x86_64"),
        ("cp313-cp313-manylinux_2_28_x86_64", "cp313-cp313-manylinux_2_17_x86_64"),
        ("cp39-abi3-manylinux2014_x86_64", "py3-none-any"),
        ("cp311-abi3-manylinux2014_x86_64", "cp38-abi3-manylinux2014_x86_64"),
        ("py3-none-manylinux_2_17_x86_64", "py2.py3-none-any"),
        ("py3-none-any", ""),
        ("cp313-cp313-manylinux_2_41_x86_64", "cp313-cp313-manylinux_2_42_x86_64"),
        ("py3-none-any", "cp313-cp313-musllinux_1_2_x86_64"),
        ("py3-none-any", "cp313-cp313t-manylinux_2_28_x86_64"),
        ("py3-none-any", "cp314-abi3-manylinux_2_28_x86_64"),
        ("py3-none-any", "cp313-cp313-manylinux_2_28_aarch64"),
        ("py3-none-any", "cp312-cp312-manylinux_2_28_x86_64"),
        ("py3-none-any", "cp313-cp313-macosx_11_0_x86_64"),
    ],
)
def test_the_most_specific_wheel_that_fits_wins(better: str, worse: str) -> None:
    names = [f"some_pack-1.0-{tag}.whl" if tag else "some-pack-1.0.tar.gz" for tag in (worse, better)]
    for order in (names, names[::-1]):
        found = choose(Pin("some-pack", "1.0"), [Remote(name, "", "ab") for name in order], "linux/amd64")
        assert found is not None
        assert found.filename == names[1]


def test_nothing_is_chosen_of_another_version_name_or_hash() -> None:
    offers = [
        Remote(name, "", "ab") for name in ("a-1.1-py3-none-any.whl", "a_b-1.0-py3-none-any.whl", "a-1.0.zip")
    ]
    assert choose(Pin("a", "1.0"), offers, "linux/arm64") is None
    assert choose(Pin("a", "1.1", ("cd",)), offers, "linux/arm64") is None
    assert choose(Pin("a", "1.1", ("ab",)), offers, "linux/arm64") == offers[0]


def test_pins_are_read_with_hashes_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text(
        f"# all\nZope.Interface==8.2  # why\nb==1.0 \\\n    --hash=sha256:{'a' * 64} \\\n    --hash=sha256:{'b' * 64}\n"
    )
    assert pins(path) == (Pin("b", "1.0", ("a" * 64, "b" * 64)), Pin("zope-interface", "8.2"))


def test_requirements_must_be_pins(tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text("a>=1\nb==1\nB==1\n-r other.txt\nc==1; python_version > '3'\n")
    with pytest.raises(ConfigError) as caught:
        pins(path)
    assert caught.value.problems == (
        "expected name==version, got 'a>=1'",
        "B is listed twice",
        "expected name==version, got '-r other.txt'",
        "expected name==version, got \"c==1; python_version > '3'\"",
    )
