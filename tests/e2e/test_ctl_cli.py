"""wardpostctl's command line: help of every verb, wrong input, exit statuses. No process of the cluster is needed."""
import json
import pathlib

import pytest

from conftest import run

VERBS = ["playground up", "playground down", "playground status", "playground kill", "playground start",
         "playground router-add", "user add",
         "user list", "device add", "device list", "device remove", "team add", "team list", "team remove", "team member add",
         "team member list", "team member remove", "status", "cluster status",
         "cluster await-safe", "cluster upgrade", "node add", "node list", "node drain", "node revive", "node remove", "node replace",
         "gateway add", "gateway list", "gateway revoke", "policy list", "policy set", "shard list", "shard transfer", "shard move", "keygen id",
         "keygen cluster", "keygen curve"]
USAGE, REFUSED, NOT_FOUND, UNAVAILABLE, IO = 64, 65, 66, 69, 74


def ctl(*words, check, **options):
    return run("wardpostctl", *words, check=check, **options)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb_has_usage_example_options_and_statuses(verb):
    text = ctl(*verb.split(), "--help", check=0).stdout
    assert text.startswith(f"Usage: wardpostctl {verb}")
    assert f"\nExample\n  wardpostctl {verb}" in text
    for word in ("--dir DIR", "--output FORMAT", "Exit status", "  64 ", "  65 ", "  66 ", "  69 ", "  74 ", "  75 "):
        assert word in text


def test_help_lists_every_verb_and_no_other():
    text = ctl("--help", check=0).stdout
    listed = [line.split("  ")[1] for line in text.split("Verbs\n")[1].split("\n\n")[0].splitlines()]
    assert [" ".join(word for word in line.split() if word.islower()) for line in listed] == VERBS


def test_help_of_a_group_lists_its_verbs_only():
    text = ctl("device", "--help", check=0).stdout
    assert "device add" in text and "user add" not in text


def test_version():
    assert ctl("--version", check=0).stdout.startswith("wardpostctl 0.")


@pytest.mark.parametrize("words, complaint", [
    ([], "no verb given"),
    (["fly"], 'unknown verb "fly"'),
    (["playground", "fly"], 'unknown verb "playground fly"'),
    (["user", "add"], "usage: wardpostctl user add NAME"),
    (["user", "add", "alice", "bob"], "usage: wardpostctl user add NAME"),
    (["user", "add", "Alice"], '"Alice" is no name'),
    (["user", "add", ".."], '".." is no name'),
    (["user", "add", "a" * 65], "is no name"),
    (["device", "add", "alice"], '"alice" is no USER/DEVICE'),
    (["device", "add", "alice/../x"], "is no USER/DEVICE"),
    (["device", "add", "../.."], "is no USER/DEVICE"),
    (["device", "list", "alice/phone"], "is no name"),
    (["device", "remove", "/phone"], "is no USER/DEVICE"),
    (["device", "add", "alice/phone", "--from", "then"], "neither now nor oldest"),
    (["device", "list", "alice", "--from", "now"], "device list takes no --from"),
    (["team", "add", "Icu"], '"Icu" is no name'),
    (["team", "member", "add", "icu"], "usage: wardpostctl team member add TEAM USER..."),
    (["team", "member", "fly"], 'unknown verb "team member"'),
    (["keygen", "curve"], "usage: wardpostctl keygen curve FILE"),
    (["keygen", "id", "x"], "usage: wardpostctl keygen id"),
    (["keygen", "id", "--socket", "x"], "keygen id takes no --socket"),
    (["status", "--routers", "1"], "status takes no --routers"),
    (["user", "list", "--node", "router-1"], "user list takes no --node"),
    (["shard", "transfer", "1"], "usage: wardpostctl shard transfer SHARD NODE"),
    (["shard", "transfer", "x", "router-1"], '"x" is no number of a shard'),
    (["cluster", "await-safe", "--timeout", "x"], "--timeout"),
    (["cluster", "status", "now"], "usage: wardpostctl cluster status"),
    (["shard", "move", "1", "router-1"], "usage: wardpostctl shard move SHARD FROM TO"),
    (["shard", "move", "0", "router-1", "router-2"], '"0" is no number of a shard'),
    (["shard", "move", "1", "router-1", "Router"], '"Router" is no name of a router'),
    (["node", "add", "router-4"], "needs --endpoint and --key"),
    (["node", "add", "Router"], '"Router" is no name of a router'),
    (["node", "add", "router-4", "--reactors", "0"], "--reactors"),
    (["node", "drain"], "usage: wardpostctl node drain NAME"),
    (["node", "drain", "a/b"], '"a/b" is no name of a router'),
    (["node", "list", "--wait"], "node list takes no --wait"),
    (["node", "drain", "router-1", "--by", "router-2"], "node drain takes no --by"),
    (["node", "fly"], 'unknown verb "node fly"'),
    (["gateway", "add", "gateway-2"], "needs --key"),
    (["gateway", "revoke", "G"], '"G" is no name of a gateway'),
    (["cluster", "upgrade", "--wait"], "cluster upgrade takes no --wait"),
    (["playground", "router-add", "router-4"], "usage: wardpostctl playground router-add"),
    (["playground", "kill"], "needs --node"),
    (["playground", "start"], "needs --node"),
    (["playground", "kill", "--node", "router-1", "--signal", "BOOM"], '--signal "BOOM" is no signal'),
    (["playground", "kill", "--node", "router-1", "--signal", "0"], "--signal"),
    (["playground", "up", "--routers", "0"], '--routers "0" is no number from 1'),
    (["playground", "up", "--gateways", "17"], '--gateways "17" is no number from 1 to 16'),
    (["playground", "up", "--gateways", "-1"], '--gateways "-1" is no number'),
    (["playground", "up", "--gateways", "2x"], '--gateways "2x" is no number'),
    (["playground", "up", "--shards", "6"], "no power of two"),
    (["playground", "up", "--reactors", "99"], "--reactors"),
    (["playground", "up", "--port-base", "80"], "--port-base"),
    (["playground", "up", "--env", "NOVALUE"], "no NAME=VALUE"),
    (["playground", "up", "--timeout", "0"], "--timeout"),
    (["playground", "status", "-o", "xml"], "neither table nor json"),
    (["playground", "status", "--dir", ""], "--dir is empty"),
    (["playground", "up", "--bogus"], "bogus"),
])
def test_wrong_command_lines_are_usage_errors(words, complaint, tmp_path):
    done = ctl(*words, check=USAGE, cwd=tmp_path)
    assert complaint in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [
    ["playground", "down"], ["playground", "status"], ["playground", "kill", "--node", "router-1"],
    ["playground", "start", "--node", "router-1"], ["user", "add", "alice"], ["user", "list"], ["device", "add", "alice/phone"],
    ["device", "list", "alice"], ["device", "remove", "alice/phone"], ["team", "list"],
    ["team", "add", "icu"], ["team", "member", "list", "icu"], ["status"],
    ["cluster", "status"], ["cluster", "await-safe"], ["shard", "list"], ["shard", "transfer", "1", "router-1"],
    ["node", "list"], ["node", "drain", "router-1"], ["gateway", "list"], ["playground", "router-add"], ["cluster", "upgrade"],
])
def test_without_a_playground_every_verb_says_so(words, tmp_path):
    for place in (tmp_path, tmp_path / "nowhere"):
        done = ctl(*words, "--dir", place, check=NOT_FOUND)
        assert "no playground in" in done.stderr and "wardpostctl playground up" in done.stderr
        assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    done = ctl("playground", "up", "--dir", tmp_path, check=REFUSED)
    assert "thesis.txt" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "thesis.txt"]


