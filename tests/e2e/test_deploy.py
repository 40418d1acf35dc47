"""What `make install` puts on a machine: units that systemd takes, a sandbox that stays tight, users, owners of keys, and example
configurations that the programs themselves accept."""
import os
import re
import shutil
import subprocess

import pytest

from conftest import BUILD, EFFORT, ROOT, need_program, run

ROLES = ["router", "gateway"]
EXPOSURE_MAX = 1.5  # of 10, as systemd-analyze counts; 1.4 when this was written


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The prefix of an installation."""
    prefix = tmp_path_factory.mktemp("installed") / "usr"
    run("cmake", "--install", BUILD, "--prefix", prefix, check=0)
    return prefix


def unit_of(installed, role):
    return installed / f"lib/systemd/system/wardpost-{role}.service"


def settings_of(path):
    """{"Restart": ["on-failure"], ...} of a unit."""
    found = {}
    for line in path.read_text().splitlines():
        if re.match(r"\w+=", line):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def complaints(path):
    """What systemd has against a unit."""
    done = subprocess.run([need_program("systemd-analyze"), "verify", path], capture_output=True, text=True, timeout=60)
    return [line for line in (done.stdout + done.stderr).splitlines() if path.name in line] + ([] if done.returncode == 0 else ["status"])


def need_root():
    if os.geteuid() != 0:
        (pytest.fail if EFFORT == "ci" else pytest.skip)("owners of files can be set by root only")


def test_everything_is_in_its_place(installed):
    for name in ("wardpost-router", "wardpost-gateway", "wardpostctl", "wardpost", "wardpost-bench"):
        assert run(installed / "bin" / name, "--version", check=0).stdout.startswith(name)
    for name in ("lib/sysusers.d/wardpost.conf", "lib/tmpfiles.d/wardpost.conf",
                 "share/doc/wardpost/examples/router.yaml", "share/doc/wardpost/examples/gateway.yaml"):
        assert (installed / name).is_file(), name
    assert sorted(path.name for path in installed.iterdir()) == ["bin", "lib", "share"]


def test_install_into_a_folder_for_a_package(tmp_path):
    environment = {"PATH": "/usr/bin:/bin", "DESTDIR": str(tmp_path / "root")}
    run("cmake", "--install", BUILD, "--prefix", "/usr", check=0, env=environment)
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == ["usr"]  # nothing in /etc
    unit = (tmp_path / "root/usr/lib/systemd/system/wardpost-router.service").read_text()
    assert "ExecStart=/usr/bin/wardpost-router --config /etc/wardpost/router.yaml\n" in unit and "@WP_" not in unit


@pytest.mark.parametrize("role", ROLES)
def test_systemd_takes_the_unit(installed, role, tmp_path):
    assert complaints(unit_of(installed, role)) == []
    broken = tmp_path / f"wardpost-{role}.service"
    broken.write_text(unit_of(installed, role).read_text().replace("WatchdogSec=", "WatchDogSec="))
    assert complaints(broken) != []


@pytest.mark.parametrize("role", ROLES)
def test_the_sandbox_stays_tight(installed, role, record_property):
    done = run(need_program("systemd-analyze"), "security", "--offline=yes", "--no-pager", unit_of(installed, role), check=0)
    level = float(re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout).group(1))
    record_property("exposure", level)
    print(f"wardpost-{role}.service: exposure {level}")
    assert level <= EXPOSURE_MAX, done.stdout


@pytest.mark.parametrize("role", ROLES)
def test_what_needs_a_person_is_not_started_again(installed, role):
    settings = settings_of(unit_of(installed, role))
    help_text = run(f"wardpost-{role}", "--help", check=0).stdout
    known = {int(code) for code in re.findall(r"\b\d+\b", help_text.split("Exit codes:")[1])}
    final = {int(code) for code in settings["RestartPreventExitStatus"][0].split()}
    assert settings["Restart"] == ["on-failure"] and final <= known
    # These pass, end when somebody makes room, or are mended by the next start (65: a damaged directory is set aside).
    assert {64, 78} <= final and not final & {0, 65, 69, 74, 75}
    assert int(settings["RestartSec"][0]) >= 1
    assert settings["Type"] == ["notify"] and int(settings["WatchdogSec"][0]) >= 10


def test_users_and_owners(installed, tmp_path):
    need_root()
    root = tmp_path / "root"
    (root / "etc/wardpost").mkdir(parents=True)
    keys = {"cluster.key": "router", "router.key": "router", "gateway.key": "gateway", "gateway-tls.key": "gateway"}
    for name in keys:
        (root / "etc/wardpost" / name).write_text("")
        (root / "etc/wardpost" / name).chmod(0o644)
    for folder in ("sysusers.d", "tmpfiles.d"):
        (root / "usr/lib" / folder).mkdir(parents=True)
        shutil.copy(installed / f"lib/{folder}/wardpost.conf", root / "usr/lib" / folder)
    run(need_program("systemd-sysusers"), f"--root={root}", "wardpost.conf", check=0)
    users = {row.split(":")[0]: row.split(":") for row in (root / "etc/passwd").read_text().splitlines()}
    numbers = {int(users[f"wardpost-{role}"][2]) for role in ROLES}
    assert len(numbers) == 2 and 0 not in numbers
    assert all(users[f"wardpost-{role}"][6] == "/usr/sbin/nologin" for role in ROLES)
    run(need_program("systemd-tmpfiles"), f"--root={root}", "--create", "wardpost.conf", check=0)
    for name, role in keys.items():
        info = (root / "etc/wardpost" / name).stat()
        assert (info.st_uid, info.st_mode & 0o777) == (int(users[f"wardpost-{role}"][2]), 0o600), name


@pytest.fixture
def etc(installed, tmp_path):
    """The examples with their keys in a folder of this test, as docs/operating.md tells to make them."""
    folder = tmp_path / "etc"
    folder.mkdir()
    public = {name: run("wardpostctl", "keygen", "curve", folder / f"{name}.key", check=0).stdout.strip()
              for name in ("router-1", "router-2", "router-3", "gateway-1", "gateway-2")}
    run("wardpostctl", "keygen", "cluster", folder / "cluster.key", check=0)
    (folder / "router-1.key").rename(folder / "router.key")
    (folder / "gateway-1.key").rename(folder / "gateway.key")
    run(need_program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-subj",
        "/CN=test", "-keyout", folder / "gateway-tls.key", "-out", folder / "gateway-tls.pem", check=0)
    for role in ROLES:
        text = (installed / f"share/doc/wardpost/examples/{role}.yaml").read_text()
        assert "/etc/wardpost/" in text
        text = text.replace("/etc/wardpost/", f"{folder}/")
        for name, key in public.items():
            text = text.replace("@" + name.replace("-", "_").upper() + "_KEY@", key)
        (folder / f"{role}.yaml").write_text(text)
    return folder


@pytest.mark.parametrize("role", ROLES)
def test_the_example_is_a_good_configuration(etc, role):
    assert "is good" in run(f"wardpost-{role}", "--check-config", "--config", etc / f"{role}.yaml", check=0).stdout


@pytest.mark.parametrize("role", ROLES)
def test_the_example_as_it_lies_there_asks_for_keys(installed, role):
    example = installed / f"share/doc/wardpost/examples/{role}.yaml"
    assert "key" in run(f"wardpost-{role}", "--check-config", "--config", example, check=78).stderr


def test_example_and_unit_agree_on_the_folders(installed):
    for role in ROLES:
        text = (installed / f"share/doc/wardpost/examples/{role}.yaml").read_text()
        settings = settings_of(unit_of(installed, role))
        assert f"/run/{settings['RuntimeDirectory'][0]}/admin.sock" in text
        if role == "router":
            # Below the state directory, not the directory itself: a damaged one is moved aside within its parent.
            assert f"\ndata: /var/lib/{settings['StateDirectory'][0]}/data\n" in text


# -- keys


def test_a_key_is_never_overwritten(tmp_path):
    for kind in ("cluster", "curve"):
        path = tmp_path / kind
        run("wardpostctl", "keygen", kind, path, check=0)
        before = path.read_bytes()
        assert path.stat().st_mode & 0o777 == 0o600
        assert "never overwritten" in run("wardpostctl", "keygen", kind, path, check=65).stderr
        assert path.read_bytes() == before
        run("wardpostctl", "keygen", kind, tmp_path / "nowhere" / kind, check=74)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cluster", "curve"]


def test_keys_differ_and_are_what_the_servers_read(tmp_path):
    printed = [run("wardpostctl", "keygen", "curve", tmp_path / name, check=0).stdout.strip() for name in "ab"]
    assert printed[0] != printed[1] and all(len(key) == 40 for key in printed)
    assert (tmp_path / "a").read_text().splitlines()[0] == f"public: {printed[0]}"
    ids = {run("wardpostctl", "keygen", "id", check=0).stdout.strip() for _ in range(5)}
    assert len(ids) == 5 and all(re.fullmatch("[0-9a-f]{16}", cluster_id) for cluster_id in ids)
    for name in "cd":
        run("wardpostctl", "keygen", "cluster", tmp_path / name, check=0)
        assert re.fullmatch("[0-9a-f]{64}\n", (tmp_path / name).read_text())
    assert (tmp_path / "c").read_text() != (tmp_path / "d").read_text()


# -- the operator on a machine that has no playground


def test_operator_through_the_socket_alone(shared, unique, tmp_path):
    socket = shared.node("router-1")["socket"]
    user = unique("ward")
    run("wardpostctl", "--socket", socket, "user", "add", user, check=0, cwd=tmp_path)
    made = run("wardpostctl", "--socket", socket, "device", "add", f"{user}/phone", check=0, cwd=tmp_path).stdout
    assert "only time" in made
    assert user in run("wardpostctl", "user", "list", "--socket", socket, check=0, cwd=tmp_path).stdout
    run("wardpostctl", "--socket", socket, "device", "remove", f"{user}/phone", check=0, cwd=tmp_path)
    assert run("wardpostctl", "--socket", socket, "status", check=0, cwd=tmp_path).stdout
    assert list(tmp_path.iterdir()) == [] and not (shared.dir / "devices" / user).exists()
    done = run("wardpostctl", "--socket", tmp_path / "none.sock", "user", "list", check=69)
    assert "no router answers" in done.stderr and "systemctl" in done.stderr
    assert "empty" in run("wardpostctl", "--socket", "", "user", "list", check=64).stderr
