"""Changes rows of a router's state instance through RocksDB's own C interface: damage under block checksums that are right.

    state_tool.py PATH find TEXT          keys (hexadecimal digits, tag first) of the rows whose value holds the text
    state_tool.py PATH flip KEY TEXT      flips a bit in that text in the row's value
    state_tool.py PATH copy FROM TO       puts the value of one row under the key of another

A process of its own: RocksDB ends the one that it is used wrongly in.
"""
import ctypes
import sys


class State:
    def __init__(self, path):
        self.lib = ctypes.CDLL("librocksdb.so")
        for name in ("options_create", "open", "readoptions_create", "writeoptions_create", "create_iterator", "iter_key",
                     "iter_value"):
            getattr(self.lib, f"rocksdb_{name}").restype = ctypes.c_void_p
        self.lib.rocksdb_iter_valid.restype = ctypes.c_ubyte
        error = ctypes.c_char_p()
        self.database = self.call("open", self.call("options_create"), ctypes.c_char_p(path.encode()), ctypes.byref(error))
        assert not error.value, error.value

    def call(self, name, *arguments):
        return getattr(self.lib, f"rocksdb_{name}")(*[ctypes.c_void_p(a) if isinstance(a, int) else a for a in arguments])

    def rows(self):
        rows = {}
        iterator = self.call("create_iterator", self.database, self.call("readoptions_create"))
        self.call("iter_seek_to_first", iterator)
        while self.call("iter_valid", iterator):
            size = ctypes.c_size_t()
            key = ctypes.string_at(self.call("iter_key", iterator, ctypes.byref(size)), size.value)
            rows[key] = ctypes.string_at(self.call("iter_value", iterator, ctypes.byref(size)), size.value)
            self.call("iter_next", iterator)
        self.call("iter_destroy", iterator)
        return rows

    def put(self, key, value):
        error = ctypes.c_char_p()
        self.call("put", self.database, self.call("writeoptions_create"), ctypes.c_char_p(key), ctypes.c_size_t(len(key)),
                  ctypes.c_char_p(value), ctypes.c_size_t(len(value)), ctypes.byref(error))
        assert not error.value, error.value

    def close(self):
        self.call("close", self.database)


def main(path, verb, *words):
    state = State(path)
    rows = state.rows()
    if verb == "find":
        print("\n".join(key.hex() for key, value in rows.items() if words[0].encode() in value))
    elif verb == "flip":
        key, text = bytes.fromhex(words[0]), words[1].encode()
        value = bytearray(rows[key])
        value[value.index(text) + 2] ^= 0x04
        state.put(key, bytes(value))
    elif verb == "copy":
        state.put(bytes.fromhex(words[1]), rows[bytes.fromhex(words[0])])
    state.close()


main(*sys.argv[1:])