def test_memory_is_refused_as_a_place_unless_allowed(make_volatile_folder):
    folder = make_volatile_folder()
    done = ctl("playground", "up", "--no-start", "--dir", folder / "p", check=REFUSED)
    assert "tmpfs" in done.stderr and "--allow-volatile" in done.stderr
    ctl("playground", "up", "--no-start", "--allow-volatile", "--dir", folder / "p", check=0)
    assert "allow_volatile: true" in (folder / "p/router-1/router.yaml").read_text()


def test_a_path_too_long_for_unix_sockets_is_refused_before_anything_is_made(tmp_path):
    folder = tmp_path / ("x" * 120)
    done = ctl("playground", "up", "--dir", folder, check=REFUSED)
    assert "too long for the unix sockets" in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == [".lock"]


def test_a_folder_that_cannot_be_made_is_an_io_error(tmp_path):
    (tmp_path / "file").write_text("")
    done = ctl("playground", "up", "--dir", tmp_path / "file" / "p", check=IO)
    assert "cannot make the folder" in done.stderr


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"version": 1}', '{"version": 99}', "null", "\0\0\0"])
def test_a_damaged_playground_file_is_named(damage, tmp_path, made_folder):
    path = pathlib.Path(made_folder) / "playground.json"
    path.write_text(damage)
    for words in (["playground", "status"], ["playground", "up"], ["user", "list"]):
        done = ctl(*words, "--dir", made_folder, check=IO)
        assert "playground.json" in done.stderr
    assert path.read_text() == damage


def test_every_truncation_and_type_change_of_the_file_is_noticed(made_folder):
    path = pathlib.Path(made_folder) / "playground.json"
    good = json.loads(path.read_text())
    changes = [("routers", {}), ("gateways", None), ("shards", "8"), ("shards", 0), ("cluster_id", "0" * 40),
               ("reactors", 1 << 40), ("routers", good["routers"] * 10)]
    for key, value in changes:
        path.write_text(json.dumps({**good, key: value}))
        ctl("playground", "status", "--dir", made_folder, check=IO)
    for value in ({**good["routers"][0], "pid": 1}, {**good["routers"][0], "pid": 99}, {**good["routers"][0], "fabric": "x:99999"},
                  {**good["routers"][0], "id": None}):
        path.write_text(json.dumps({**good, "routers": [value]}))
        ctl("playground", "status", "--dir", made_folder, check=IO)
    path.write_text(json.dumps(good))
    ctl("playground", "status", "--dir", made_folder, check=UNAVAILABLE)


@pytest.fixture
def made_folder(tmp_path):
    """A playground that was never started."""
    folder = tmp_path / "made"
    ctl("playground", "up", "--no-start", "--dir", folder, check=0)
    return folder


@pytest.fixture
def make_volatile_folder(tmp_path_factory):
    """A folder on tmpfs; /dev/shm is one on every Linux."""
    import shutil
    import tempfile
    made = []

    def make():
        made.append(pathlib.Path(tempfile.mkdtemp(dir="/dev/shm", prefix="wp-")))
        return made[-1]

    yield make
    for folder in made:
        shutil.rmtree(folder)
