"""Data files that are wrong, each in one way, with what a message about it must say."""

import gzip
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


@dataclass(frozen=True)
class Case:
    """One malformed path, and fragments that its DataError must contain: the place, and what is wrong."""

    name: str
    path: Path
    fragments: tuple[str, ...]


def write_malformed(folder: Path) -> list[Case]:
    """Write every malformed file under `folder`, each into a folder of its own; a path without content stays absent."""
    return [write_case(folder, name) for name in FILES]


def write_case(folder: Path, name: str) -> Case:
    """Write one of them."""
    file, content, *fragments = FILES[name]
    path = folder / name.replace(" ", "_") / file
    path.parent.mkdir(parents=True, exist_ok=True)
    if content == FOLDER:
        path.mkdir(exist_ok=True)
    elif content != ABSENT:
        path.write_bytes(content)
    return Case(name, path, tuple(fragments))


def lines(*rows: Any) -> bytes:
    """Write rows as JSON lines; bytes stand as they are."""
    return b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)


def chat(*messages: dict[str, Any]) -> dict[str, Any]:
    return {"messages": list(messages)}


def parquet(columns: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def not_utf8_parquet() -> bytes:
    array = pa.array([b"good", b"caf\xe9"]).cast(pa.binary())
    return parquet({"text": pa.Array.from_buffers(pa.string(), 2, array.buffers())})


ABSENT = b"<absent>"
FOLDER = b"<folder>"
GOOD = {"text": "fine"}
USER = {"role": "user", "content": "Hi"}
ASSISTANT = {"role": "assistant", "content": "Hello"}
HH = "\n\nHuman: Hi\n\nAssistant: Hello"
DEEP = b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
Entry = tuple[str | bytes | Callable[[], bytes], ...]

FILES: dict[str, Any] = {
    # Files of which nothing can be read.
    "empty file": ("a.jsonl", b"", "a.jsonl", "is empty"),
    "blank lines only": ("a.jsonl", b"\n\n  \n", "a.jsonl", "has no rows"),
    "only NUL bytes": ("a.jsonl", b"\0" * 512, "a.jsonl", "NUL"),
    "utf-16": ("a.jsonl", json.dumps(GOOD).encode("utf-16"), "a.jsonl", "UTF-16", "convert it to UTF-8"),
    "utf-16 without mark": ("a.csv", "text\nhello\n".encode("utf-16-le"), "a.csv", "UTF-16"),
    "html page": ("a.jsonl", b"<!DOCTYPE html>\n<html><body>404</body></html>", "a.jsonl", "HTML page"),
    "html as parquet": ("a.parquet", b"\n<html><body>Sign in</body></html>", "a.parquet", "HTML page"),
    "git lfs pointer": (
        "a.json",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
        "a.json",
        "git lfs pull",
    ),
    "csv in jsonl": ("a.jsonl", b"prompt,completion\nHi,Hello\n", "a.jsonl", "comma-separated", ".csv"),
    "jsonl in csv": ("a.csv", lines(GOOD), "a.csv", "holds JSON", ".jsonl"),
    "gzip without its extension": ("a.jsonl", gzip.compress(lines(GOOD)), "a.jsonl", "gzip data"),
    "parquet without its extension": ("a.jsonl", parquet({"text": ["a"]}), "a.jsonl", "parquet table"),
    "not gzip": ("a.jsonl.gz", lines(GOOD), "a.jsonl.gz", "is not gzip"),
    "truncated gzip": ("a.jsonl.gz", gzip.compress(lines(*[GOOD] * 99))[:-12], "a.jsonl.gz", "cut off", "gzip"),
    "corrupt parquet": ("a.parquet", parquet({"text": ["a"]})[:-20], "a.parquet", "cannot be read as parquet"),
    "text as parquet": ("a.parquet", lines(GOOD), "a.parquet", "cannot be read as parquet"),
    "parquet with an unreadable name": (
        "a.parquet",
        parquet({"text": ["a"]}).replace(b"text", b"te\xfet"),
        "a.parquet",
        "cannot be read as parquet",
    ),
    "parquet without rows": ("a.parquet", parquet({"text": pa.array([], pa.string())}), "a.parquet", "has no rows"),
    "csv with a header only": ("a.csv", b"text\n", "a.csv", "has no rows"),
    "csv with a column twice": ("a.csv", b"text,text\na,b\n", "a.csv", "'text' twice"),
    "csv with an open quote": ("a.csv", b'text\nfine\n"open\nand on\n', "a.csv:4", "broken quoting"),
    "csv with a stray quote": ("a.csv", b'text,id\n"a" b,1\n', "a.csv:2", "broken quoting"),
    "object instead of an array": ("a.json", b'{\n "data": [{"text": "a"}]\n}', "a.json", "one object", "'data'"),
    "array without an end": ("a.json", b'[{"text": "a"},\n{"text": "b"}', "a.json:2:14", "after row 2", "cut off"),
    "array with a trailing comma": ("a.json", b'[{"text": "a"},\n]', "a.json:2:1", "row 2", "Expecting value"),
    "array with text after it": ("a.json", b'[{"text": "a"}] x', "a.json:1:17", "after the end of the array"),
    "array not utf-8": ("a.json", b'[{"text": "a"},\n{"text": "caf\xe9"}]', "a.json:2:14", "0xe9"),
    "empty array": ("a.json", b"[]", "a.json", "has no rows"),
    "unknown extension": ("a.xlsx", b"PK", "a.xlsx", "'.xlsx'", ".jsonl"),
    "no extension": ("data", lines(GOOD), "data", "no extension", ".parquet"),
    "missing path": ("gone.jsonl", ABSENT, "gone.jsonl", "no such file or folder"),
    "folder without data": ("folder", FOLDER, "folder", "no data file", ".parquet"),
    "unknown columns": ("a.jsonl", lines({"question": "1+1", "answer": "2"}), "'question', 'answer'", "no shape"),
    # Rows that are not JSON objects.
    "broken json": ("a.jsonl", lines(GOOD, b'{"text": oops}', GOOD), "a.jsonl:2:10", "not JSON"),
    "truncated last line": ("a.jsonl", lines(GOOD) + b'{"text": "the en', "a.jsonl:2:10", "cut off"),
    "two objects on a line": ("a.jsonl", lines(b'{"text": "a"} {"text": "b"}'), "a.jsonl:1:15", "Extra data"),
    "array on a line": ("a.jsonl", lines(GOOD, ["fine"]), "a.jsonl:2", "an array where an object"),
    "scalar on a line": ("a.jsonl", lines(GOOD, 7), "a.jsonl:2", "a single value where an object"),
    "scalar in an array": ("a.json", b'[{"text": "a"}, "b"]', "a.json:2", "a single value where an object"),
    "duplicate keys": ("a.jsonl", lines(GOOD, b'{"text": "a", "text": "b"}'), "a.jsonl:2 text", "given twice"),
    "nested too deeply": ("a.jsonl", lines(GOOD, DEEP), "a.jsonl:2", "not JSON"),
    "number too long": ("a.jsonl", lines(GOOD, b'{"text": ' + b"1" * 5000 + b"}"), "a.jsonl:2", "not JSON"),
    "bad utf-8": ("a.jsonl", lines(GOOD, b'{"text": "caf\xe9"}'), "a.jsonl:2:14", "0xe9"),
    "bad utf-8 in csv": ("a.csv", b"id,text\n1,fine\n2,caf\xe9\n", "a.csv:2 text", "not UTF-8"),
    "bad utf-8 in parquet": ("a.parquet", not_utf8_parquet(), "a.parquet:2 text", "0xe9"),
    "ragged csv": ("a.csv", b"prompt,completion\na,b\na,b,c\n", "a.csv:2", "3 fields where the header has 2"),
    "short csv row": ("a.tsv", b"prompt\tcompletion\na\n", "a.tsv:1", "1 fields where the header has 2"),
    # Rows whose columns are not what the shape needs.
    "lone surrogate": ("a.jsonl", lines(GOOD, b'{"text": "hm \\ud800"}'), "a.jsonl:2 text", r"\ud800", "character 4"),
    "NaN text": ("a.jsonl", lines(GOOD, b'{"text": NaN}'), "a.jsonl:2 text", "NaN where text"),
    "null text": ("a.jsonl", lines(GOOD, {"text": None}), "a.jsonl:2 text", "null"),
    "number as text": ("a.jsonl", lines(GOOD, {"text": 7}), "a.jsonl:2 text", "a number where text"),
    "list as text": ("a.jsonl", lines({"text": ["a"]}), "a.jsonl:1 text", "a list where text"),
    "numbers in parquet": ("a.parquet", parquet({"text": [1, 2]}), "a.parquet:2 text", "a number where text"),
    "missing column": ("a.jsonl", lines(chat(USER, ASSISTANT), GOOD), "a.jsonl:2 messages", "no 'messages' here"),
    "late missing column": (
        "a.jsonl",
        lines(*[chat(USER, ASSISTANT)] * 899, {"prompt": "Hi"}),
        "a.jsonl:900 messages",
        "this row has 'prompt'",
    ),
    "messages as text": ("a.jsonl", lines({"messages": "Hi"}), "a.jsonl:1 messages", "text where a list of messages"),
    "empty messages": ("a.jsonl", lines({"messages": []}), "a.jsonl:1 messages", "empty list"),
    "message as text": ("a.jsonl", lines({"messages": ["Hi"]}), "a.jsonl:1 messages[0]", "text where a message"),
    "message without a role": ("a.jsonl", lines(chat({"content": "Hi"})), "a.jsonl:1 messages[0]", "without role"),
    "message without content": (
        "a.jsonl",
        lines(chat(USER, {"role": "assistant"})),
        "a.jsonl:1 messages[1]",
        "without role and content",
    ),
    "unknown role": (
        "a.jsonl",
        lines(chat(USER, {"role": "asistant", "content": "Hello"})),
        "a.jsonl:1 messages[1].role",
        "'asistant'",
        "did you mean 'assistant'",
        "gpt",
    ),
    "unknown sharegpt role": (
        "a.jsonl",
        lines({"conversations": [{"from": "narrator", "value": "Once"}]}),
        "a.jsonl:1 conversations[0].from",
        "'narrator'",
    ),
    "role as number": (
        "a.jsonl",
        lines(chat({"role": 1, "content": "Hi"})),
        "a.jsonl:1 messages[0].role",
        "a number where text",
    ),
    "null content": (
        "a.jsonl",
        lines(chat(USER, {"role": "assistant", "content": None})),
        "a.jsonl:1 messages[1].content",
        "null content",
    ),
    "content in parts": (
        "a.jsonl",
        lines(chat({"role": "user", "content": [{"type": "text", "text": "Hi"}]})),
        "a.jsonl:1 messages[0].content",
        "a list where text",
    ),
    "tool calls": (
        "a.jsonl",
        lines(chat(USER, {"role": "assistant", "content": "", "tool_calls": [{"name": "f"}]})),
        "a.jsonl:1 messages[1].tool_calls",
        "tool calls",
    ),
    "null prompt": ("a.jsonl", lines({"prompt": None, "completion": "x"}), "a.jsonl:1 prompt", "null"),
    "null prompt of a pair": (
        "a.jsonl",
        lines({"prompt": "Hi", "chosen": "a", "rejected": "b"}, {"prompt": None, "chosen": "a", "rejected": "b"}),
        "a.jsonl:2 prompt",
        "null",
    ),
    "number as chosen": (
        "a.jsonl",
        lines({"prompt": "Hi", "chosen": 1, "rejected": "b"}),
        "a.jsonl:1 chosen",
        "a number where text or a list of messages",
    ),
    "prompt not repeated": (
        "a.jsonl",
        lines({"prompt": [USER], "chosen": [{"role": "user", "content": "Yo"}, ASSISTANT], "rejected": [USER]}),
        "a.jsonl:1 chosen",
        "not with the messages of the prompt column",
    ),
    "number as label": (
        "a.jsonl",
        lines({"prompt": "Hi", "completion": "Hello", "label": 1}),
        "a.jsonl:1 label",
        "a number where true or false",
    ),
    "number as desirable": (
        "a.jsonl",
        lines({"messages": [USER, ASSISTANT], "desirable": 1}),
        "a.jsonl:1 desirable",
        "a number where true or false",
    ),
    "null label": (
        "a.jsonl",
        lines(
            {"prompt": "Hi", "completion": "Hello", "label": True},
            {"prompt": "Hi", "completion": "Hello", "label": None},
        ),
        "a.jsonl:2 label",
        "null",
    ),
    "fewer scores than answers": (
        "a.jsonl",
        lines({"prompt": "Hi", "answers": ["a", "b", "c"], "scores": [2, 1]}),
        "a.jsonl:1 scores",
        "2 scores for 3 answers",
    ),
    "more ranks than answers": (
        "a.jsonl",
        lines({"prompt": "Hi", "responses": ["a", "b"], "ranks": [1, 2, 3]}),
        "a.jsonl:1 ranks",
        "3 ranks for 2 responses",
    ),
    "score as text": (
        "a.jsonl",
        lines({"prompt": "Hi", "answers": ["a", "b"], "scores": ["2", "1"]}),
        "a.jsonl:1 scores[0]",
        "'2' where a number",
    ),
    "score as truth": (
        "a.jsonl",
        lines({"prompt": "Hi", "answers": ["a", "b"], "scores": [True, False]}),
        "a.jsonl:1 scores[0]",
        "True where a number",
    ),
    "NaN score": (
        "a.jsonl",
        lines(b'{"prompt": "Hi", "answers": ["a", "b"], "scores": [1, NaN]}'),
        "a.jsonl:1 scores[1]",
        "NaN where a number",
    ),
    "null score": (
        "a.jsonl",
        lines({"prompt": "Hi", "answers": ["a", "b"], "scores": [1, None]}),
        "a.jsonl:1 scores[1]",
        "null where a number",
    ),
    "scores as a number": (
        "a.jsonl",
        lines({"prompt": "Hi", "answers": ["a", "b"], "scores": 1}),
        "a.jsonl:1 scores",
        "a number where a list",
    ),
    "answers as text": (
        "a.jsonl",
        lines({"prompt": "Hi", "answers": "a", "scores": [1]}),
        "a.jsonl:1 answers",
        "text where a list",
    ),
    "number as an answer": (
        "a.jsonl",
        lines({"prompt": "Hi", "answers": ["a", 2], "scores": [1, 2]}),
        "a.jsonl:1 answers[1]",
        "a number where text or a list of messages",
    ),
    "answer without its text": (
        "a.jsonl",
        lines({"instruction": "Hi", "completions": [{"response": "a", "score": 2}, {"model": "b", "score": 1}]}),
        "a.jsonl:1 completions[1].response",
        "null",
    ),
    "answers without an order": (
        "a.jsonl",
        lines({"prompt": "Hi", "answers": ["a", "b"]}),
        "a.jsonl:1 answers",
        "without an order",
        "add a column scores",
    ),
    "an answer without a score": (
        "a.jsonl",
        lines({"instruction": "Hi", "completions": [{"response": "a", "overall_score": 2}, {"response": "b"}]}),
        "a.jsonl:1 completions",
        "overall_score",
    ),
    "an order that reads two ways": (
        "a.jsonl",
        lines({"prompt": "Hi", "answers": ["a", "b", "c"], "ranking": [3, 1, 2]}),
        "a.jsonl:1 ranking",
        "the place of each answer",
        "name it ranks",
    ),
    "two orders": (
        "a.jsonl",
        lines({"prompt": "Hi", "answers": ["a", "b"], "scores": [1, 2], "ranks": [1, 2]}),
        "a.jsonl:1 ranks",
        "'scores' and 'ranks'",
    ),
    "two columns of answers": (
        "a.jsonl",
        lines({"prompt": "Hi", "answers": ["a", "b"], "responses": ["c", "d"], "scores": [1, 2]}),
        "a.jsonl:1 responses",
        "'answers' and 'responses'",
    ),
    "transcript without markers": (
        "a.jsonl",
        lines({"chosen": HH, "rejected": HH + "!"}, {"chosen": "Hello", "rejected": HH}),
        "a.jsonl:2 chosen",
        "no turn markers",
    ),
    "transcript with text before it": (
        "a.jsonl",
        lines({"chosen": HH, "rejected": "Note." + HH}),
        "a.jsonl:1 rejected",
        "'Note.'",
    ),
}
