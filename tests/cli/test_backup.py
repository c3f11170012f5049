"""Export and import as a person uses them; what they do to a registry is what tests/backup checks."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli.conftest import Do
from tests.cli.running import Up


def test_a_backup_goes_to_a_file_and_comes_back(do: Do, up: Up, tmp_path: Path) -> None:
    up.register("ada")
    file = tmp_path / "backup.jsonl"
    code, out, _ = do("export", str(file), "--nats", up.url)
    assert code == 0
    saved = re.fullmatch(
        rf"(\d+) agents?, \d+ scaling polic(y|ies) and \d+ rules? as of revision \d+ saved to {file}\n", out
    )
    assert saved is not None, out
    assert len(file.read_text().splitlines()) >= 1 + int(saved[1])
    assert list(tmp_path.iterdir()) == [file], "and nothing else"
    do("deregister", "ada", "--nats", up.url)
    code, out, err = do("import", str(file), "--nats", up.url)
    assert (code, err) == (0, "")
    assert re.search(r"^from the backup of \d{4}-\d\d-\d\d \d\d:\d\d:\d\d:$", out, re.MULTILINE)
    assert "1 restored" in out
    assert do("get", "ada", "--nats", up.url, "--json").document["agent_id"] == "ada"


def test_without_a_file_it_goes_to_standard_output_and_nothing_else_does(do: Do, up: Up) -> None:
    up.register("bob")
    for words in (("export",), ("export", "-")):
        code, out, _ = do(*words, "--nats", up.url)
        assert code == 0
        header, *entries = [json.loads(line) for line in out.splitlines()]
        assert header["format"] == "agent-registry-backup"
        assert len(entries) == header["agents"] + header["policies"]


def test_counts_for_programs(do: Do, up: Up, tmp_path: Path) -> None:
    up.register("carol")
    file = tmp_path / "backup.jsonl"
    do("export", str(file), "--nats", up.url)
    document = do("import", str(file), "--dry-run", "--nats", up.url, "--json").document
    assert document["dry_run"] is True
    assert set(document["agents"]) == {"restored", "replaced", "there", "same", "newer", "claimed"}
    assert document["agents"]["same"] + document["agents"]["there"] >= 1


def test_a_backup_that_fails_leaves_the_one_before(do: Do, up: Up, tmp_path: Path) -> None:
    file = tmp_path / "backup.jsonl"
    file.write_text("the one of yesterday")
    code, _, err = do("export", str(file), "--nats", up.url, "--prefix", "other")
    assert code == 3
    assert "no bucket other_agents" in err
    assert file.read_text() == "the one of yesterday"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("words", [("export",), ("import", "FILE")], ids=" ".join)
def test_without_nats(do: Do, tmp_path: Path, words: tuple[str, ...]) -> None:
    file = tmp_path / "backup.jsonl"
    file.write_text(
        '{"format":"agent-registry-backup","version":1,"prefix":"p","bucket":"b","revision":0,"at":0.0,'
        '"agents":0,"policies":0}\n'
    )
    arguments = [str(file) if word == "FILE" else word for word in words]
    code, out, err = do(*arguments, "--nats", "nats://127.0.0.1:1")
    assert (code, out) == (4, "")
    assert err.startswith("error: cannot reach NATS at nats://127.0.0.1:1: connection refused")


def test_a_file_that_cannot_be_written(do: Do, up: Up) -> None:
    code, _, err = do("export", "/no/such/folder/backup.jsonl", "--nats", up.url)
    assert code == 2
    assert err == "error: cannot write /no/such/folder/backup.jsonl: No such file or directory\n"


def test_a_file_that_is_no_backup(do: Do, up: Up) -> None:
    code, _, err = do("import", __file__, "--nats", up.url)
    assert code == 2
    assert err.startswith(f"error: {__file__}, line 1: is not JSON")
    assert err.endswith("hint: nothing was written\n")
