"""The parts of the container runtimes that decide, without a container."""

import hashlib
import io
import os
import platform
import stat
import tarfile
import time
from pathlib import Path

import pytest

from tests import tiny_image
from twinmail.runtime import archive, diagnosis, emulation
from twinmail.runtime.docker import renumbered
from twinmail.runtime.image import Image
from twinmail.runtime.interface import ContainerSpec, ImageError, RuntimeUnavailable
from twinmail.runtime.unpack import LayerStore, unpack

AMD64 = "linux/amd64"
DOCKER = "  - use Docker: apt-get install docker.io, join the group docker, and pass --runtime docker"


def image_of(folder: Path, *layers: bytes, **config: object) -> Image:
    layout = folder / "tiny"
    layout.mkdir()
    tiny_image.Layout(layout).add_image(layers, {**tiny_image.CONFIG, **config}, AMD64)
    return Image.load(layout, AMD64)


def unpacked(folder: Path, layer: bytes) -> Path:
    image = image_of(folder, layer)
    target = folder / "unpacked"
    target.mkdir()
    unpack(image.layers[0], target)
    return target


class TestImage:
    def test_layout_that_was_never_built(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError) as caught:
            Image.load(tmp_path / "dovecot", AMD64)
        assert str(caught.value) == (
            f"{tmp_path}/dovecot/index.json: No such file or directory; build the image first: ./inv build"
        )

    def test_damaged_config(self, tmp_path: Path) -> None:
        image = image_of(tmp_path)
        image.config.write_bytes(image.config.read_bytes() + b" ")
        actual = hashlib.sha256(image.config.read_bytes()).hexdigest()
        with pytest.raises(ImageError) as caught:
            Image.load(tmp_path / "tiny", AMD64)
        assert str(caught.value) == (
            f"{image.config}: expected {image.config_digest}, got sha256:{actual}; build the image again: ./inv build"
        )

    def test_digest_that_is_a_path(self, tmp_path: Path) -> None:
        (tmp_path / "index.json").write_text(
            '{"manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "sha256:../../x"}]}'
        )
        with pytest.raises(
            ImageError, match=r"expected a digest sha256:<64 hex digits>, got 'sha256:\.\./\.\./x'"
        ):
            Image.load(tmp_path, AMD64)

    def test_nothing_to_run(self, tmp_path: Path) -> None:
        image = image_of(tmp_path, Entrypoint=None, Cmd=None)
        with pytest.raises(ImageError, match="the image names no program to run, and one neither"):
            image.argv(ContainerSpec("one", tmp_path, AMD64))

    @pytest.mark.parametrize(
        ("entrypoint", "command", "expected"),
        [
            (None, None, ("/bin/bash", "-c", "echo default command")),
            (None, ("x",), ("/bin/bash", "-c", "x")),
            (None, (), ("/bin/bash", "-c")),
            (("/e",), None, ("/e",)),
            (("/e",), ("x",), ("/e", "x")),
        ],
    )
    def test_command_line(
        self,
        tmp_path: Path,
        entrypoint: tuple[str, ...] | None,
        command: tuple[str, ...] | None,
        expected: tuple[str, ...],
    ) -> None:
        spec = ContainerSpec("one", tmp_path, AMD64, entrypoint=entrypoint, command=command)
        assert image_of(tmp_path).argv(spec) == expected

    def test_reads_the_highest_file(self, tmp_path: Path) -> None:
        image = image_of(
            tmp_path, tiny_image.tar({"etc/a": b"1", "etc/b": b"2"}), tiny_image.tar({"etc/a": b"3"})
        )
        assert [image.read(f"etc/{name}") for name in "abc"] == [b"3", b"2", None]


