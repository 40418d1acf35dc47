"""docs/operating.md is true: its commands are ones that the programs know, its metrics exist, its names are those of the units."""
import re
import shlex

import pytest

from conftest import ROOT, run

PAGE = (ROOT / "docs/operating.md").read_text()
METRICS = (ROOT / "docs/metrics.md").read_text()
KEYS = (ROOT / "docs/configuration.md").read_text()


def commands():
    """Every command of the page: indented lines and spans of code; `wctl` is the page's own short form."""
    text = re.sub(r"\\\n\s*", "", PAGE)
    found = re.findall(r"^    (?!alias)(\S.*)$", text, re.MULTILINE) + re.findall(r"`([a-z-]+ [^`\n]+)`", text)
    return [line.replace("wctl ", "wardpostctl --socket /run/wardpost-router/admin.sock ") for line in found]


def of_program(name):
    """Its words after each `name` in the page's commands, without repeats."""
    lines = [shlex.split(line.replace("runuser -u wardpost-router -- ", "").replace("runuser -u wardpost-gateway -- ", "")) for line in commands()]
    return sorted({tuple(words[1:]) for words in lines if words and words[0] == name})


def test_there_are_commands_to_check():
    assert len(of_program("wardpostctl")) >= 8 and of_program("wardpost-router") and of_program("make")


@pytest.mark.parametrize("words", of_program("wardpostctl"), ids=" ".join)
def test_the_operators_program_knows_the_command(words):
    words, options = list(words), []
    while any(word.startswith("--") for word in words):
        place = next(i for i, word in enumerate(words) if word.startswith("--"))
        options.append(words[place])
        del words[place:place + (1 if place + 1 == len(words) or words[place] in ("--json", "--wait") else 2)]
    verbs = [" ".join(line.split()) for line in run("wardpostctl", "--help", check=0).stdout.split("Verbs\n")[1].split("\n\n")[0].splitlines()]
    verb = next((" ".join(words[:n]) for n in (2, 1) if any(line.startswith(" ".join(words[:n]) + " ") for line in verbs)), None)
    assert verb, f"no such verb: {' '.join(words)}"
    text = run("wardpostctl", *verb.split(), "--help", check=0).stdout
    names = text.splitlines()[0].split("wardpostctl ")[1].removeprefix(verb).replace("[OPTION]...", "").split()
    assert len(words) - len(verb.split()) == len(names), f"{verb} takes {names}"
    for option in options:
        assert f"{option} " in text, f"{verb} takes no {option}"


@pytest.mark.parametrize("program", ["wardpost-router", "wardpost-gateway"])
def test_the_servers_know_the_options(program):
    text = run(program, "--help", check=0).stdout
    for words in of_program(program):
        for option in (word for word in words if word.startswith("--")):
            assert option in text


def test_make_has_the_targets():
    makefile = (ROOT / "Makefile").read_text()
    for words in of_program("make"):
        for target in (word for word in words if "=" not in word):
            assert f"\n{target}:" in makefile
        for variable in (word.split("=")[0] for word in words if "=" in word):
            assert f"$({variable})" in makefile


def test_metrics_exist():
    named = set(re.findall(r"`(wardpost_[a-z_]+)`", PAGE))
    assert len(named) > 15
    assert [name for name in sorted(named) if f"`{name}`" not in METRICS] == []


def test_every_alarm_of_the_status_is_explained():
    table = (ROOT / "router/overview.h").read_text().split("#define WP_ALARM_TABLE(X)")[1].split("enum ")[0]
    words = re.findall(r'X\(WP_ALARM_\w+, "([a-z-]+)"\)', table)
    assert len(words) >= 6 and [word for word in words if f"| `{word}` |" not in PAGE] == []


def test_keys_of_the_configuration_exist():
    sections = "cluster|fabric|storage|limits|management|listen|tls"
    named = set(re.findall(rf"`((?:{sections})\.[a-z_]+)`", PAGE)) - {"cluster.key"}  # a file
    assert {"cluster.routers", "fabric.allow", "storage.disk_reserve_bytes"} <= named
    assert [key for key in sorted(named) if f"`{key}`" not in KEYS] == []


def test_units_and_files_have_their_names():
    for line in commands():
        for unit in re.findall(r"\bsystemctl .*?(wardpost\S+)", line):
            assert (ROOT / f"deploy/systemd/{unit}.service.in").exists(), line
        if line.startswith(("systemd-sysusers", "systemd-tmpfiles")):
            assert line.endswith("wardpost.conf")
    for name in re.findall(r"/usr/share/doc/wardpost/examples/(\S+)", PAGE):
        assert (ROOT / "deploy/examples" / name).exists()
    keys = set(re.findall(r"/etc/wardpost/(\S+?\.key)", PAGE))
    assert keys == set(re.findall(r"/etc/wardpost/(\S+?\.key)", (ROOT / "deploy/systemd/wardpost.tmpfiles.conf").read_text()))


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([a-z0-9./_-]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
