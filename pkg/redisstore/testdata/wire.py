"""Runs the golden vectors in vectors/ as another language would: against a
Redis over its bare protocol, with the standard library only.

    python3 wire.py HOST PORT               the vectors
    python3 wire.py HOST PORT program.py    a program of docs/wire-contract.md

It prints what differs and exits with 1. What it shows of the contract, such
as encode and fold, may be taken as it is.
"""

import hashlib
import json
import os
import socket
import sys
import time
import urllib.parse
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))


class Redis:
    """One connection; an error answer is raised."""

    def __init__(self, host, port):
        self.socket = socket.create_connection((host, int(port)), timeout=20)
        self.file = self.socket.makefile("rb")

    def __call__(self, *args):
        parts = [b"*%d\r\n" % len(args)]
        for arg in args:
            data = arg if isinstance(arg, bytes) else str(arg).encode()
            parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
        self.socket.sendall(b"".join(parts))
        return self.read()

    def read(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise RuntimeError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            if int(rest) < 0:
                return None
            return self.file.read(int(rest) + 2)[:-2].decode()
        if kind == b"*":
            return [self.read() for _ in range(int(rest))]
        return rest.decode()

    def pairs(self, *args):
        flat = self(*args)
        return dict(zip(flat[::2], flat[1::2]))

    def script(self, name):
        with open(os.path.join(HERE, "..", name), encoding="utf-8") as f:
            source = f.read()
        return lambda keys, args: self("EVAL", source, len(keys), *keys, *args)


SAFE = "".join(chr(c) for c in range(33, 127) if chr(c) not in "%{}\"'\\")


def encode(text):
    return urllib.parse.quote(text, safe=SAFE)


def slot(key):
    tag = key[key.index("{") + 1:key.index("}")]
    crc = 0
    for byte in tag.encode():
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc % 16384


FINISHED = ("completed", "failed", "canceled", "terminated", "timed_out", "unknown")
STATE = ("status", "percent", "current", "total", "message", "error", "attempt", "time")
BOUND = 100


def fold(events):
    """The snapshot, as fold.json has it: without what is zero or empty."""
    s, steps, outputs = {}, {}, {}
    for e in events:
        s["seq"] = s.get("seq", 0) + 1
        begins = s["seq"] == 1 or e["run_id"] != s["run_id"] or e["chain"] != s["chain"]
        if begins:
            same = s["seq"] > 1 and e["chain"] == s["chain"]
            kept = {k: s[k] for k in ("started_at", "type", "tags") if same and k in s}
            s = {"v": 1, "workflow_id": e["workflow_id"], "first_seq": 1, "seq": s["seq"], "status": "running"}
            s["started_at"] = e["time"]
            s.update(kept)
            steps, outputs = {}, {}
        s.update((k, e[k]) for k in ("epoch", "check", "run_id", "chain"))
        s["updated_at"] = e["time"]
        if "workflow_type" in e:
            s["type"] = e["workflow_type"]
        if "tags" in e:
            s["tags"] = e["tags"]
        kind, status, step, attempt = e["type"], e.get("status"), e.get("step", ""), e.get("attempt", 0)
        if kind == "started":
            if status != "queued" or begins:
                s["status"] = status
        elif kind == "progress":
            for k in ("percent", "current", "total", "message"):
                s.pop(k, None)
            s.update((k, e[k]) for k in ("percent", "current", "total", "message", "step", "attempt") if k in e)
            if s["status"] == "queued":
                s["status"] = "running"
        elif kind == "step" and not (status == "queued" and step in steps):
            state = {"name": step, "first": s["seq"], "seq": s["seq"]}
            state.update((k, e[k]) for k in STATE if k in e)
            if step in steps:
                state["first"] = steps[step]["first"]
                steps[step] = state
            elif len(steps) < BOUND:
                steps[step] = state
            else:
                s["steps_omitted"] = s.get("steps_omitted", 0) + 1
                done = [old for old in steps.values() if old["status"] in FINISHED]
                if done:
                    del steps[min(done, key=lambda old: old["seq"])["name"]]
                    steps[step] = state
            if status == "running":
                s["step"] = step
                if attempt:
                    s["attempt"] = attempt
            if status != "queued" and s["status"] == "queued":
                s["status"] = "running"
            if step in outputs and (status in FINISHED or outputs[step]["attempt"] != attempt):
                del outputs[step]
        elif kind == "output":
            opened = outputs.get(step)
            if (opened is None and len(outputs) < BOUND) or (opened and opened["attempt"] != attempt):
                outputs[step] = {"step": step, "from": s["seq"], "attempt": attempt}
        elif kind == "closed":
            s["status"], s["closed_at"] = status, e["time"]
            s.pop("error", None)
            if "error" in e:
                s["error"] = e["error"]
            outputs = {}
    if steps:
        s["steps"] = sorted(steps.values(), key=lambda state: state["first"])
    if outputs:
        s["outputs"] = sorted(outputs.values(), key=lambda o: o["step"].encode())
        s["output_from"] = min(o["from"] for o in outputs.values())
    return {k: v for k, v in s.items() if v != ""}


def load(name):
    with open(os.path.join(HERE, "vectors", name), encoding="utf-8") as f:
        return json.load(f)


failures = 0


def same(what, got, want):
    global failures
    if got != want:
        failures += 1
        print(f"{what}:\n   got {got!r}\n  want {want!r}")


def run_step(redis, vector, step):
    if "command" in step:
        redis(*step["command"])
        return
    answer = redis.script(step["script"])(step["keys"], step.get("argv", []))
    answer = answer if isinstance(answer, list) else [answer]
    same(f"{vector['name']}: the answer", [str(a) for a in answer], step["answer"])


def vectors(redis):
    for v in load("keys.json"):
        key = "workflow:{" + encode(v["id"]) + "}"
        got = {"id": v["id"], "encoded": encode(v["id"]), "shard": zlib.crc32(encode(v["id"]).encode()) % 16, "slot": slot(key), "hash": key}
        same("key", got, v)
    for v in load("script.json"):
        keys = v["steps"][0]["keys"]
        redis("DEL", *keys)
        for step in v["steps"]:
            run_step(redis, v, step)
        same(f"{v['name']}: the hash", redis.pairs("HGETALL", keys[0]), v["hash"])
        same(f"{v['name']}: the stream", [{"id": i, fields[0]: fields[1]} for i, fields in redis("XRANGE", keys[1], "-", "+")], v["stream"])
        same(f"{v['name']}: the producers", redis.pairs("HGETALL", keys[2]), v["producers"])
    for v in load("lists.json"):
        keys = sorted({key for step in v["steps"] for key in step.get("keys") or step["command"][1:2]})
        redis("DEL", *keys)
        for step in v["steps"]:
            run_step(redis, v, step)
        kind = {key: redis("TYPE", key) for key in keys}
        sets = {key: {m: float(score) for m, score in redis.pairs("ZRANGE", key, 0, -1, "WITHSCORES").items()} for key in keys if kind[key] == "zset"}
        same(f"{v['name']}: the sets", sets, v["sets"])
        same(f"{v['name']}: the hashes", {key: redis.pairs("HGETALL", key) for key in keys if kind[key] == "hash"}, v["hashes"])
        same(f"{v['name']}: what expires", [key for key in keys if redis("PTTL", key) > 0], v["expires"])
    for v in load("fold.json"):
        check = "0" * 8
        for text in v["events"]:
            tail = text.split(',"check":"', 1)[1][10:]
            check = hashlib.sha1((check + tail).encode()).hexdigest()[:8]
            same(f"{v['name']}: the check", json.loads(text)["check"], check)
        same(f"{v['name']}: the fold", fold([json.loads(text) for text in v["events"]]), v["snapshot"])


if __name__ == "__main__":
    client = Redis(sys.argv[1], sys.argv[2])
    if len(sys.argv) > 3:
        with open(sys.argv[3], encoding="utf-8") as program:
            exec(program.read(), {"json": json, "time": time, "encode": encode, "script": client.script("append.lua")})
    else:
        vectors(client)
    sys.exit(1 if failures else 0)
