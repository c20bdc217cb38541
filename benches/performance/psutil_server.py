"""The same service in Python: oslo.messaging's RPC server, and psutil to find the dd.

Prints the JSON line {"ready": true} when it consumes.
"""

import oslo_messaging

import cinder_volume
import peer
import psutil_lookup


class Manager(object):
    target = oslo_messaging.Target(version="3.11")

    def get_migrate_volume_progress(self, ctxt, volume):
        fields = volume["versioned_object.data"]
        position = psutil_lookup.position("volume-" + fields["id"])
        if position is None:
            return "0"
        return str(min(100, position * 100 // (fields["size"] << 30)))


def main():
    parser = peer.options(__doc__.splitlines()[0])
    parser.add_argument("--host", required=True)
    parser.add_argument("--topic", required=True)
    args = parser.parse_args()
    cinder_volume.announce_consumers(expected=3)
    target = oslo_messaging.Target(topic=args.topic, server=args.host)
    server = oslo_messaging.get_rpc_server(
        peer.transport(args), target, [Manager()], executor="threading")
    server.start()
    server.wait()


if __name__ == "__main__":
    main()
