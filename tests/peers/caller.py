"""Calls by RPC what it is told on stdin, as cinder-api would.

A command is one JSON line:
  {"id": 1, "op": "call" | "cast" | "fanout" | "burst", "method": ...,
   "topic": ..., "server": ..., "version": ..., "namespace": ...,
   "args": {...}, "context": {...}, "timeout": seconds,
   "monitor": call_monitor_timeout (where there is one), "count": calls of a burst,
   "numbered": the argument that numbers a burst's calls from 0}
Only id, op and method must be there. Each command runs on a thread of its
own, and each call of a burst too. An answer is one JSON line:
  {"id": 1, "result": ...}
  {"id": 1, "exception": {"class", "module", "message",
                          "remote_class", "remote_message", "code"}}
  {"id": 1, "results": [{"result": ...} | {"exception": ...}, ...]}
"""

import os
import sys
import threading

import oslo_messaging

import peer


def main():
    parser = peer.options(__doc__.splitlines()[0])
    parser.add_argument("--allowed-remote-exmods", action="append", default=[],
                        metavar="MODULE",
                        help="rebuild exceptions of this module")
    args = parser.parse_args()
    transport = peer.transport(args, args.allowed_remote_exmods)
    client = make_client(transport)
    peer.say(ready=True)
    for command in peer.commands():
        start(run, client, command)
    # Calls still waiting for an answer must not keep the process.
    os._exit(0)


def make_client(transport):
    target = oslo_messaging.Target()
    if hasattr(oslo_messaging, "get_rpc_client"):
        return oslo_messaging.get_rpc_client(transport, target)
    return oslo_messaging.RPCClient(transport, target)


def start(function, *args):
    thread = threading.Thread(target=function, args=args)
    thread.daemon = True
    thread.start()
    return thread


def run(client, command):
    if command["op"] == "burst":
        peer.say(id=command["id"], results=burst(client, command))
    else:
        peer.say(id=command["id"], **attempt(client, command))


def burst(client, command):
    count = command["count"]
    results = [None] * count

    def one(number):
        args = dict(command.get("args", {}))
        if command.get("numbered"):
            args[command["numbered"]] = number
        results[number] = attempt(client, dict(command, args=args))

    for thread in [start(one, number) for number in range(count)]:
        thread.join()
    return results


def attempt(client, command):
    try:
        return {"result": execute(client, command)}
    except Exception as failure:
        return {"exception": describe(failure)}


def execute(client, command):
    prepared = client.prepare(**preparation(client, command))
    do = prepared.cast if command["op"] in ("cast", "fanout") else prepared.call
    return do(command.get("context", {}), command["method"],
              **command.get("args", {}))


def preparation(client, command):
    names = {"topic": "topic", "server": "server", "version": "version",
             "namespace": "namespace", "timeout": "timeout",
             "monitor": "call_monitor_timeout"}
    given = {ours: command[name] for name, ours in names.items()
             if command.get(name) is not None}
    if not hasattr(client, "call_monitor_timeout"):
        given.pop("call_monitor_timeout", None)
    if command["op"] == "fanout":
        given["fanout"] = True
    return given


def describe(failure):
    kind = type(failure)
    return {
        "class": kind.__name__,
        "module": kind.__module__,
        "message": message_of(failure),
        "remote_class": getattr(failure, "exc_type", None),
        "remote_message": getattr(failure, "value", None),
        "code": getattr(failure, "code", None),
    }


def message_of(failure):
    # In Python 2, str() of a message with an accent fails.
    return u"%s" % failure if sys.version_info < (3,) else str(failure)


if __name__ == "__main__":
    main()
