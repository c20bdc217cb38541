"""What caller.py and cinder_volume.py share: options, oslo.config, JSON lines.

Runs on Python 2.7 with oslo.messaging 5.17 as well as on today's.
"""

from __future__ import print_function

import argparse
import json
import logging
import os
import sys
import tempfile
import threading
import warnings

import oslo_messaging
from oslo_config import cfg

# The tests read stdout: only lines written by `say` may get there, so that
# whatever a library prints goes to stderr instead.
_stdout = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
_writing = threading.Lock()

warnings.simplefilter("ignore")


def say(**line):
    """Write one JSON line; any thread may."""
    text = json.dumps(line, default=str)
    with _writing:
        _stdout.write(text + "\n")
        _stdout.flush()


def commands():
    """The JSON lines that come in, until stdin is closed."""
    # Not `for line in sys.stdin`: Python 2 reads ahead and holds lines back.
    for line in iter(sys.stdin.readline, ""):
        if line.strip():
            yield json.loads(line)


def options(description):
    """A parser with the options that both peers have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--url", required=True, help="transport_url")
    parser.add_argument("--exchange", default="openstack",
                        help="control_exchange")
    parser.add_argument("--conf", action="append", default=[],
                        metavar="GROUP.OPTION=VALUE",
                        help="any other option, for instance "
                        "oslo_messaging_rabbit.kombu_compression=gzip")
    parser.add_argument("--verbose", action="store_true",
                        help="oslo.messaging's own log on stderr")
    return parser


def transport(args, allowed_remote_exmods=()):
    """oslo.messaging's RPC transport as the options describe it."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if args.verbose else logging.CRITICAL)
    # A newer release has a name of its own for RPC transports.
    make = getattr(oslo_messaging, "get_rpc_transport",
                   oslo_messaging.get_transport)
    return make(_conf(args), url=args.url,
                allowed_remote_exmods=list(allowed_remote_exmods))


def _conf(args):
    """Options go through a real file: each is read as its service would."""
    # The global one: parts of oslo.messaging register their options there.
    conf = cfg.CONF
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as conf_file:
        print("[DEFAULT]\ncontrol_exchange = %s" % args.exchange,
              file=conf_file)
        for setting in args.conf:
            name, value = setting.split("=", 1)
            group, option = name.rsplit(".", 1)
            print("[%s]\n%s = %s" % (group, option, value), file=conf_file)
        conf_file.flush()
        conf(["--config-file", conf_file.name], project="peer",
             default_config_files=[])
    return conf
