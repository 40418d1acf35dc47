#!/usr/bin/env python3
"""Checks that includes follow the layers: a folder includes only what its row allows, rooted at the repository.

Usage: tools/layers.py [ROOT]; prints each breach as FILE:LINE and exits 1 when there is one.
"""
import pathlib
import re
import sys

ALLOWED = {
    "base": {"base"},
    "proto": {"base", "proto"},
    "storage": {"base", "proto", "storage"},
    "cluster": {"base", "proto", "storage", "cluster"},
    "node": {"base", "proto", "node"},
    "router": {"base", "proto", "storage", "cluster", "node", "router"},
    "gateway": {"base", "proto", "node", "gateway"},
    "client": {"base", "proto", "client"},
    "ctl": {"base", "proto", "client", "ctl"},
    "bench": {"base", "proto", "client", "bench"},
}
# Libraries that only the named folders may include; the rest reaches them through a facade.
LIBRARY_OWNERS = {
    "rocksdb/": {"storage/rocks"},
    "raft.h": {"cluster"},
    "zmq.h": {"node", "ctl"},
    "czmq.h": {"node", "ctl"},
    "microhttpd.h": {"node"},
    "cyaml/": {"node"},
    "yaml.h": {"node"},
    "openssl/": {"gateway", "client", "ctl"},
    "wslay/": {"gateway"},
    "curl/": {"client"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^">]+)[">]')


def breaches(root):
    for folder, allowed in ALLOWED.items():
        for path in sorted((root / folder).rglob("*.[ch]")):
            relative = path.relative_to(root).as_posix()
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                match = INCLUDE.match(line)
                if not match:
                    continue
                name = match.group(2)
                place = f"{relative}:{number}"
                if ".." in name.split("/"):
                    yield f"{place}: include \"{name}\" from the repository root, not through .."
                if match.group(1) == '"' and name.split("/")[0] not in allowed:
                    yield f"{place}: {folder}/ may not include \"{name}\" (allowed: {', '.join(sorted(allowed))})"
                for library, owners in LIBRARY_OWNERS.items():
                    if name.startswith(library) and not any(relative.startswith(o + "/") for o in owners):
                        yield f"{place}: only {', '.join(sorted(owners))} may include <{name}>"


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    found = list(breaches(root))
    for breach in found:
        print(breach)
    print(f"layers: {len(found)} breaches")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
