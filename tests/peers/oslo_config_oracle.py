#!/usr/bin/env python3
"""Write down what the real oslo.config and oslo.messaging make of the fixtures.

Run it in any environment that has both packages, from the root of the repository:

    python3 tests/peers/oslo_config_oracle.py

For each tests/fixtures/config/corpus/*.conf it writes a .json beside it, and it fills in what is
expected of each URL in tests/fixtures/config/transport_urls.json, and which files are found of those in
tests/fixtures/config/search.json. The unit tests of src/config compare their own reading with these files.
"""

import json
import os
import pathlib
import tempfile
from unittest import mock

import kombu
from oslo_config import cfg
from oslo_config import iniparser
from oslo_config import types
import oslo_messaging
from oslo_messaging._drivers import impl_rabbit

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures" / "config"


def converted(convert, text):
    """The value, or None where the type refuses the text."""
    try:
        return convert(text)
    except (ValueError, TypeError):
        return None


def read_conf(path):
    """What one file says, or on which line it is wrong."""
    sections, normalized = {}, {}
    parser = cfg.ConfigParser(str(path), sections)
    parser._add_normalized(normalized)
    try:
        parser.parse()
    except UnicodeDecodeError:
        return {"error": {"line": None}}
    except iniparser.ParseError as error:
        # This one is noticed a line or more late.
        late = error.msg.startswith("Section must be started")
        return {"error": {"line": None if late else error.lineno}}

    conf = cfg.ConfigOpts()
    conf(["--config-file", str(path)], default_config_files=[],
         default_config_dirs=[], use_env=False)
    for group, options in normalized.items():
        for option in options:
            conf.register_opt(cfg.StrOpt(option, dest=option),
                              group=None if group == "DEFAULT" else group)

    values = {}
    for group, options in normalized.items():
        for option, written in options.items():
            where = conf if group == "DEFAULT" else conf[group]
            try:
                text = where[option]
            except cfg.Error:
                text = None
            value = {"written": written, "text": text}
            if text is not None:
                value["bool"] = converted(types.Boolean(), text)
                value["int"] = converted(types.Integer(), text)
                value["list"] = converted(types.List(), text)
            values.setdefault(group, {})[option] = value
    return {"values": values}


def read_url(conf, text):
    """The parts of one URL, or None where it is refused."""
    try:
        url = oslo_messaging.TransportURL.parse(conf, text)
        reached = reach(url)
    except (oslo_messaging.InvalidTransportURL, ValueError, KeyError):
        return None
    return {
        "virtual_host": url.virtual_host,
        "hosts": [{"host": host.hostname or None, "port": host.port,
                   "username": host.username, "password": host.password}
                  for host in url.hosts],
        "query": url.query,
        "reached": reached,
    }


def reach(url):
    """Where kombu connects to, or None where the driver makes of a sound URL one that kombu refuses.

    It does so of a password with a slash. KeyError: neither has such a transport.
    """
    if url.transport.split("+")[0] not in ("rabbit", "kombu"):
        raise KeyError(url.transport)
    hosts = url.hosts or [oslo_messaging.TransportHost("")]
    guest = {} if url.hosts else {
        "default_username": "guest", "default_password": "guest",
        "default_hostname": "localhost"}
    reached = []
    for host in hosts:
        address = impl_rabbit.Connection._transform_transport_url(
            None, url, host, **guest)
        try:
            connection = kombu.Connection(address)
        except ValueError:
            return None
        defaults = connection.transport.default_connection_params
        reached.append({
            "host": connection.hostname or defaults["hostname"],
            "port": connection.port,
            "username": connection.userid or defaults["userid"],
            "password": connection.password or defaults["password"],
            "virtual_host": connection.virtual_host,
        })
    return reached


def search(present):
    """Which of these files and folders cinder-volume reads by itself, and in what order."""
    with tempfile.TemporaryDirectory() as root:
        for path in present:
            path = pathlib.Path(root, path)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        with mock.patch.dict(os.environ, {"HOME": "/home/cinder"}):
            folders = [root + folder for folder in cfg._get_config_dirs("cinder")]
        with mock.patch.object(cfg, "_get_config_dirs", lambda project: folders):
            found = [find("cinder", "cinder-volume")
                     for find in (cfg.find_config_files, cfg.find_config_dirs)]
    files, folders = ([os.path.relpath(path, root) for path in paths] for paths in found)
    return {"present": present, "files": files, "folders": folders}


def write(path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def main():
    for path in sorted((FIXTURES / "corpus").glob("*.conf")):
        write(path.with_suffix(".json"), read_conf(path))

    path = FIXTURES / "search.json"
    write(path, [search(case["present"]) for case in json.loads(path.read_text())])

    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    path = FIXTURES / "transport_urls.json"
    write(path, [{"url": entry["url"], "expected": read_url(conf, entry["url"])}
                 for entry in json.loads(path.read_text())])


if __name__ == "__main__":
    main()
