"""What an installation is doing, from the lines of uv."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kaon.build.installing import InstallProgress, is_progress

LOCK = """\
numpy==2.4.6 \\
    --hash=sha256:aa
scikit_learn==1.9.1 ; python_version >= "3.11" \\
    --hash=sha256:bb
rich==15.0.0
"""
LINES = """\
Using Python 3.11.7 environment at: v1
Resolved 3 packages in 262ms
Downloading scikit-learn (8.9MiB)
Downloading numpy (16.1MiB)
 Downloaded scikit-learn
 Downloaded numpy
Prepared 3 packages in 3.21s
Installed 3 packages in 132ms
Bytecode compiled 4374 files in 27.40s
 + numpy==2.4.6
"""


def test_progress_names_packages_with_their_versions() -> None:
    installing = InstallProgress(LOCK)
    assert [text for line in LINES.splitlines() if (text := installing.after(line))] == [
        "fetching 3 packages",
        "installing scikit-learn 1.9.1, 8.9MiB (0 of 1 downloads done, 3 packages)",
        "installing numpy 2.4.6, 16.1MiB and 1 more (0 of 2 downloads done, 3 packages)",
        "installing numpy 2.4.6, 16.1MiB (1 of 2 downloads done, 3 packages)",
        "fetching 3 packages, 2 large ones are downloaded",
        "installing 3 packages",
        "compiling 3 packages",
    ]


def test_packages_that_are_built_are_named_too() -> None:
    installing = InstallProgress("old==0.1\n")
    assert installing.after("   Building old==0.1") == "installing old 0.1 (0 of 1 downloads done, 1 package)"
    assert installing.after("      Built old==0.1") == "fetching 1 package, 1 large ones are downloaded"


def test_lines_without_progress_stay_in_the_text_of_an_error() -> None:
    assert not is_progress("error: Failed to fetch: `https://packages.example/simple/numpy/`")
    assert not is_progress("  Caused by: dns error")
    assert is_progress(" Downloaded numpy")


@given(st.lists(st.text() | st.sampled_from(LINES.splitlines())))
def test_any_lines_can_be_read(lines: list[str]) -> None:
    installing = InstallProgress(LOCK)
    for line in lines:
        assert installing.after(line) != ""
