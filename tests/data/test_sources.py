"""Reading and writing rows, and one clear line for each way in which a file can be broken."""

from __future__ import annotations

import csv
import gzip
import json
import time

import pytest

from backflip.data import sources
from backflip.data.formats import load
from backflip.data.records import Comparison, Tally
from backflip.data.sources import hub_answers, read, write_jsonl
from backflip.errors import UserError

ROWS = [{"prompt": "Hi", "completion": "Yes?"}, {"prompt": "Grüße", "completion": "Na?"}]


def fields(source):
    return [dict(row.fields) for row in read(str(source))]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_what_is_written_is_read_again_with_its_line(tmp_path, name):
    assert write_jsonl(tmp_path / name, ROWS) == 2
    rows = list(read(str(tmp_path / name)))
    assert [dict(row.fields) for row in rows] == ROWS
    assert [str(row.where) for row in rows] == [f"{tmp_path / name}:{line}" for line in (1, 2)]
    assert [entry.name for entry in tmp_path.iterdir()] == [name], "no temporary file is left"


def test_line_numbers_count_blank_lines_as_an_editor_does(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('\n{"a": 1}\n\n{"a": 2}\n')
    assert [row.where.line for row in read(str(file))] == [2, 4]


def test_json_parquet_and_saved_datasets_hold_the_same_rows(tmp_path):
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    (tmp_path / "wrapped.json").write_text(json.dumps({"version": 1, "data": ROWS}))
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    datasets.Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "saved"))
    for name in ("rows.json", "wrapped.json", "rows.parquet", "saved"):
        assert fields(tmp_path / name) == ROWS, name


def test_a_folder_with_several_splits_gives_train_unless_another_is_named(tmp_path):
    import datasets

    one, two = (datasets.Dataset.from_list([row]) for row in ROWS)
    datasets.DatasetDict({"train": one, "test": two}).save_to_disk(str(tmp_path / "saved"))
    assert fields(tmp_path / "saved") == ROWS[:1]
    assert fields(f"{tmp_path / 'saved'}:test") == ROWS[1:]
    with pytest.raises(UserError, match="no split 'tset'; it has train, test"):
        fields(f"{tmp_path / 'saved'}:tset")


def test_a_folder_of_files_never_mixes_train_and_test(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", ROWS[:1])
    write_jsonl(tmp_path / "test.jsonl", ROWS[1:])
    assert fields(tmp_path) == ROWS[:1]
    assert fields(f"{tmp_path}:test") == ROWS[1:]


def test_limit_stops_before_a_later_line_is_looked_at(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"a": 1}\nbroken\n')
    assert len(list(read(str(file), limit=1))) == 1
    with pytest.raises(UserError, match="limit is 0"):
        read(str(file), limit=0)


def broken(tmp_path, name, content):
    file = tmp_path / name
    file.write_bytes(content)
    return file


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'{"a": 1}\n{"a": \n', r"a.jsonl:2: malformed line, not JSON .*'{\"a\":'"),
        (
            "a.jsonl",
            b'{"a": 1}\n{"a" 1}\n',
            r"a.jsonl:2: .*\(Expecting ':' \w+, character 6\)",
        ),
        ("a.jsonl", b'{"a": 1}\n[1]\n', r"a.jsonl:2: malformed line, a JSON list instead"),
        ("a.jsonl", b'{"a": "\xff"}\n', r"a.jsonl is not UTF-8"),
        ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 50, mtime=0)[:-12], r"not whole gzip data"),
        ("a.jsonl.gz", b"plain text", r"not whole gzip data"),
        ("a.json", b'{"a": 1}\n{"a": 2}\n', r"is not JSON: .*is it JSONL\?"),
        ("a.json", b'{"a": 1}', r"holds no list of rows"),
        ("a.json", b"[1]", r"row 1 is no object"),
        ("a.jsonl", b'{"a": ' + b"[" * 50_000, r"a.jsonl:1: malformed line, not JSON .*recursion"),
        ("a.json", b"[" * 50_000, r"is not JSON: .*recursion"),
        ("a.json", b'{"a": ' + b"[" * 50_000, r"is not JSON: .*recursion"),
        ("a.parquet", b"PAR1 no", r"not whole Parquet data"),
        ("a.txt", b"words", r"not of a known kind; use a file ending in .jsonl"),
    ],
)
def test_a_broken_file_gives_one_line_that_says_where(tmp_path, name, content, said):
    with pytest.raises(UserError, match=said) as caught:
        fields(broken(tmp_path, name, content))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_not_looked_for_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "hub_answers", lambda: pytest.fail("asked the hub"))
    write_jsonl(tmp_path / "pairs.jsonl", ROWS)
    with pytest.raises(UserError, match=r"no file or folder .*pair.jsonl; did you mean .*pairs"):
        fields(tmp_path / "pair.jsonl")
    with pytest.raises(UserError, match=r"nor the folder .*nowhere"):
        fields(tmp_path / "nowhere" / "pair.jsonl")
    with pytest.raises(UserError, match="give a path, or a hub name owner/name"):
        fields("pairs")


