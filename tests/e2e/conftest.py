"""The harness of the end-to-end suite: real processes in playgrounds, started and stopped by wardpostctl.

Fixtures: `playground` is fresh and of one test alone; `shared` lives as long as the session, for tests that only need a
running cluster (take names from `unique`); `make_playground` makes more, or ones with other settings. WP_BUILD names the build
tree (default build/release), WP_E2E_DIR where playgrounds go (a real disk; default in the build tree).
"""
import http.client
import itertools
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("WP_BUILD", ROOT / "build/release")).resolve()
BIN = BUILD / "bin"
EFFORT = os.environ.get("WP_EFFORT", "full")
SLOW = 4 if "asan" in BUILD.name else 1  # how much longer a sanitizer build may take
# What must never stand in a log: reports of the sanitizers, failed assertions, acknowledged entries that are gone.
BREACHES = re.compile(
    r"(ERROR: (Address|Leak)Sanitizer|SUMMARY: \w+Sanitizer|runtime error:|assertion|holds-less-than-it-acknowledged)", re.IGNORECASE
)

_numbers = itertools.count(1)


# What `make test` runs under sanitizers too; continuous integration runs everything under them.
UNDER_SANITIZERS = {"test_bad_input", "test_crash", "test_delivery", "test_interop", "test_rolling"}


def pytest_collection_modifyitems(config, items):
    if SLOW > 1 and os.environ.get("WP_EFFORT") == "full":
        left_out = [item for item in items if item.module.__name__ not in UNDER_SANITIZERS]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def folder_for_playgrounds():
    """A folder on a disk whose path is short enough for unix sockets."""
    base = pathlib.Path(os.environ.get("WP_E2E_DIR", BUILD / "e2e"))
    if len(str(base)) > 70:
        base = pathlib.Path("/var/tmp")
    return base / f"wp{os.getpid()}"


def wait_until(predicate, timeout_s=10, what="condition"):
    """The first true value of predicate(), polled; fails the test after timeout_s (longer under sanitizers)."""
    end = time.monotonic() + timeout_s * SLOW
    while True:
        value = predicate()
        if value:
            return value
        assert time.monotonic() < end, f"{what} did not come true in {timeout_s * SLOW} s"
        time.sleep(0.02)


def need_program(name):
    """Path of a program of the machine. Without it the test is skipped, and in CI it fails."""
    path = shutil.which(name)
    if path is None:
        (pytest.fail if EFFORT == "ci" else pytest.skip)(f"{name} is not installed; tools/setup installs it")
    return path


def run(*words, timeout_s=60, check=None, **options):
    """Runs a program of the build (a bare name) or any other; text in, text out. `check` is the expected status."""
    program = BIN / words[0]
    words = [str(program if program.exists() else words[0]), *map(str, words[1:])]
    done = subprocess.run(words, capture_output=True, text=True, timeout=timeout_s * SLOW, stdin=subprocess.DEVNULL, **options)
    if check is not None:
        assert done.returncode == check, f"{words} -> {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