class TestUnpack:
    def test_files_folders_and_links(self, tmp_path: Path) -> None:
        entries = {"etc": None, "etc/file": b"contents", "etc/link": "../etc/file", "implied/file": b""}
        target = unpacked(tmp_path, tiny_image.tar(entries, {"etc": 0o750, "etc/file": 0o640}))
        assert (target / "etc/link").read_bytes() == b"contents"
        assert stat.S_IMODE((target / "etc").stat().st_mode) == 0o750
        assert stat.S_IMODE((target / "etc/file").stat().st_mode) == 0o640
        assert (target / "etc/file").stat().st_mtime == 0
        assert (target / "implied/file").exists()

    def test_hard_links(self, tmp_path: Path) -> None:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as written:
            entry = tarfile.TarInfo("file")
            entry.size = 1
            written.addfile(entry, io.BytesIO(b"x"))
            link = tarfile.TarInfo("link")
            link.type, link.linkname = tarfile.LNKTYPE, "file"
            written.addfile(link)
        target = unpacked(tmp_path, stream.getvalue())
        assert (target / "file").samefile(target / "link")

    def test_set_id_bits_stay_off_the_host(self, tmp_path: Path) -> None:
        target = unpacked(tmp_path, tiny_image.tar({"file": b""}, {"file": 0o6755}))
        assert stat.S_IMODE((target / "file").stat().st_mode) == 0o755

    @pytest.mark.parametrize(
        ("entries", "problem"),
        [
            ({"../outside": b""}, "../outside: a path may not contain '..'"),
            (
                {"etc/.wh.file": b""},
                "etc/.wh.file: layers that remove files of lower layers are not supported",
            ),
            ({"a": "/etc", "a/file": b""}, "a/file: 'a' on its way is a symbolic link"),
        ],
    )
    def test_refuses_what_would_reach_outside(
        self, tmp_path: Path, entries: dict[str, bytes | str | None], problem: str
    ) -> None:
        with pytest.raises(ImageError) as caught:
            unpacked(tmp_path, tiny_image.tar(entries))
        assert problem in str(caught.value)

    def test_absolute_names_stay_inside(self, tmp_path: Path) -> None:
        name = f"{tmp_path}/outside"
        target = unpacked(tmp_path, tiny_image.tar({name: b""}))
        assert not Path(name).exists()
        assert Path(f"{target}{name}").exists()

    def test_refuses_devices(self, tmp_path: Path) -> None:
        entry = tarfile.TarInfo("null")
        entry.type = tarfile.CHRTYPE
        layer = entry.tobuf() + bytes(1024)
        with pytest.raises(ImageError, match="null: expected a file, folder or link, got tar type b'3'"):
            unpacked(tmp_path, layer)

    def test_other_bytes_than_the_diff_id_says(self, tmp_path: Path) -> None:
        image = image_of(tmp_path, tiny_image.tar({"file": b"one"}))
        other = tmp_path / "other"
        other.mkdir()
        layer = image_of(other, tiny_image.tar({"file": b"two"})).layers[0]
        image.layers[0].blob.write_bytes(layer.blob.read_bytes())
        store = LayerStore(tmp_path / "layers")
        with (
            pytest.raises(
                ImageError, match=f"expected diff ID {image.layers[0].diff_id}, got {layer.diff_id}"
            ),
            store.use(image.layers),
        ):
            pass
        assert [one.suffix for one in store.root.iterdir()] == [".lock"]


class TestLayerStore:
    def test_unpacks_once(self, tmp_path: Path) -> None:
        image = image_of(tmp_path, tiny_image.tar({"file": b"contents"}))
        store = LayerStore(tmp_path / "layers")
        with store.use(image.layers) as (names, _):
            (store.root / names[0] / "mark").touch()
        image.layers[0].blob.unlink()
        with store.use(image.layers) as (names, _):
            assert (store.root / names[0] / "mark").exists()

    def test_prunes_what_nobody_uses_any_more(self, tmp_path: Path) -> None:
        image = image_of(tmp_path, tiny_image.tar({"old": b""}), tiny_image.tar({"used": b""}))
        store = LayerStore(tmp_path / "layers")
        with store.use(image.layers) as (names, _):
            pass
        old, used = (store.root / name for name in names)
        with store.use(image.layers[1:]):
            long_ago = time.time() - 100
            for lock in store.root.glob("*.lock"):
                os.utime(lock, (long_ago, long_ago))
            store.prune(keep_seconds=200)
            assert old.exists()
            store.prune(keep_seconds=50)
            assert not old.exists()
            assert used.exists()
        with store.use(image.layers):
            assert (old / "old").exists()


