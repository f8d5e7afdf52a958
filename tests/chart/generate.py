"""What of the chart is made from other files: README.md and values.schema.json from the comments in values.yaml, the
keys that `config` may have from config.example.yaml.

A comment `# --` begins the description of the key below it; `# @schema {…}` adds to the JSON schema
that the default's type implies. Tables are closed unless their schema says otherwise.
"""

import json
import re

import yaml

from release import CHART, ROOT

KEY = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z][A-Za-z0-9]*):(?: |$)")
TYPES = {bool: "boolean", int: "integer", str: "string", list: "array", dict: "object", type(None): "null"}


def generated():
    """File name below the chart -> content."""
    text = (CHART / "values.yaml").read_text()
    values, comments = yaml.safe_load(text), _comments(text)
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the causeway chart",
        **_schema(values, (), comments),
    }
    # What Helm itself adds.
    schema["properties"]["global"] = {"type": "object"}
    header = (CHART / "README.header.md").read_text()
    return {
        "values.schema.json": json.dumps(schema, indent=2) + "\n",
        "files/config-keys.txt": " ".join(_config_keys()) + "\n",
        "README.md": header + "\n" + "\n".join(_table(values, (), comments)) + "\n",
    }


def _config_keys():
    """Top-level keys of the server's configuration, less those that the chart makes."""
    example = (ROOT / "config.example.yaml").read_text()
    keys = re.findall(r"^#?([a-z_]+):(?: |$)", example, re.MULTILINE)
    return [key for key in dict.fromkeys(keys) if key not in {"listeners", "admin"}]


def _comments(text):
    """Path of a key -> (description, schema), of keys that have a comment."""
    found, path, description, schema = {}, [], [], {}
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# -- "):
            description = [stripped.removeprefix("# -- ")]
        elif stripped.startswith("# @schema "):
            schema = json.loads(stripped.removeprefix("# @schema "))
        elif stripped.startswith("#") and description:
            description.append(stripped.removeprefix("#").strip())
        elif match := KEY.match(line):
            depth = len(match["indent"]) // 2
            path[depth:] = [match["key"]]
            if description:
                found[tuple(path)] = (" ".join(description), schema)
            description, schema = [], {}
        elif not stripped:
            description, schema = [], {}
    return found


def _schema(value, path, comments):
    description, extra = comments.get(path, ("", {}))
    schema = {"description": description} if description else {}
    schema["type"] = TYPES[type(value)]
    if isinstance(value, dict) and "additionalProperties" not in extra:
        # Without defaults nothing would be allowed: such a table must say what it holds.
        assert value, f"{'.'.join(path)}: an empty table needs @schema"
        schema["additionalProperties"] = False
        schema["properties"] = {key: _schema(each, (*path, key), comments) for key, each in value.items()}
    if isinstance(value, list):
        assert "items" in extra, f"{'.'.join(path)}: a list needs @schema with items"
    return schema | extra


def _table(values, path, comments):
    if not path:
        yield "| Value | Default | |"
        yield "| --- | --- | --- |"
    for key, value in values.items():
        here = (*path, key)
        described = here in comments
        if isinstance(value, dict) and value and not (described and "additionalProperties" in comments[here][1]):
            if described:
                yield f"| `{'.'.join(here)}` | | {comments[here][0]} |"
            yield from _table(value, here, comments)
            continue
        assert described, f"{'.'.join(here)}: a value needs a description"
        default = json.dumps(value).replace("|", "\\|")
        yield f"| `{'.'.join(here)}` | `{default}` | {comments[here][0].replace('|', chr(92) + '|')} |"