@pytest.mark.parametrize("name", ["rows.jsonl", "mine.jsonl", "pears.jsonl.gz"])
def test_a_file_is_proposed_only_where_its_own_name_is_alike(tmp_path, name):
    """The ending, which all files of data share, makes "mine.jsonl" no "pine.jsonl"."""
    for other in ("comparisons.jsonl", "fine_tuning.jsonl", "pine.jsonl"):
        write_jsonl(tmp_path / other, ROWS)
    with pytest.raises(UserError, match="give a path, or a hub name") as caught:
        fields(tmp_path / name)
    assert "did you mean" not in str(caught.value)
    with pytest.raises(UserError, match=r"did you mean .*/comparisons.jsonl\? Else give a path"):
        fields(tmp_path / "comparison.jsonl.gz")


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_an_empty_file_says_so_and_what_belongs_in_it(tmp_path, name):
    write_jsonl(tmp_path / name, [])
    with pytest.raises(UserError, match=rf"{name} is empty: write one row a line$"):
        fields(tmp_path / name)


def test_a_local_folder_goes_before_a_hub_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    write_jsonl(tmp_path / "owner" / "name" / "rows.jsonl", ROWS)
    monkeypatch.setattr(sources, "hub_answers", lambda: pytest.fail("asked the hub"))
    assert fields("owner/name") == ROWS


def test_a_hub_that_never_answers_is_noticed_within_five_seconds(monkeypatch):
    """The connection is taken by the kernel's queue, and nobody ever speaks."""
    import socket

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        with pytest.raises(UserError, match=r"the hub cannot be reached.*HF_HUB_OFFLINE=1"):
            fields("owner/name")
        assert time.monotonic() - start < 5.0


def test_a_name_server_that_never_answers_keeps_nobody_waiting(monkeypatch):
    """No timeout of a connection covers the look-up of its address."""
    import threading
    import urllib.request

    never = threading.Event()

    def hang(*_, **__):
        never.wait(20)
        raise OSError("no such name")

    monkeypatch.setattr(urllib.request, "urlopen", hang)
    start = time.monotonic()
    assert not hub_answers(0.2)
    assert time.monotonic() - start < 2.0
    never.set()


def test_a_hub_that_answers_with_an_error_page_is_reachable(monkeypatch):
    """No server need allow HEAD; an answer is an answer."""
    import http.server
    import threading

    class Refuses(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_error(405)

        def log_message(self, format, *args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    try:
        assert hub_answers()
    finally:
        server.shutdown()


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("owner/name", ("owner/name", None, "train")),
        ("owner/name:test", ("owner/name", None, "test")),
        ("owner/name:main:test", ("owner/name", "main", "test")),
    ],
)
def test_a_hub_name_may_carry_a_split_and_a_configuration(monkeypatch, source, asked):
    import datasets

    seen = []

    def stub(name, config, *, split):
        seen.append((name, config, split))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(sources, "hub_answers", lambda: True)
    monkeypatch.setattr(datasets, "load_dataset", stub)
    rows = list(read(source))
    assert seen == [asked]
    assert str(rows[1].where) == f"{source}:2"


def test_a_dataset_that_the_hub_refuses_gives_one_line(monkeypatch):
    import datasets

    def stub(*_, **__):
        raise FileNotFoundError("Couldn't find owner/name\nlong story")

    monkeypatch.setattr(sources, "hub_answers", lambda: True)
    monkeypatch.setattr(datasets, "load_dataset", stub)
    with pytest.raises(
        UserError,
        match=r"owner/name: it cannot be loaded \(FileNotFoundError\): Couldn't find owner/name$",
    ):
        fields("owner/name")


def test_the_packages_own_data_is_there_and_a_wrong_name_lists_it():
    assert all(row["prompt"] for row in fields("demo:prompts"))
    with pytest.raises(UserError, match=r"no demo:nonsense; there are .*demo:prompts"):
        fields("demo:nonsense")


def test_a_full_disk_leaves_the_old_file_and_no_half_of_a_new_one(tmp_path):
    file = tmp_path / "rows.jsonl"
    write_jsonl(file, ROWS)

    def rows():
        yield ROWS[0]
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"rows\.jsonl cannot be written: No space left"):
        write_jsonl(file, rows())
    assert fields(file) == ROWS
    assert len(list(tmp_path.iterdir())) == 1


# ---- tables

