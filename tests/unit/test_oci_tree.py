"""Trees of files: paths, conflicts, what a layer over others must hold."""

import pytest

from twinmail.oci.tree import Kind, Node, Tree, TreeError, clean, complete, directory, excluded, file, link


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("./", ""),
        ("./lib/x86_64-linux-gnu/libc.so.6", "usr/lib/x86_64-linux-gnu/libc.so.6"),
        ("sbin/init", "usr/sbin/init"),
        ("/lib64/ld.so", "usr/lib64/ld.so"),
        ("./lib", "lib"),
        ("usr//lib/../bin/x", "usr/bin/x"),
        ("library/x", "library/x"),
    ],
)
def test_paths_are_moved_to_where_a_merged_usr_has_them(path: str, place: str) -> None:
    assert clean(path) == place


def test_a_folder_named_like_a_link_of_the_merge_is_the_one_in_usr() -> None:
    assert directory("./lib").path == "usr/lib"


@pytest.mark.parametrize("path", ["..", "../etc/passwd", "a/../../b", "a\0b"])
def test_paths_that_lead_out_are_refused(path: str) -> None:
    with pytest.raises(TreeError, match="leads out of the image"):
        clean(path)


def test_set_id_bits_are_dropped() -> None:
    assert file("usr/bin/su", b"", 0o4755).mode == 0o755
    assert directory("var/mail", 0o2775).mode == 0o775
    assert directory("tmp", 0o1777).mode == 0o1777


def test_two_origins_of_one_path() -> None:
    tree = Tree()
    tree.add([file("a", b"1"), directory("d", 0o700)], "first")
    tree.add([file("a", b"1"), directory("d")], "second")  # equal files and any folders agree
    assert tree.nodes() == [file("a", b"1"), directory("d", 0o700)]
    with pytest.raises(TreeError) as error:
        tree.add([file("a", b"2")], "third")
    assert str(error.value) == "/a: both first and third bring it; leave one out"
    tree.put([file("a", b"2")], "third")
    assert tree.nodes()[0].content == b"2"


def test_parents_are_added_with_the_modes_of_the_layers_below() -> None:
    lower = {"tmp": directory("tmp", 0o1777), "tmp/x": directory("tmp/x", 0o700, 5, 6)}
    nodes = complete([file("tmp/x/y/z", b"")], lower, declared=False)
    assert nodes == [lower["tmp"], lower["tmp/x"], directory("tmp/x/y"), file("tmp/x/y/z", b"")]


def test_folders_of_packages_never_change_those_below_but_declared_ones_do() -> None:
    lower = {"var": directory("var"), "var/mail": directory("var/mail", 0o775)}
    mine = [directory("var/mail", 0o700), file("var/mail/x", b"")]
    assert [node.mode for node in complete(mine, lower, declared=False)] == [0o755, 0o775, 0o644]
    assert [node.mode for node in complete(mine, lower, declared=True)] == [0o755, 0o700, 0o644]
    assert complete([directory("var/mail", 0o700)], lower, declared=False) == []


def test_nothing_lies_below_a_link() -> None:
    lower = {"var/run": link("var/run", "/run"), "var": directory("var")}
    with pytest.raises(TreeError, match=r"^/var/run/x: /var/run is no folder but link$"):
        complete([file("var/run/x", b"")], lower, declared=False)


@pytest.mark.parametrize(
    ("patterns", "path", "out"),
    [
        (["/usr/share/x"], "usr/share/x", True),
        (["/usr/share/x"], "usr/share/x/y/z", True),
        (["/usr/share/x"], "usr/share/xy", False),
        (["/usr/*/x"], "usr/share/x", True),
        (["/usr/*"], "usr/share/x", True),
        (["/*/x"], "usr/share/x", False),
        (["/**/x"], "usr/share/x", True),
        (["/a/*/*", "!/a/keep"], "a/drop/x", True),
        (["/a/*/*", "!/a/keep"], "a/keep/x", False),
        (["/a/*/*", "!/a/keep", "/a/keep/not"], "a/keep/not", True),
        (["!/a"], "a", False),
        (["/a.b"], "aXb", False),
    ],
)
def test_exclusions(patterns: list[str], path: str, out: bool) -> None:
    assert excluded(path, patterns) is out


def test_kinds_are_the_type_flags_of_tar() -> None:
    assert Node("x", Kind("2")).kind is Kind.LINK
