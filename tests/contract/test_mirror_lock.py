"""Locking against a signed mirror of our own: what is resolved, what is trusted and what is said."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.mirror import Server, Site, served
from twinmail.oci.apt import AptError, AptUnreachable
from twinmail.oci.cache import Cache
from twinmail.oci.debian import ResolutionError
from twinmail.oci.fetch import Silent
from twinmail.oci.index import Index
from twinmail.oci.lock import ImageLock, LockError
from twinmail.oci.locking import Report, check, lock
from twinmail.oci.mirrors import Mirrors
from twinmail.oci.spec import PLATFORMS, ImageSpec, load_all
from twinmail.oci.transport import Transport


@dataclass
class Checkout:
    """A checkout with a base and an application on it, and a mirror."""

    root: Path
    site: Site
    server: Server

    @property
    def mirrors(self) -> Mirrors:
        return self.site.mirrors(self.root / "state", self.server.url)

    def declare(self, name: str, text: str) -> None:
        folder = self.root / "images" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "image.toml").write_text(f'name = "{name}"\n{text}')

    def specs(self) -> dict[str, ImageSpec]:
        return load_all(self.root)

    def lock(self, *names: str, mirrors: Mirrors | None = None) -> dict[str, Report]:
        transport = Transport(pause=0.001)
        index = Index(transport, (f"{self.server.url}/simple",))
        cache = Cache(self.root / "cache")
        try:
            asked = names or tuple(self.specs())
            reports = lock(self.specs(), asked, cache, mirrors or self.mirrors, Silent(), transport, index)
            return {report.image: report for report in reports}
        finally:
            transport.close()

    def packages(self, name: str, platform: str = PLATFORMS[0]) -> list[str]:
        lock = ImageLock.load(self.root / "images" / name / "image.lock")
        return [f"{one.name} {one.version}" for one in lock.platforms[platform].packages]


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    site = Site(tmp_path / "site")
    site.folder.mkdir()
    site.add("libc6", "2.41", scripts={"postinst": "#!/bin/sh\nldconfig\n"})
    site.add("debconf", "1.5", more="Provides: debconf-2.0\n")
    site.add("server", "1.0", depends="libc6 (>= 2.0), libserver1, debconf-2.0", more="Recommends: extras\n")
    site.add("libserver1", "1.0", depends="libc6, debconf (>= 1.4)")
    site.add("extras", "1.0")
    site.publish()
    with served(site.folder) as server:
        checkout = Checkout(tmp_path, site, server)
        checkout.declare("base", 'packages = ["libc6"]\nprovided = ["debconf"]\n')
        checkout.declare("app", 'base = "base"\npackages = ["server"]\n')
        yield checkout


def test_upper_images_add_what_their_base_lacks_without_recommends(checkout: Checkout) -> None:
    reports = checkout.lock()
    for platform in PLATFORMS:
        assert checkout.packages("base", platform) == ["libc6 2.41"]
        assert checkout.packages("app", platform) == ["libserver1 1.0", "server 1.0"]
    assert reports["app"].counts == dict.fromkeys(PLATFORMS, (2, 0))
    assert "linux/arm64: server 1.0: new" in reports["app"].changes
    assert reports["app"].flags == ()


def test_epoch_and_snapshot_come_from_the_release_files(checkout: Checkout) -> None:
    checkout.lock("base")
    found = ImageLock.load(checkout.root / "images" / "base" / "image.lock")
    assert found.epoch == int(checkout.site.released.timestamp())
    assert found.snapshot == "20250602T000000Z"


def test_the_same_archive_gives_the_same_lock_and_no_host_is_in_it(checkout: Checkout) -> None:
    checkout.lock()
    texts = [(checkout.root / "images" / name / "image.lock").read_text() for name in ("base", "app")]
    checkout.lock()
    assert texts == [(checkout.root / "images" / name / "image.lock").read_text() for name in ("base", "app")]
    assert "127.0.0.1" not in "".join(texts)


def test_a_changed_maintainer_script_is_flagged_once_for_both_platforms(checkout: Checkout) -> None:
    checkout.lock("base")
    checkout.site.add(
        "libc6", "2.42", scripts={"postinst": "#!/bin/sh\nrm -rf /\n", "preinst": "#!/bin/sh\n"}
    )
    checkout.site.publish()
    report = checkout.lock("base")["base"]
    assert report.changes == tuple(f"{platform}: libc6 2.41 → 2.42" for platform in PLATFORMS)
    remedy = "it does not run here, so check whether base/image.toml must do something else now"
    assert report.flags == (
        f"libc6 2.41 → 2.42: maintainer script postinst is changed; {remedy}",
        f"libc6 2.41 → 2.42: maintainer script preinst is new; {remedy}",
    )


def test_an_upper_image_never_replaces_a_package_of_its_base(checkout: Checkout) -> None:
    checkout.lock("base")
    checkout.site.add("libc6", "2.42")
    checkout.site.add("server", "2.0", depends="libc6 (>= 2.42)")
    checkout.site.publish()
    with pytest.raises(AptError, match=r"(?s)server.*libc6 \(>= 2.42\)"):
        checkout.lock("app")
    checkout.lock()
    assert checkout.packages("app") == ["server 2.0"]


def test_the_base_is_locked_first(checkout: Checkout) -> None:
    with pytest.raises(LockError, match=r'base/image.lock: missing; run "./inv lock --image base"'):
        checkout.lock("app")


def test_a_lock_belongs_to_its_declaration_and_that_of_its_base(checkout: Checkout) -> None:
    checkout.lock()
    check(checkout.specs(), "app")
    checkout.declare("base", 'packages = ["libc6", "extras"]\nprovided = ["debconf"]\n')
    with pytest.raises(
        LockError, match=r'app/image.lock: made for other packages .* "./inv lock --image app"'
    ):
        check(checkout.specs(), "app")


def test_an_unknown_name_is_named(checkout: Checkout) -> None:
    checkout.declare("base", 'packages = ["libc7"]\nprovided = ["debcnof"]\n')
    with pytest.raises(ResolutionError, match="Debian has no debcnof, libc7 for amd64"):
        checkout.lock("base")


def test_what_cannot_be_installed_is_said_in_apts_words(checkout: Checkout) -> None:
    checkout.site.add("broken", "1.0", depends="nowhere")
    checkout.site.publish()
    checkout.declare("base", 'packages = ["broken"]\n')
    with pytest.raises(AptError, match=r"(?s)broken.*Depends:? nowhere"):
        checkout.lock("base")


def test_indexes_signed_by_another_key_are_refused(checkout: Checkout, tmp_path: Path) -> None:
    checkout.site.publish(key=Site(tmp_path / "other").key)
    with pytest.raises(AptError, match="not to be trusted"):
        checkout.lock("base")


def test_indexes_changed_after_signing_are_refused(checkout: Checkout) -> None:
    path = checkout.site.folder / "debian" / "dists" / "trixie" / "InRelease"
    path.write_bytes(path.read_bytes().replace(b"Origin: Test", b"Origin: Evil"))
    with pytest.raises(AptError, match="not to be trusted"):
        checkout.lock("base")


def test_a_mirror_that_is_not_to_be_trusted_is_passed_over(checkout: Checkout, tmp_path: Path) -> None:
    evil = Site(tmp_path / "evil")
    evil.add("libc6", "9.99")
    evil.publish()
    with served(evil.folder) as server:
        mirrors = checkout.site.mirrors(checkout.root / "state", server.url, checkout.server.url)
        checkout.lock("base", mirrors=mirrors)
    assert checkout.packages("base") == ["libc6 2.41"]


def test_without_a_mirror_the_archive_of_the_past_resolves(checkout: Checkout, tmp_path: Path) -> None:
    past = tmp_path / "past"
    for archive in ("debian", "debian-security"):
        (past / archive).mkdir(parents=True)
        (past / archive / "20250602T000000Z").symlink_to(checkout.site.folder / archive)
    with served(past) as server:
        mirrors = replace(checkout.mirrors, archives={}, snapshot=server.url).at("20250602T000000Z")
        checkout.lock("base", mirrors=mirrors)
    assert checkout.packages("base") == ["libc6 2.41"]
    assert (
        "20250602T000000Z"
        not in (checkout.root / "images/base/image.lock").read_text().partition("packages")[2]
    )


def test_no_mirror_at_all_names_the_remedy(checkout: Checkout) -> None:
    with pytest.raises(AptUnreachable, match="TWINMAIL_DEBIAN_MIRROR"):
        checkout.lock("base", mirrors=replace(checkout.mirrors, archives={}, snapshot="http://127.0.0.1:9"))


def test_wheels_are_locked_for_each_platform(checkout: Checkout) -> None:
    page = checkout.site.folder / "simple" / "fast"
    page.mkdir(parents=True)
    links = []
    for number, machine in enumerate(("x86_64", "aarch64")):
        filename = f"fast-1.0-cp313-cp313-manylinux_2_28_{machine}.whl"
        (page / filename).write_bytes(b"0" * (number + 5))
        links.append(f'<a href="{filename}#sha256={str(number) * 64}">{filename}</a>')
    (page / "index.html").write_text("\n".join(links))
    (checkout.root / "images/base/requirements.txt").write_text("fast==1.0\n")
    checkout.declare("base", 'packages = ["libc6"]\n[python]\nrequirements = "requirements.txt"\n')
    checkout.lock("base")
    lock = ImageLock.load(checkout.root / "images" / "base" / "image.lock")
    found = {
        name: [(one.filename[-11:], one.size, one.sha256[0]) for one in part.wheels]
        for name, part in lock.platforms.items()
    }
    assert found == {"linux/amd64": [("_x86_64.whl", 5, "0")], "linux/arm64": [("aarch64.whl", 6, "1")]}