TABLE = (
    "prompt,chosen,rejected,margin,tie\r\n"
    '"What is 2, 3?","Two\nlines, ""quoted"".",No,1.5,FALSE\r\n'
    "\r\n"
    "42,{not JSON,[also not,,\r\n"
)


@pytest.mark.parametrize("between", [",", ";", "\t"])
def test_a_spreadsheets_table_is_read_as_its_cells_are(tmp_path, between):
    """Only numbers and truth values in columns that hold them are more than text."""
    path = tmp_path / ("rows.tsv" if between == "\t" else "rows.csv")
    swapped = TABLE.translate({ord(","): between, ord(between): ","})
    path.write_bytes(b"\xef\xbb\xbf" + swapped.encode())
    rows = list(read(str(path)))
    comma = between if between != "," else ","
    assert [dict(row.fields) for row in rows] == [
        {
            "prompt": f"What is 2{comma} 3?",
            "chosen": f'Two\nlines{comma} "quoted".',
            "rejected": "No",
            "margin": 1.5,
            "tie": False,
        },
        {"prompt": "42", "chosen": "{not JSON", "rejected": "[also not"}
        | {"margin": None, "tie": None},
    ]
    assert [row.where.line for row in rows] == [3, 5]


def test_messages_in_a_table_are_json(tmp_path):
    talk = [{"role": "user", "content": "Hi"}]
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["messages", "label"], [json.dumps(talk), "True"]])
    assert fields(path) == [{"messages": talk, "label": True}]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("a,b\n1,2,3\n", "rows.csv:2: 3 cells under 2 columns"),
        ('a,b\n"1,2\n', "not a table"),
        ("a,a\n1,2\n", "the column 'a' stands twice"),
        ("a,b\n", "is empty"),
        ("", "is empty"),
    ],
)
def test_a_table_that_is_none_gives_one_line(tmp_path, table, said):
    (tmp_path / "rows.csv").write_text(table)
    with pytest.raises(UserError, match=said):
        list(read(str(tmp_path / "rows.csv")))


@pytest.mark.parametrize(
    ("head", "row", "columns"),
    [
        ("prompt,chosen", "a;b;c,d", ["prompt", "chosen"]),
        ("prompt;chosen", '"a,b,c";d', ["prompt", "chosen"]),
        ('"prompt, long";"chosen, short"', "a;b", ["prompt, long", "chosen, short"]),
        ("'prompt','chosen'", "'it, and',d", ["prompt", "chosen"]),
        ("prompt|chosen", "a, b; c|d", ["prompt", "chosen"]),
        ("提示;回答", "a,b;c", ["提示", "回答"]),
        ("sep=;\nprompt;chosen", "a,b;c", ["prompt", "chosen"]),
        ("prompt,chosen,,", "a,b,,", ["prompt", "chosen"]),
        (",prompt", "0,a", ["column 1", "prompt"]),
        ("prompt,chosen", "a", ["prompt", "chosen"]),
    ],
)
def test_the_header_of_a_table_decides_its_signs_and_its_columns(tmp_path, head, row, columns):
    (tmp_path / "rows.csv").write_text(f"\ufeff{head}\n{row}\n", encoding="utf-8")
    (found,) = read(str(tmp_path / "rows.csv"))
    assert list(found.fields) == columns


def test_an_empty_cell_has_a_column_and_says_that_it_is_empty(tmp_path):
    (tmp_path / "rows.csv").write_text("prompt,chosen,rejected\nHi,,No\nHi,Yes,No\n")
    loaded = load(str(tmp_path / "rows.csv"), Comparison)
    assert len(loaded.records) == 1
    assert loaded.dropped.counts == {"cell 'chosen' is empty": 1}
    assert loaded.dropped.examples["cell 'chosen' is empty"][0].endswith("rows.csv:2")


def test_text_under_no_column_is_refused_and_not_lost(tmp_path):
    (tmp_path / "rows.csv").write_text("prompt,chosen,,\nHi,Yes,,more\n")
    with pytest.raises(UserError, match=r"rows.csv:2: 4 cells under 2 columns"):
        list(read(str(tmp_path / "rows.csv")))


def test_a_file_of_malformed_lines_alone_is_not_empty(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"prompt": \n')
    broken = Tally()
    assert list(read(str(tmp_path / "rows.jsonl"), broken=broken, called="mine.jsonl")) == []
    assert broken.lines() == ["1 × malformed line (e.g. mine.jsonl:1)"]


def test_comparisons_come_out_of_a_table(tmp_path):
    (tmp_path / "rows.csv").write_text("prompt,chosen,rejected,margin\nHi,Hello,Go away,2\n")
    (record,) = load(str(tmp_path / "rows.csv"), Comparison).records
    assert record.margin == 2.0
    assert record.answers[0][0].content == "Hello"