class TestDiagnosis:
    def test_ubuntu_restricts_namespaces_by_apparmor(self) -> None:
        settings = {diagnosis.APPARMOR: 1, diagnosis.LIMIT: 60000}
        assert diagnosis.explain(
            "Operation not permitted (/proc/self/uid_map)", settings, False
        ).splitlines() == [
            "cannot make containers in namespaces without root: "
            "Operation not permitted (/proc/self/uid_map); ways out:",
            "  - run this as root",
            "  - let users make namespaces: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0  (it is 1)",
            DOCKER,
        ]

    def test_debian_has_a_switch(self) -> None:
        lines = diagnosis.explain(
            "unshare: Operation not permitted", {diagnosis.CLONE: 0}, False
        ).splitlines()
        assert (
            lines[2]
            == "  - let users make namespaces: sudo sysctl -w kernel.unprivileged_userns_clone=1  (it is 0)"
        )

    def test_root_in_a_container(self) -> None:
        assert diagnosis.explain("unshare: Operation not permitted", {}, True).splitlines() == [
            "cannot make containers in namespaces: unshare: Operation not permitted. "
            "This is root, but without the capabilities of root; ways out:",
            "  - if this is a container itself: start it with --privileged",
            DOCKER,
        ]


class TestEmulation:
    def test_own_platform_needs_none(self) -> None:
        emulation.ensure(emulation.host_platform())

    def test_missing_emulator_names_the_package(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(platform, "machine", lambda: "x86_64")
        monkeypatch.setattr(emulation, "REGISTRY", tmp_path)
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(RuntimeUnavailable) as caught:
            emulation.ensure("linux/arm64")
        assert str(caught.value) == (
            "programs for linux/arm64 do not run on this machine (linux/amd64): no emulator is registered or "
            "installed; as root: apt-get install qemu-user-static binfmt-support"
        )

    def test_registers_the_emulator(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(platform, "machine", lambda: "x86_64")
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(emulation, "REGISTRY", tmp_path)
        monkeypatch.setenv("PATH", str(tmp_path))
        program = tmp_path / "qemu-aarch64-static"
        program.touch(0o755)
        (tmp_path / "register").touch()
        emulation.ensure("linux/arm64")
        # As in Debian's own /usr/share/binfmts/qemu-aarch64.
        assert (tmp_path / "register").read_text() == (
            r":qemu-aarch64:M::\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
            r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
            f":{program}:F"
        )

    @pytest.mark.parametrize(("flags", "usable"), [("OCF", True), ("F", True), ("OC", False)])
    def test_only_rules_that_work_in_containers_count(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: str, usable: bool
    ) -> None:
        monkeypatch.setattr(platform, "machine", lambda: "x86_64")
        monkeypatch.setattr(emulation, "REGISTRY", tmp_path)
        monkeypatch.setenv("PATH", str(tmp_path))
        (tmp_path / "qemu-aarch64").write_text(
            f"enabled\ninterpreter /usr/bin/qemu-aarch64\nflags: {flags}\n"
        )
        if usable:
            emulation.ensure("linux/arm64")
        else:
            with pytest.raises(RuntimeUnavailable):
                emulation.ensure("linux/arm64")


class TestDocker:
    def test_accounts_get_the_callers_ids(self) -> None:
        assert renumbered(tiny_image.PASSWD, 501, 20) == (
            "root:x:0:0:root:/root:/usr/sbin/nologin\ntwinmail:x:501:20::/home/twinmail:/usr/sbin/nologin\n"
        )
        assert renumbered(tiny_image.GROUP, 501, 20) == "root:x:0:\ntwinmail:x:20:\n"

    def test_archive_holds_the_layouts_bytes(self, tmp_path: Path) -> None:
        image = image_of(tmp_path, tiny_image.tar({"file": b"one"}), tiny_image.tar({"file": b"two"}))
        with tarfile.open(fileobj=io.BytesIO(b"".join(archive.stream(image)))) as read:
            names = read.getnames()
            assert names[:3] == ["oci-layout", "index.json", "manifest.json"]
            for name in names[3:]:
                body = read.extractfile(name)
                assert body is not None
                assert hashlib.sha256(body.read()).hexdigest() == Path(name).name
        assert len(names) == 3 + 4
