"""Configurations that nobody should run with: each is refused in one sentence that says where and what to do."""
import os
import random
import re
import shutil

import pytest

from conftest import run

USAGE, CONFIG = 64, 78
BOTH = [("wardpost-router", "router-1/router.yaml"), ("wardpost-gateway", "gateway-1/gateway.yaml")]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files of a playground that is never started, on any file system."""
    folder = tmp_path_factory.mktemp("config")
    done = run("wardpostctl", "--dir", folder / "p", "playground", "up", "--no-start", "--allow-volatile")
    assert done.returncode == 0, done.stderr
    return folder / "p"


def changed(files, tmp_path, file, old, new):
    """A copy of the file with each line that matches replaced; "" appends the new text."""
    text = (files / file).read_text()
    result = re.sub(old, lambda match: new, text, count=1, flags=re.MULTILINE) if old else text + new
    assert result != text, f"nothing in {file} matches {old}"
    path = tmp_path / "changed.yaml"
    path.write_text(result)
    return path


def line_of(path, text):
    return next(i + 1 for i, line in enumerate(path.read_text().splitlines()) if text in line)


def refused(program, path, *words):
    """Both ways of asking refuse it with the same sentence; answers the sentence."""
    sentences = []
    for option in (["--check-config"], []):
        done = run(program, *option, "--config", path, *words, timeout_s=20)
        assert done.returncode == CONFIG, (program, option, done.returncode, done.stdout, done.stderr)
        assert done.stdout == ""
        lines = done.stderr.strip().splitlines()
        assert len(lines) == 1, lines
        sentences.append(lines[0])
    assert sentences[0] in sentences[1].replace('\\"', '"'), sentences
    return sentences[0]


# -- words on the command line


@pytest.mark.parametrize("program", ["wardpost-router", "wardpost-gateway"])
def test_help_and_version(program):
    done = run(program, "--help", check=0)
    for word in ("--config FILE", "--check-config", "--version", "Example:", "Exit codes:", " 64 ", " 74 ", " 78 "):
        assert word in done.stdout
    assert run(program, "-h", check=0).stdout == done.stdout
    assert re.fullmatch(rf"{program} \d+\.\d+\.\d+\n", run(program, "--version", check=0).stdout)


@pytest.mark.parametrize("program", ["wardpost-router", "wardpost-gateway"])
@pytest.mark.parametrize("words", [[], ["--config"], ["--confg", "x"], ["extra"], ["--check-config"]])
def test_wrong_arguments(program, words):
    done = run(program, *words)
    assert done.returncode == USAGE
    assert len(done.stderr.splitlines()) == 1 and f"{program} --help" in done.stderr


@pytest.mark.parametrize("program,file", BOTH)
def test_check_says_good_and_starts_nothing(files, program, file):
    done = run(program, "--check-config", "--config", files / file, check=0)
    assert "is good" in done.stdout and str(files / file) in done.stdout
    assert not (files / "router-1/data").exists()


# -- the file itself


@pytest.mark.parametrize("program,file", BOTH)
def test_missing_file(files, program, file):
    assert "No such file" in refused(program, files / "nowhere.yaml")


@pytest.mark.parametrize("program,file", BOTH)
def test_folder_instead_of_a_file(files, program, file):
    assert "Is a directory" in refused(program, files)


@pytest.mark.parametrize("program,file", BOTH)
def test_file_that_may_not_be_read(files, tmp_path, program, file):
    path = shutil.copy(files / file, tmp_path / "closed.yaml")
    path.chmod(0)
    user = {"user": 65534, "group": 65534} if os.geteuid() == 0 else {}
    for folder in [tmp_path, *tmp_path.parents][:3] if user else []:
        folder.chmod(0o755)
    done = run(program, "--config", path, **user)
    assert done.returncode == CONFIG and "Permission denied" in done.stderr


@pytest.mark.parametrize("program,file", BOTH)
@pytest.mark.parametrize("content,reason", [
    (b"", "is empty"), (b"\n# only a comment\n", ""), (b"\xff\xfe\x00garbage\x80", "not valid YAML"), (random.Random(7).randbytes(4096), "not valid YAML"),
    (b"node: [", "single value"), (b"node: 'x", "not valid YAML"), (b"- a\n- b\n", ""), (b"a: &x 1\nb: *x\n", ""), (b"x" * 2_000_000, ""),
    (b"node: a\nnode: b\n", ""), (b"{" * 20000, "")], ids=lambda value: repr(value)[:14])
def test_garbage(tmp_path, program, file, content, reason):
    path = tmp_path / "garbage.yaml"
    path.write_bytes(content)
    sentence = refused(program, path)
    assert reason in sentence and re.search(rf"{re.escape(str(path))}(:\d+)?", sentence)


# -- keys and values


@pytest.mark.parametrize("program,file,old,new,named", [
    ("wardpost-router", BOTH[0][1], "^reactors:", "reactor:", 'did you mean "reactors"?'),
    ("wardpost-router", BOTH[0][1], "^  shards:", "  shard:", 'did you mean "shards"?'),
    ("wardpost-router", BOTH[0][1], "^  wal_bytes_max:", "  wal_byte_max:", 'did you mean "wal_bytes_max"?'),
    ("wardpost-gateway", BOTH[1][1], "^  mqtts:", "  mqtss:", 'did you mean "mqtts"?'),
    ("wardpost-gateway", BOTH[1][1], "^cluster_id:", "clusterid:", 'did you mean "cluster_id"?')])
def test_unknown_key(files, tmp_path, program, file, old, new, named):
    path = changed(files, tmp_path, file, old, new)
    sentence = refused(program, path)
    assert f"{path}:{line_of(path, new)}: " in sentence
    assert "unknown key" in sentence and named in sentence


@pytest.mark.parametrize("program,file,old,new,told", [
    ("wardpost-router", BOTH[0][1], "^reactors: .*", "reactors: many", "must be a number from 1 to 64"),
    ("wardpost-router", BOTH[0][1], "^reactors: .*", "reactors: -1", "must be a number from 1 to 64"),
    ("wardpost-router", BOTH[0][1], "^reactors: .*", "reactors: 65", "must be a number from 1 to 64"),
    ("wardpost-router", BOTH[0][1], "^reactors: .*", "reactors: 1.5", "must be a number from 1 to 64"),
    ("wardpost-router", BOTH[0][1], "^reactors: .*", "reactors: 99999999999999999999", "must be a number from 1 to 64"),
    ("wardpost-router", BOTH[0][1], "^reactors: .*", "reactors: [2]", "reactors"),
    ("wardpost-router", BOTH[0][1], "^  shards: .*", "  shards: 3", "power of two"),
    ("wardpost-router", BOTH[0][1], "^  id: .*", "  id: 'xyz'", "16"),
    ("wardpost-router", BOTH[0][1], "^  host: .*", "  host: 'nowhere.example'", "IPv4 address"),
    ("wardpost-router", BOTH[0][1], "^  port: .*", "  port: 65536", "from 1 to 65535"),
    ("wardpost-router", BOTH[0][1], "^      role: .*", "      role: 'king'", "role"),
    ("wardpost-router", BOTH[0][1], "^      key: .*", "      key: 'short'", "40"),
    ("wardpost-router", BOTH[0][1], "^  allow_volatile: .*", "  allow_volatile: maybe", "true or false"),
    ("wardpost-router", BOTH[0][1], "^  disk_reserve_bytes: .*", "  disk_reserve_bytes: 1", "must be at least"),
    ("wardpost-router", BOTH[0][1], "^log_level: .*", "log_level: 'loud'", "debug, info, warn or error"),
    ("wardpost-router", BOTH[0][1], "^node: .*", "node: 'Router One'", "a to z"),
    ("wardpost-router", BOTH[0][1], "^  key_file: .*cluster.key'", "  key_file: '/nowhere/cluster.key'", "cluster.key_file"),
    ("wardpost-gateway", BOTH[1][1], "^  mqtt: .*", "  mqtt: '0.0.0.0:1883'", "loopback"),
    ("wardpost-gateway", BOTH[1][1], "^  mqtts: .*", "  mqtts: 'here'", "HOST:PORT"),
    ("wardpost-gateway", BOTH[1][1], "^    endpoint: .*", "    endpoint: 'router'", "tcp://"),
    ("wardpost-gateway", BOTH[1][1], "^  certificate: .*", "  certificate: '/nowhere/tls.pem'", "/nowhere/tls.pem"),
    ("wardpost-gateway", BOTH[1][1], "^  certificate: .*", "", "tls.certificate"),
    ("wardpost-gateway", BOTH[1][1], "^fabric_key_file: .*", "fabric_key_file: '/nowhere/curve.key'", "/nowhere/curve.key"),
    ("wardpost-gateway", BOTH[1][1], "", "  window: 0\n", "from 1 to 1024")])
def test_wrong_value(files, tmp_path, program, file, old, new, told):
    path = changed(files, tmp_path, file, old, new)
    assert told in refused(program, path)


@pytest.mark.parametrize("program,file,key", [
    ("wardpost-router", BOTH[0][1], "node"), ("wardpost-router", BOTH[0][1], "data"),
    ("wardpost-gateway", BOTH[1][1], "cluster_id"), ("wardpost-gateway", BOTH[1][1], "fabric_key_file")])
def test_required_key_missing(files, tmp_path, program, file, key):
    path = changed(files, tmp_path, file, f"^{key}: .*\n", "")
    assert f'"{key}"' in refused(program, path)


@pytest.mark.parametrize("program,file", BOTH)
def test_management_is_for_this_machine_only(files, tmp_path, program, file):
    for address in ("0.0.0.0:9100", "192.0.2.1:9100", "[::]:9100"):
        path = changed(files, tmp_path, file, "^  address: .*", f"  address: '{address}'")
        sentence = refused(program, path)
        assert f"{path}:{line_of(path, address)}: " in sentence and "this machine" in sentence


@pytest.mark.parametrize("content,told", [
    ("", "64 hexadecimal digits"), ("0" * 63, "64 hexadecimal digits"), ("z" * 64, "64 hexadecimal digits"),
    ("0" * 65, "64 hexadecimal digits")])
def test_cluster_key_of_the_wrong_form(files, tmp_path, content, told):
    key = tmp_path / "cluster.key"
    key.write_text(content)
    key.chmod(0o600)
    path = changed(files, tmp_path, BOTH[0][1], "^  key_file: .*cluster.key'", f"  key_file: '{key}'")
    sentence = refused("wardpost-router", path)
    assert told in sentence and (not content or content not in sentence)


def test_keys_that_others_may_read(files, tmp_path):
    for program, file, old, source in (
            ("wardpost-router", BOTH[0][1], "^  key_file: .*cluster.key'", "cluster.key"),
            ("wardpost-router", BOTH[0][1], "^  key_file: .*curve.key'", "router-1/curve.key"),
            ("wardpost-gateway", BOTH[1][1], "^fabric_key_file: .*", "gateway-1/curve.key")):
        key = tmp_path / "key"
        key.write_bytes((files / source).read_bytes())
        key.chmod(0o644)
        path = changed(files, tmp_path, file, old, f"{old.strip('^').split(':')[0]}: '{key}'")
        sentence = refused(program, path)
        assert "chmod 600" in sentence
        assert (files / source).read_text().split()[-1] not in sentence
        key.unlink()


# -- a data directory of another cluster


@pytest.mark.parametrize("key,value,told", [
    ("cluster.id", "'00c0ffee00c0ffee'", "cluster id"), ("cluster.shards", "16", "number of shards"),
    ("cluster.shards", "4", "number of shards")])
def test_data_of_another_cluster(playground, key, value, told):
    playground.down()
    playground.configure("router-1", {key: value})
    done = run("wardpost-router", "--config", playground.dir / "router-1/router.yaml", timeout_s=30)
    assert done.returncode == CONFIG
    assert "belongs to another cluster" in done.stderr and told in done.stderr


def test_data_under_another_cluster_key(playground):
    playground.down()
    (playground.dir / "cluster.key").write_text("5" * 64 + "\n")
    done = run("wardpost-router", "--config", playground.dir / "router-1/router.yaml", timeout_s=30)
    assert done.returncode == CONFIG and "cluster key" in done.stderr and "5555" not in done.stderr


def test_accept_loss_names_a_shard_that_is_not_there(files):
    assert run("wardpost-router", "--config", files / BOTH[0][1], "--accept-loss", "0").returncode == USAGE
    done = run("wardpost-router", "--config", files / BOTH[0][1], "--accept-loss", "9")
    assert done.returncode == CONFIG and "shards 1 to 8" in done.stderr
