"""tools/setup: what it would do to a machine, seen through stand-ins for apt and dpkg. That the packages really come is
what tools/fresh-machine proves."""
import os
import subprocess

import pytest

from conftest import ROOT

SUITE = "bookworm-backports"
DEB822 = """Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/some-keyring.gpg

Types: deb
URIs: http://security.example/debian-security
Suites: bookworm-security
Components: main
"""
ONELINE = """# deb http://old.example/debian bookworm main
deb-src http://mirror.example/debian bookworm main
deb [arch=amd64,arm64 signed-by=/usr/share/keyrings/some-keyring.gpg] mirror+file:/etc/apt/mirrors.list bookworm contrib main # ours
"""
EMBEDDED = """Enabled: yes
Types: deb deb-src
URIs: https://mirror.example/debian
Suites:
  bookworm
  bookworm-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 xjMEX
 -----END PGP PUBLIC KEY BLOCK-----
"""


def packages():
    return [line.split()[0] for line in (ROOT / "tools/packages.txt").read_text().splitlines() if line and line[0] != "#"]


class Machine:
    """A pretended machine: its release, its installed packages, what apt offers, and what was asked of apt."""

    def __init__(self, path, release="12", missing=(), candidate="0.22.1-1~bpo12+1", sources=DEB822, install_fails=False):
        self.path = path
        self.etc = path / "etc"
        self.calls = path / "calls"
        for folder in ("bin", "etc/sources.list.d", "etc/preferences.d"):
            (path / folder).mkdir(parents=True)
        codename = {"12": "bookworm", "13": "trixie"}.get(release, "other")
        (path / "os-release").write_text(f'ID=debian\nVERSION_ID="{release}"\nVERSION_CODENAME={codename}\nPRETTY_NAME="Debian {release}"\n')
        if sources:
            kind = "list" if sources == ONELINE else "sources"
            (self.etc / f"sources.list.d/debian.{kind}").write_text(sources)
        versions = {"libraft-dev": "0.22.1-1"}
        installed = "".join(f"ii  {name} {versions.get(name, '1.0')}\n" for name in packages() if name not in missing)
        (path / "installed").write_text(installed)
        (path / "later").write_text("".join(f"ii  {name} {versions.get(name, '1.0')}\n" for name in packages()))
        self.program("dpkg-query", f'cat "{path}/installed"')
        self.program("apt-cache", f'echo "libraft-dev:"; echo "  Candidate: {candidate}"')
        self.program("apt-get", f'echo "$@" >>"{self.calls}"; case "$*" in *install*) '
                     + ("echo 'E: dpkg was interrupted'; exit 100" if install_fails else f'cp "{path}/later" "{path}/installed"')
                     + " ;; esac")
        self.program("sudo", 'exec "$@"')

    def program(self, name, body):
        path = self.path / "bin" / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def setup(self, scope="test", check=0, **environment):
        done = subprocess.run([ROOT / "tools/setup", scope], capture_output=True, text=True, timeout=60, env={
            **os.environ, "PATH": f"{self.path}/bin:{os.environ['PATH']}", "WARDPOST_APT_ETC": str(self.etc),
            "WARDPOST_OS_RELEASE": str(self.path / "os-release"), **environment})
        assert done.returncode == check, (done.returncode, done.stdout, done.stderr)
        return done

    def asked(self):
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    def written(self, name):
        path = self.etc / name
        return path.read_text() if path.exists() else None


@pytest.fixture
def machine(tmp_path):
    return lambda **options: Machine(tmp_path / "machine", **options)


def test_nothing_missing_means_nothing_done(machine):
    it = machine()
    done = it.setup("develop")
    assert done.stdout == "" and it.asked() == []


def test_only_what_is_missing_is_installed(machine):
    it = machine(missing=["uthash-dev", "libczmq-dev"])
    it.setup()
    install = [call for call in it.asked() if "install" in call]
    assert len(install) == 1 and install[0].endswith("--no-install-recommends libczmq-dev uthash-dev")
    assert it.written("sources.list.d/wardpost-backports.sources") is None


def test_scopes_and_releases_choose_from_the_one_list(machine):
    it = machine(release="12", missing=["python3-pytest", "clang", "libclang-rt-14-dev", "libclang-rt-19-dev"])
    it.setup("build")
    assert it.asked() == []
    it.setup("develop")
    assert it.asked()[-1].split("--no-install-recommends ")[1] == "python3-pytest clang libclang-rt-14-dev"


def test_a_node_that_is_there_is_never_replaced(machine):
    it = machine(missing=["nodejs", "npm"])
    it.program("node", "exit 0")
    it.program("npm", "exit 0")
    it.setup("test")
    assert it.asked() == []


