"""A cluster of several machines (netns.Lab), formed by hand as docs/operating.md tells: keys from `wardpostctl keygen`, one file of
configuration for each process. Looks to the tests like a playground."""
import http.client
import signal as signals
import subprocess

from conftest import BIN, SLOW, Playground, run, wait_until

NET = "10.77.0."
FABRIC_PORT = 7401
MANAGEMENT_PORT = 7490
MQTT_PORT = 1883
SHARDS = 8
REACTORS = 2
# Small stores, as a playground has them: the reserve must fit on the disk of a test.
STORAGE = {"disk_reserve_bytes": 536870912, "wal_bytes_max": 50331648, "log_keep_bytes": 33554432, "write_buffer_bytes": 16777216,
           "compaction_bytes_max": 67108864}


def quoted(text):
    return "'" + str(text).replace("'", "''") + "'"


class Place:
    """Where a device connects: an address inside a machine; rawmqtt.Device asks it for the socket."""

    def __init__(self, machine, host, port):
        self.machine, self.host, self.port = machine, host, port

    def connect(self, timeout):
        return self.machine.connect(self.host, self.port, timeout)


class InsideConnection(http.client.HTTPConnection):
    """HTTP to a loopback address of a machine."""

    def __init__(self, machine, port, timeout):
        super().__init__("127.0.0.1", port, timeout=timeout)
        self.machine = machine

    def connect(self):
        self.sock = self.machine.connect("127.0.0.1", self.port, self.timeout)
        self.sock.settimeout(self.timeout)


