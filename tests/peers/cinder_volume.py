"""Plays cinder-volume: its RPC servers on its topics, with small operations.

Like the service it has two servers, topic cinder-volume and topic
cinder-volume.<host>@<backend>, and does not know get_migrate_volume_progress.
On stdout, one JSON line each:
  {"consuming": queue}    a consumer is up (again, after a lost connection)
  {"ready": true}         all of them are up for the first time
  {"executed": number, "method": ..., "order": n, "at": time,
   "server": "service" | "backend"}    an operation has begun
  {"stopped": true}       after the command {"op": "stop"} on stdin
"""

import os
import threading
import time

import oslo_messaging
from oslo_messaging._drivers import impl_rabbit

import cinder.exception
import peer


def main():
    parser = peer.options(__doc__.splitlines()[0])
    parser.add_argument("--host", required=True)
    parser.add_argument("--backend", help="none: enabled_backends is empty")
    parser.add_argument("--version", default="3.18",
                        help="the RPC version it serves")
    parser.add_argument("--backend-only", action="store_true",
                        help="not the server of topic cinder-volume, whose "
                        "queues are those of all services")
    parser.add_argument("--progress-fails", metavar="REASON",
                        help="it knows get_migrate_volume_progress, and "
                        "raises InvalidVolume there")
    args = parser.parse_args()
    # Each server has a topic, a server and a fanout queue.
    announce_consumers(expected=3 if args.backend_only else 6)
    transport = peer.transport(args, ["cinder.exception"])
    servers = start_servers(transport, args)
    for command in peer.commands():
        if command["op"] == "stop":
            # In the order of cinder's Service: all stop before any is waited
            # for, and meanwhile the broker goes on delivering to each.
            for server in servers:
                server.stop()
            for server in servers:
                server.wait()
            peer.say(stopped=True)
            break
    os._exit(0)


def start_servers(transport, args):
    service = "%s@%s" % (args.host, args.backend) if args.backend else args.host
    names = [("backend", "cinder-volume." + service, args.host)]
    if not args.backend_only:
        names.insert(0, ("service", "cinder-volume", service))
    record = Record()
    servers = []
    for name, topic, server in names:
        target = oslo_messaging.Target(topic=topic, server=server)
        endpoint = Manager(args.version, record, name)
        if args.progress_fails:
            endpoint = Failing(args.version, args.progress_fails)
        servers.append(oslo_messaging.get_rpc_server(
            transport, target, [endpoint], executor="threading"))
    for server in servers:
        server.start()
    return servers


class Record(object):
    """Numbers what is executed, across both servers."""

    def __init__(self):
        self._lock = threading.Lock()
        self._order = 0

    def __call__(self, server, method, number):
        with self._lock:
            order = self._order
            self._order += 1
            peer.say(executed=number, method=method, order=order,
                     at=time.time(), server=server)


class Manager(object):
    """The endpoint. Each method takes what it does not know, as a test likes."""

    def __init__(self, version, record, server):
        self.target = oslo_messaging.Target(version=version)
        self._record = record
        self._server = server

    def operation(self, ctxt, number=None, **kwargs):
        self._record(self._server, "operation", number)
        return {"done": number}

    def slow_operation(self, ctxt, seconds, number=None, **kwargs):
        self._record(self._server, "slow_operation", number)
        time.sleep(seconds)
        return {"done": number}

    def failing_operation(self, ctxt, reason, number=None, **kwargs):
        self._record(self._server, "failing_operation", number)
        raise cinder.exception.InvalidVolume(reason=reason)

    def create_volume(self, ctxt, number=None, **kwargs):
        self._record(self._server, "create_volume", number)

    def delete_volume(self, ctxt, number=None, **kwargs):
        self._record(self._server, "delete_volume", number)


class Failing(object):
    """An endpoint that knows the progress call and cannot answer it."""

    def __init__(self, version, reason):
        self.target = oslo_messaging.Target(version=version)
        self._reason = reason

    def get_migrate_volume_progress(self, ctxt, volume):
        raise cinder.exception.InvalidVolume(reason=self._reason)


def announce_consumers(expected):
    """Say so whenever the driver has sent basic.consume.

    A server's start() returns before that: its poll thread does it later.
    """
    original = impl_rabbit.Consumer.consume
    lock = threading.Lock()
    started = []

    def consume(self, *args, **kwargs):
        outcome = original(self, *args, **kwargs)
        with lock:
            started.append(self.queue_name)
            peer.say(consuming=self.queue_name)
            if len(started) == expected:
                peer.say(ready=True)
        return outcome

    impl_rabbit.Consumer.consume = consume


if __name__ == "__main__":
    main()
