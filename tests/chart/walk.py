"""docs/kubernetes.md as a reader walks it: every `helm install` in it, and what the commands around it refer to."""

import re
import shlex

import yaml

from release import NAME, NAMESPACE, ROOT, merged

PAGE = ROOT / "docs" / "kubernetes.md"


def installations():
    """The values of each `helm install` on the page, by the heading above it, with the block that it stands in."""
    text = PAGE.read_text()
    blocks = list(re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    # The file that the page tells the reader to write.
    [mine] = [yaml.safe_load(block[2]) for block in blocks if block[1] == "yaml"]
    for block in blocks:
        if block[1] != "sh":
            continue
        for command in _commands(block[2]):
            if command[:2] == ["helm", "install"]:
                heading = re.findall(r"^#+ (.*)$", text[: block.start()], re.MULTILINE)[-1]
                yield heading, _values(command, mine), block[2]


def check(heading, release, block):
    """Objects that the other commands of a block name are there; so are the Secrets that values name."""
    names = {(each["kind"].lower(), each["metadata"]["name"]) for each in release.objects}
    for command in _commands(block):
        if command[0] == "kubectl":
            words = [word for word in command if "/" in word or word == "service"]
            for word in words:
                kind, name = word.split("/") if "/" in word else ("service", command[command.index(word) + 1])
                assert (kind, name) in names, f"{heading}: no {kind} {name} in the release"
    made = {command[command.index("secret") + 2] for command in _commands(PAGE.read_text()) if _makes_secret(command)}
    pod = next(each for each in release.objects if each["kind"] in {"Deployment", "StatefulSet", "DaemonSet"})
    spec = pod["spec"]["template"]["spec"]
    used = {volume["secret"]["secretName"] for volume in spec["volumes"] if "secret" in volume}
    used |= {each["secretRef"]["name"] for each in spec["containers"][0].get("envFrom", [])}
    # The chart makes the token of the admin side.
    missing = used - made - {f"{NAME}-causeway-admin"}
    assert not missing, f"{heading}: nobody told the reader to make the Secrets {missing}"


def users_file():
    """The users file that the reader writes."""
    return re.search(r"^cat > users.yaml <<'YAML'\n(.*?)^YAML$", PAGE.read_text(), re.MULTILINE | re.DOTALL)[1]


def _makes_secret(command):
    return command[0] == "kubectl" and "create" in command and "secret" in command


def _commands(text):
    """Lines of a shell block as words; lines that end in a backslash go on."""
    for line in text.replace("\\\n", " ").splitlines():
        if re.match(r"(kubectl|helm|gcloud) ", line):
            yield shlex.split(line, comments=True)


def _values(command, mine):
    assert command[2] == NAME and command[3] == "helm/causeway", command
    layers, settings, words = [], [], iter(command[4:])
    for word in words:
        argument = next(words)
        if word == "--namespace":
            assert argument == NAMESPACE, command
        elif word == "--values":
            layers.append(mine if argument == "mine.yaml" else yaml.safe_load((ROOT / argument).read_text()))
        elif word in {"--set", "--set-string"}:
            settings.append(_setting(argument, word == "--set"))
        else:
            raise AssertionError(f"unknown argument {word}: {command}")
    return merged(*layers, *settings)


def _setting(argument, typed):
    """`a.b\\.c=value` as Helm reads it: numbers and booleans are typed unless `--set-string`."""
    path, value = argument.split("=", 1)
    if typed and (value.isdigit() or value in {"true", "false"}):
        value = yaml.safe_load(value)
    for key in reversed(re.split(r"(?<!\\)\.", path)):
        value = {key.replace("\\.", "."): value}
    return value