class NetCluster(Playground):
    def __init__(self, path, lab, routers=3, gateways=2):
        super().__init__(path)
        self.lab = lab
        self.dir.mkdir(parents=True)
        self.routers = [f"router-{i + 1}" for i in range(routers)]
        self.gateways = [f"gateway-{i + 1}" for i in range(gateways)]
        self.processes = {}
        self.cluster_id = run("wardpostctl", "keygen", "id", check=0).stdout.strip()
        run("wardpostctl", "keygen", "cluster", self.dir / "cluster.key", check=0)
        self.keys = {name: self._keys_make(name) for name in self.routers + self.gateways}
        self.info = {"routers": [], "gateways": []}
        for number, name in enumerate(self.routers + self.gateways):
            lab.machine(name, f"{NET}{number + 1}")
            role = name.split("-")[0]
            (self.dir / name / f"{role}.yaml").write_text(self._router_yaml(name) if role == "router" else self._gateway_yaml(name))
            self.info[f"{role}s"].append({"id": name, "socket": str(self.dir / name / "admin.sock")})

    # -- configuration

    def _keys_make(self, name):
        (self.dir / name).mkdir()
        return run("wardpostctl", "keygen", "curve", self.dir / name / "curve.key", check=0).stdout.strip()

    def _routers_list(self, indent):
        rows = []
        for name in self.routers:
            rows += [f"- node: {name}", f"  endpoint: tcp://{NET}{self.routers.index(name) + 1}:{FABRIC_PORT}",
                     f"  key: {quoted(self.keys[name])}"]
        return [" " * indent + row for row in rows]

    def _router_yaml(self, name):
        lines = [f"node: {name}", f"data: {self.dir / name / 'data'}", f"reactors: {REACTORS}", "cluster:", f"  id: {quoted(self.cluster_id)}",
                 f"  shards: {SHARDS}", f"  key_file: {self.dir / 'cluster.key'}", "  routers:", *self._routers_list(4),
                 "fabric:", f"  host: {NET}{self.routers.index(name) + 1}", f"  port: {FABRIC_PORT}",
                 f"  key_file: {self.dir / name / 'curve.key'}", "  allow:"]
        for gateway in self.gateways:
            lines += [f"    - node: {gateway}", "      role: gateway", f"      key: {quoted(self.keys[gateway])}"]
        lines += ["management:", f"  address: 127.0.0.1:{MANAGEMENT_PORT}", f"  socket: {self.dir / name / 'admin.sock'}", "storage:"]
        lines += [f"  {key}: {value}" for key, value in STORAGE.items()]
        return "\n".join([*lines, "limits:", "  mailbox_messages_max: 1000000"]) + "\n"

    def _gateway_yaml(self, name):
        lines = [f"node: {name}", f"cluster_id: {quoted(self.cluster_id)}", f"fabric_key_file: {self.dir / name / 'curve.key'}", "routers:",
                 *self._routers_list(2), "listen:", f"  mqtt: 127.0.0.1:{MQTT_PORT}", "management:",
                 f"  address: 127.0.0.1:{MANAGEMENT_PORT}", f"  socket: {self.dir / name / 'admin.sock'}"]
        return "\n".join(lines) + "\n"

    # -- processes

    def up(self, *words):
        assert not words
        for name in self.routers + self.gateways:
            if name not in self.processes or self.processes[name].poll() is not None:
                self.launch(name)
        self.wait_ready(*self.routers, *self.gateways)
        return self

    def launch(self, name, **environment):
        role = name.split("-")[0]
        words = [BIN / f"wardpost-{role}", "--config", self.dir / name / f"{role}.yaml"]
        self.processes[name] = self.lab.start(name, words, self.dir / name / "log", environment)

    def wait_ready(self, *names, timeout_s=15):
        for name in names:
            wait_until(lambda: self.ready(name), timeout_s, f"{name} ready")

    def ready(self, name):
        try:
            return self.page(name, "/readyz")[0] == 200
        except OSError:
            assert self.processes[name].poll() is None, f"{name} ended with {self.processes[name].returncode}"
            return False

    def kill(self, node, signal="KILL"):
        process = self.processes[node]
        process.send_signal(getattr(signals, f"SIG{signal}"))
        return process.wait(30 * SLOW)

    def start(self, node, *words):
        assert not words
        self.launch(node)
        self.wait_ready(node)

    def status(self):
        return {name: {"id": name, "pid": process.pid, "state": "ready" if process.poll() is None and self.ready(name) else "down"}
                for name, process in self.processes.items()}

    def destroy(self, keep):
        for name in self.gateways + self.routers:
            process = self.processes.get(name)
            if process and process.poll() is None:
                process.terminate()
        for process in self.processes.values():
            try:
                process.wait(15 * SLOW)
            except subprocess.TimeoutExpired:
                process.kill()
        super().destroy(keep)

    # -- access from outside of the namespaces

    def ctl(self, *words, check=0, **options):
        return run(self.control, *words, "--socket", self.node(self.routers[0])["socket"], check=check, **options)

    def endpoint(self, kind="mqtt", gateway="gateway-1"):
        assert kind == "mqtt"
        return Place(self.lab.machines[gateway], "127.0.0.1", MQTT_PORT)

    def page(self, name, path):
        connection = InsideConnection(self.lab.machines[name], MANAGEMENT_PORT, 10 * SLOW)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    # -- what the routers say

    def shards(self, router):
        """The rows of the status about shards; empty when it does not answer."""
        try:
            return self.admin("GET", "/v1/status", node=router)["shards"]
        except (OSError, http.client.HTTPException):
            return []

    def shards_of(self, prefix):
        """{user: shard} of the users whose names begin so; each router knows those of the shards that it leads."""
        pages = [self.admin("GET", f"/v1/users?after={prefix}&limit=1000", node=router)["users"] for router in self.routers]
        return {row["user"]: row["shard"] for page in pages for row in page if row["user"].startswith(prefix)}

    def leaders(self, routers=None):
        """{shard: the routers that say that they lead it}."""
        found = {}
        for router in routers or self.routers:
            for shard in self.shards(router):
                if shard["role"] == "leader":
                    found.setdefault(shard["shard"], []).append(router)
        return found