class AdminConnection(http.client.HTTPConnection):
    """HTTP on a unix socket."""

    def __init__(self, path, timeout):
        super().__init__("router", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Playground:
    """One playground. `info` is what `playground up` printed; endpoints are ("127.0.0.1", port) pairs."""

    def __init__(self, path):
        self.dir = pathlib.Path(path)
        self.info = None
        self.control = "wardpostctl"  # starts the servers that lie beside it
        self.expected = None  # a breach that the test provokes

    # -- the operator's verbs

    def ctl(self, *words, check=0, **options):
        return run(self.control, "--dir", self.dir, *words, check=check, **options)

    def ctl_json(self, *words, **options):
        return json.loads(self.ctl(*words, "-o", "json", **options).stdout)

    def up(self, *words):
        # Two reactors on any machine, so that what passes between them is tested.
        reactors = [] if "--reactors" in words else ["--reactors", "2"]
        self.info = self.ctl_json("playground", "up", *words, *reactors, timeout_s=120)
        return self

    def down(self):
        return self.ctl_json("playground", "down")

    def kill(self, node, signal="KILL"):
        return self.ctl_json("playground", "kill", "--node", node, "--signal", signal)

    def start(self, node, *words):
        return self.ctl_json("playground", "start", "--node", node, *words, timeout_s=120)

    def restart(self, node, *words, signal="KILL"):
        self.kill(node, signal)
        return self.start(node, *words)

    def status(self):
        """State of each node by its name."""
        done = self.ctl("playground", "status", "-o", "json", check=None)
        info = json.loads(done.stdout)
        return {node["id"]: node for node in info["routers"] + info["gateways"]}

    # -- people

    def add_user(self, user):
        self.ctl("user", "add", user)

    def add_device(self, username):
        """Adds USER/DEVICE; answers its secret."""
        return self.ctl_json("device", "add", username)["secret"]

    def add_person(self, user, device="phone"):
        """A user with one device; answers (username, secret)."""
        self.add_user(user)
        username = f"{user}/{device}"
        return username, self.add_device(username)

    def provision(self, users):
        """Many at once: {"alice": ["phone"], ...} -> {"alice/phone": secret, ...}; straight to the admin socket."""
        body = {"users": [{"user": user, "devices": devices} for user, devices in users.items()]}
        answer = self.admin("POST", "/v1/provision", body)
        assert not answer["errors"], answer["errors"][:5]
        return {row["username"]: row["secret"] for row in answer["devices"]}

    def admin(self, method, path, body=None, check=None, node="router-1"):
        """One request to a router's admin socket, as JSON; `check` is the expected status (None: any 2xx)."""
        connection = AdminConnection(self.node(node)["socket"], timeout=60 * SLOW)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        assert answer.status // 100 == 2 if check is None else answer.status == check, (answer.status, text)
        return json.loads(text) if text else None

    # -- nodes

    def node(self, name):
        return next(node for node in self.info["routers"] + self.info["gateways"] if node["id"] == name)

    def endpoint(self, kind="mqtt", gateway="gateway-1"):
        host, _, port = self.node(gateway)[kind].rpartition(":")
        return host, int(port)

    def pid(self, name):
        """Process number now (it changes with each start)."""
        return self.status()[name]["pid"]

    def log(self, name):
        path = self.dir / name / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def configure(self, name, values):
        """Sets keys such as {"limits.mailbox_messages_max": 5} in the node's file; start the node (again) after it."""
        path = self.dir / name / ("router.yaml" if name.startswith("router") else "gateway.yaml")
        lines = path.read_text().splitlines()
        for key, value in values.items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            section, _, leaf = key.rpartition(".")
            start = lines.index(f"{section}:") + 1 if section and f"{section}:" in lines else None
            if section and start is None:
                lines.append(f"{section}:")
                start = len(lines)
            first = start or 0
            last = first
            while last < len(lines) and (lines[last].startswith("  ") if section else True):
                last += 1
            indent = "  " if section else ""
            found = [i for i in range(first, last) if lines[i].startswith(f"{indent}{leaf}:")]
            if found:
                lines[found[0]] = f"{indent}{leaf}: {text}"
            else:
                lines.insert(first if section else len(lines), f"{indent}{leaf}: {text}")
        path.write_text("\n".join(lines) + "\n")

    def page(self, name, path):
        """(status, text) of a page of the node's management endpoint."""
        try:
            with urllib.request.urlopen(f"http://{self.node(name)['management']}{path}", timeout=10 * SLOW) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metrics(self, name):
        """All samples of a node: {"name" or "name{labels}": value}."""
        status, text = self.page(name, "/metrics")
        assert status == 200
        samples = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                key, _, value = line.rpartition(" ")
                samples[key] = float(value)
        return samples

    def metric(self, name, metric):
        """Sum over all labels of one metric; fails when the node does not know it."""
        found = [v for k, v in self.metrics(name).items() if k == metric or k.startswith(metric + "{")]
        assert found, f"{name} has no metric {metric}"
        return sum(found)

    # -- the device on the command line

    def wardpost(self, username, *words, check=0, **options):
        return run("wardpost", "--dir", self.dir, "--as", username, *words, check=check, **options)

    # -- end

    def nodes(self):
        return [path.name for path in sorted(self.dir.glob("*-[0-9]*")) if path.is_dir()]

    def breaches(self):
        """Lines of the nodes' logs that must never be there."""
        lines = [(node, line) for node in self.nodes() for line in self.log(node).splitlines() if BREACHES.search(line)]
        return [f"{node}: {line}" for node, line in lines if not self.expected or self.expected not in line]

    def destroy(self, keep):
        if (self.dir / "playground.json").exists():
            self.ctl("playground", "down", check=None)
        breaches = self.breaches()
        if not keep and not breaches:
            shutil.rmtree(self.dir, ignore_errors=True)
        assert not breaches, f"in the logs of {self.dir}:\n" + "\n".join(breaches[:20])


# -- fixtures


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows the end of the logs of the playgrounds that it used, and they are kept."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        item.session.stash.setdefault(FAILED, set()).add(item.nodeid)
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Playground):
                for node in value.nodes():
                    report.sections.append((f"{value.dir}/{node}/log", "\n".join(value.log(node).splitlines()[-25:])))


FAILED = pytest.StashKey()


def failed(request):
    return request.node.nodeid in request.session.stash.get(FAILED, set())


@pytest.fixture(scope="session")
def playground_folder():
    path = folder_for_playgrounds()
    path.mkdir(parents=True, exist_ok=True)
    yield path
    if not any(path.iterdir()):
        path.rmdir()


@pytest.fixture
def make_playground(request, playground_folder):
    """make_playground(*words, settings={"router-1": {...}}): a started playground; settings hold from the first start."""
    made = []

    def make(*words, settings=None, start=True):
        playground = Playground(playground_folder / str(next(_numbers)))
        made.append(playground)
        if settings:
            playground.up("--no-start", *words)
            for node, values in settings.items():
                playground.configure(node, values)
        return playground.up(*([] if settings else words), *([] if start else ["--no-start"]))

    yield make
    errors = []
    for playground in made:
        try:
            playground.destroy(keep=failed(request))
        except AssertionError as error:
            errors.append(str(error))
    assert not errors, "\n".join(errors)


@pytest.fixture
def playground(make_playground):
    """A fresh one with one router and one gateway."""
    return make_playground()


@pytest.fixture(scope="session")
def shared_playground(playground_folder):
    playground = Playground(playground_folder / "shared")
    playground.up()
    yield playground
    playground.destroy(keep=False)


@pytest.fixture
def shared(shared_playground):
    """The session's playground. A test that broke it before is answered with one that is up again."""
    if any(node["state"] != "ready" for node in shared_playground.status().values()):
        shared_playground.up()
    return shared_playground


@pytest.fixture
def unique():
    """unique("alice") -> "alice-17": a name that no other test of the session uses."""
    return lambda name: f"{name}-{next(_numbers)}"
