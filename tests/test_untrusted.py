"""Careful reading of files that somebody else wrote."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from forebear.limits import NESTING
from forebear.untrusted import opened, parse_json, parse_toml, read_bytes, read_json, read_text


def test_a_regular_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": [1, "ü"]}', encoding="utf-8")

    assert read_json(tmp_path / "a.json") == {"a": [1, "ü"]}


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(OSError, match="a pipe, not a file"):
        read_bytes(tmp_path / "pipe", most=10)


def test_a_device_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="a device, not a file"):
        read_bytes(Path("/dev/zero"), most=10)
    with pytest.raises(OSError, match="a folder, not a file"):
        read_bytes(tmp_path, most=10)


def test_a_file_above_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(20 * 2**30)

    with pytest.raises(OSError, match=r"21,474,836,480 bytes, more than the limit of 100"):
        read_bytes(tmp_path / "sparse", most=100)


def test_a_file_without_a_size_is_read_up_to_the_limit() -> None:
    with pytest.raises(OSError, match="more than 3 bytes"):
        read_bytes(Path("/proc/self/status"), most=3)


def test_a_link_is_followed_only_if_it_may_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("file")

    assert read_bytes(tmp_path / "link", most=3) == b"abc"
    with pytest.raises(OSError, match="it is a link"), opened(tmp_path / "link", follow=False):
        pass


def test_text_must_be_utf8(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"\xff")

    with pytest.raises(ValueError, match="utf-8"):
        read_text(tmp_path / "text")


@pytest.mark.parametrize("levels", [NESTING + 1, 100_000])
def test_deep_nesting_is_refused(levels: int) -> None:
    with pytest.raises(ValueError, match="nested more than 64 levels"):
        parse_json("[" * levels + "]" * levels)
    with pytest.raises(ValueError, match="nested more than 64 levels"):
        parse_json('{"a":' * levels + "1" + "}" * levels)
    with pytest.raises(ValueError, match="nested more than 64 levels"):
        parse_toml("a = " + "[" * levels + "]" * levels)


def test_nesting_up_to_the_limit_is_read() -> None:
    text = "[" * NESTING + "]" * NESTING

    assert str(parse_json(text)) == text
    assert parse_toml(f"a = {'[' * (NESTING - 1) + ']' * (NESTING - 1)}") != {}
