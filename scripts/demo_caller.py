"""Asks for a migration's progress once a second, as cinder-api would, and draws it until it is done."""

import argparse
import logging
import sys
import time

import oslo_messaging
from oslo_config import cfg

GIVE_UP_AFTER = 120
WIDTH = 50


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--volume-id", required=True)
    parser.add_argument("--size", type=int, required=True, help="in GiB")
    args = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)
    cfg.CONF([], project="demo", default_config_files=[])

    transport = oslo_messaging.get_rpc_transport(cfg.CONF, url=args.url)
    target = oslo_messaging.Target(topic="cinder-volume.demo@lvm", server="demo", version="3.11")
    client = oslo_messaging.get_rpc_client(transport, target, timeout=10)
    volume = {
        "id": args.volume_id,
        "name_id": args.volume_id,
        "size": args.size,
        "host": "demo@lvm#pool",
        "migration_status": "migrating",
    }
    deadline = time.monotonic() + GIVE_UP_AFTER
    while time.monotonic() < deadline:
        asked = time.monotonic()
        answer = client.call({}, "get_migrate_volume_progress", volume=volume)
        show(answer)
        if answer == "100":
            return 0
        time.sleep(max(0, asked + 1 - time.monotonic()))
    print("\nnot done after %d s" % GIVE_UP_AFTER, file=sys.stderr)
    return 1


def show(answer):
    if not sys.stdout.isatty():
        print(answer + "%", flush=True)
        return
    filled = WIDTH * int(answer) // 100 if answer.isdigit() else 0
    bar = "#" * filled + "-" * (WIDTH - filled)
    print("\r[%s] %3s%%" % (bar, answer), end="\n" if answer == "100" else "", flush=True)


if __name__ == "__main__":
    sys.exit(main())