@pytest.mark.parametrize("sources, wanted", [
    (DEB822, "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm-backports\nComponents: main\n"
             "Signed-By: /usr/share/keyrings/some-keyring.gpg\n"),
    (ONELINE, "Types: deb\nURIs: mirror+file:/etc/apt/mirrors.list\nSuites: bookworm-backports\nComponents: main\n"
              "Architectures: amd64 arm64\nSigned-By: /usr/share/keyrings/some-keyring.gpg\n"),
    (EMBEDDED, "Types: deb\nURIs: https://mirror.example/debian\nSuites: bookworm-backports\nComponents: main\nSigned-By:\n"
               " -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n xjMEX\n -----END PGP PUBLIC KEY BLOCK-----\n"),
])
def test_debian_12_gets_backports_of_its_own_mirror_for_libraft_alone(machine, sources, wanted):
    it = machine(missing=["libraft-dev"], sources=sources)
    it.setup()
    assert it.written("sources.list.d/wardpost-backports.sources").split("\n", 1)[1] == wanted
    pins = it.written("preferences.d/wardpost-backports.pref")
    assert f"Package: libraft-dev libraft0\nPin: release n={SUITE}\nPin-Priority: 990" in pins
    assert f"Package: *\nPin: release n={SUITE}\nPin-Priority: -1" in pins
    assert it.asked()[-1].endswith("libraft-dev")


def test_backports_that_the_user_has_keep_the_users_priorities(machine):
    it = machine(missing=["libraft-dev"], sources=DEB822 + "\n" + DEB822.split("\n\n")[0].replace("bookworm bookworm-updates", SUITE))
    it.setup()
    assert it.written("sources.list.d/wardpost-backports.sources") is None
    assert "Package: *" not in it.written("preferences.d/wardpost-backports.pref")


@pytest.mark.parametrize("sources", [
    DEB822.replace("Types: deb\n", "Types: deb\nEnabled: no\n"), DEB822.replace("Types: deb\n", "Types: deb-src\n"),
    DEB822.replace("bookworm ", "bullseye "), DEB822.replace("main contrib", "contrib"), None,
])
def test_no_usable_entry_of_the_machine_stops_with_one_sentence(machine, sources):
    it = machine(missing=["libraft-dev"], sources=sources)
    done = it.setup(check=69)
    assert done.stderr.count("\n") == 1 and "bookworm" in done.stderr
    assert it.asked() == []


@pytest.mark.parametrize("candidate", ["0.15.0-2", "(none)", ""])
def test_an_old_raft_is_never_a_fallback(machine, candidate):
    it = machine(missing=["libraft-dev", "uthash-dev"], candidate=candidate)
    done = it.setup(check=69)
    sentence = done.stderr.splitlines()[-1]
    assert "libraft-dev 0.22.1 or later cannot be reached" in sentence and "bookworm-backports" in sentence
    assert not [call for call in it.asked() if "install" in call]


def test_an_old_raft_that_is_installed_counts_as_missing(machine):
    it = machine()
    path = it.path / "installed"
    path.write_text(path.read_text().replace("libraft-dev 0.22.1-1", "libraft-dev 0.15.0-2"))
    it.setup()
    assert it.asked()[-1].endswith("libraft-dev")


def test_debian_13_has_raft_in_main(machine):
    it = machine(release="13", missing=["libraft-dev"], sources=DEB822.replace("bookworm", "trixie"))
    it.setup()
    assert it.written("sources.list.d/wardpost-backports.sources") is None
    assert it.written("preferences.d/wardpost-backports.pref") is None
    assert it.asked()[-1].endswith("libraft-dev")


def test_a_failing_install_shows_the_end_of_apts_words(machine):
    it = machine(missing=["uthash-dev"], install_fails=True)
    done = it.setup(check=69)
    assert "E: dpkg was interrupted" in done.stderr and done.stderr.splitlines()[-1] == "wardpost: installing the packages failed"


def test_an_unknown_system_is_told_what_to_do(machine):
    it = machine(release="11")
    done = it.setup(check=69)
    assert "Debian 12 and 13" in done.stderr and "tools/packages.txt" in done.stderr
    it.setup(check=0, WARDPOST_SETUP="skip")


def test_no_mirror_stands_in_the_project():
    done = subprocess.run(["git", "grep", "-nE", r"https?://(deb|ftp|security|mirror|registry)[.-][a-z]+\.(org|com)"], cwd=ROOT,
                          capture_output=True, text=True)
    assert done.stdout == ""
