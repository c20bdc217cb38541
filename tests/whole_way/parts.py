"""The parts of the whole way: cinder-api, the daemon, cinder-volume, dd.

Environment, set by scripts/test-python and scripts/demo:
  CINDER_PROGRESS                          the daemon's program
  CINDER_PROGRESS_TEST_TRANSPORT_URL       the broker
  CINDER_PROGRESS_TEST_PYTHON_CINDER_29    today's cinder
  CINDER_PROGRESS_TEST_PYTHON_CINDER_10    Ocata's, where there is one
"""

import json
import os
import pathlib
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PROJECT = uuid.uuid4().hex
GIB = 1 << 30

# Generous: a machine that is loaded is slow.
PATIENCE = 180

# What the packages of each release have, as far as it is needed here. /roles
# takes the headers that keystonemiddleware would set, /v3 asks nobody.
PASTE = """
[composite:osapi_volume]
use = egg:Paste#urlmap
/ = versions
/v3 = noauth
/roles/v3 = roles
[pipeline:versions]
pipeline = faultwrap versionsapp
[app:versionsapp]
paste.app_factory = cinder.api.versions:Versions.factory
[pipeline:noauth]
pipeline = faultwrap noauthcontext apiv3
[pipeline:roles]
pipeline = faultwrap keystonecontext apiv3
[filter:faultwrap]
paste.filter_factory = cinder.api.middleware.fault:FaultWrapper.factory
[filter:noauthcontext]
paste.filter_factory = cinder.api.middleware.auth:NoAuthMiddleware.factory
[filter:keystonecontext]
paste.filter_factory = cinder.api.middleware.auth:CinderKeystoneContext.factory
[app:apiv3]
paste.app_factory = cinder.api.v3.router:APIRouter.factory
"""


def until(what, condition):
    """The first true value of the condition."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError('not within %s s: %s' % (PATIENCE, what))


def free_port():
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return listener.getsockname()[1]


def broker():
    return os.environ['CINDER_PROGRESS_TEST_TRANSPORT_URL']


def declare_exchange():
    """What the other services of a cloud have declared before."""
    url = broker().replace('rabbit://', 'amqp://', 1)
    subprocess.run(
        [latest(), '-W', 'ignore', '-c', '''
import sys
import kombu
with kombu.Connection(sys.argv[1]) as connection:
    exchange = kombu.Exchange('openstack', type='topic', durable=False)
    exchange(connection.channel()).declare()
''', url], check=True, timeout=PATIENCE)


class Process(object):
    """A child, whose output goes to a file."""

    def __init__(self, log, *command, **options):
        self.log = log
        self._output = open(log, 'ab')
        self.child = subprocess.Popen(
            [str(word) for word in command], stderr=self._output,
            **dict({'stdout': self._output}, **options))

    def said(self):
        return self.log.read_text(errors='replace')

    def stop(self):
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(30)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        self._output.close()


class CinderApi(object):
    """An unmodified cinder-api of a release, with a database of its own."""

    def __init__(self, folder, python, ask):
        self.folder = folder
        self.python = python
        self.port = free_port()
        self.environment = dict(
            os.environ, PYTHONDONTWRITEBYTECODE='1',
            PYTHONPATH=str(REPOSITORY / 'contrib' / 'cinder-api'))
        # Where the release's own python looks for programs.
        self._programs = pathlib.Path(python).parent
        self.conf = folder / 'cinder.conf'
        (folder / 'api-paste.ini').write_text(PASTE)
        (folder / 'policy.json').write_text(self._policy())
        self.conf.write_text('\n'.join([
            '[DEFAULT]',
            'auth_strategy = noauth',
            'api_paste_config = %s/api-paste.ini' % folder,
            'transport_url = %s' % broker(),
            'osapi_volume_listen = 127.0.0.1',
            'osapi_volume_listen_port = %d' % self.port,
            'osapi_volume_workers = 1',
            'osapi_volume_extension = cinder.api.contrib.standard_extensions',
            'osapi_volume_extension = '
            'cinder_progress_api.MigrateVolumeProgress',
            'osapi_volume_extension = '
            'cinder_progress_api.MigrationProgressInDetails',
            'state_path = %s' % folder,
            '[oslo_concurrency]',
            'lock_path = %s' % folder,
            '[oslo_policy]',
            'policy_file = %s/policy.json' % folder,
            '[database]',
            'connection = sqlite:///%s/cinder.sqlite' % folder,
            '[cinder_progress]',
            'ask = %s' % ask,
            '']))
        manage = Process(folder / 'manage.log', *self._tables(),
                         env=self.environment)
        status = manage.child.wait(PATIENCE)
        assert status == 0, manage.said()
        self._process = Process(folder / 'api.log',
                                *self._command('cinder-api'),
                                env=self.environment)
        until('cinder-api answers', self._answers)

    def _tables(self):
        if self._is_ocata():
            # Its migrations do not work with an sqlite of today.
            return [self.python, '-W', 'ignore', REPOSITORY / 'tests' /
                    'whole_way' / 'ocata_tables.py', self.conf]
        return self._command('cinder-manage', 'db', 'sync')

    def _is_ocata(self):
        return self.python == os.environ.get(
            'CINDER_PROGRESS_TEST_PYTHON_CINDER_10')

    def _command(self, program, *arguments):
        return [self.python, '-W', 'ignore', self._programs / program,
                '--config-file', self.conf] + list(arguments)

    def _policy(self):
        """The rules of the release's packages; Ocata's are a file."""
        if not self._is_ocata():
            return '{}'
        return subprocess.run(
            [self.python, '-c', 'import cinder.tests.unit as unit; '
             'print(open(unit.__path__[0] + "/policy.json").read())'],
            stdout=subprocess.PIPE, check=True, text=True).stdout

    def _answers(self):
        assert self._process.child.poll() is None, self._process.said()
        try:
            return self.request('extensions')[0] == 200
        except OSError:
            return False

    def request(self, path, body=None, roles=None, project=PROJECT):
        """The status and the answer's JSON; with roles, as those."""
        prefix, headers = '/v3', {'X-Auth-Token': 'admin:' + project}
        if roles is not None:
            prefix = '/roles/v3'
            headers = {'X-User-Id': 'somebody', 'X-Project-Id': project,
                       'X-Roles': roles}
        request = urllib.request.Request(
            'http://127.0.0.1:%d%s/%s/%s' % (self.port, prefix, project,
                                             path),
            headers=dict(headers, **{'Content-Type': 'application/json'}),
            data=None if body is None else json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b'null')

    def progress(self, volume_id, **request):
        """The answer of the action."""
        status, answer = self.request(
            'volumes/%s/action' % volume_id,
            {'os-migrate_volume_progress': {}}, **request)
        return answer['volume'] if status == 200 else status

    def insert(self, table, **values):
        database = sqlite3.connect(self.folder / 'cinder.sqlite', timeout=60)
        with database:
            columns = [row[1] for row in
                       database.execute('PRAGMA table_info(%s)' % table)]
            types = database.execute('SELECT id FROM volume_types').fetchall()
            now = time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())
            values = dict({
                'deleted': 0, 'created_at': now, 'updated_at': now,
                'volume_type_id': types[0][0] if types else None,
                'use_quota': 1}, **values)
            values = {name: value for name, value in values.items()
                      if name in columns}
            database.execute('INSERT INTO %s (%s) VALUES (%s)' % (
                table, ', '.join(values), ', '.join('?' * len(values))),
                list(values.values()))
        database.close()

    def service(self, host, **values):
        """A row of a cinder-volume of Pike that is up."""
        self.insert('services', **dict({
            'host': host, 'binary': 'cinder-volume', 'topic': 'cinder-volume',
            'report_count': 1, 'disabled': 0, 'frozen': 0,
            'uuid': str(uuid.uuid4()),
            'rpc_current_version': '3.11',
            'object_current_version': '1.20' if self._is_ocata() else '1.38',
        }, **values))

    def volume(self, host, **values):
        """A row of a volume that migrates; its id."""
        volume_id = str(uuid.uuid4())
        self.insert('volumes', **dict({
            'id': volume_id, 'project_id': PROJECT, 'user_id': 'admin',
            'size': 1, 'host': host, 'status': 'available', 'bootable': 0,
            'attach_status': 'detached', 'migration_status': 'migrating',
            'display_name': 'volume of ' + host}, **values))
        return volume_id

    def stop(self):
        self._process.stop()


class Daemon(object):
    """cinder-progress serve."""

    def __init__(self, folder, host, mode, *settings):
        self.log = folder / ('daemon-%s.log' % host)
        conf = folder / ('daemon-%s.conf' % host)
        conf.write_text('\n'.join((
            '[DEFAULT]', 'transport_url = %s' % broker(), 'host = %s' % host,
            'enabled_backends = lvm', '[progress]', 'mode = %s' % mode,
            'state_file =') + settings + ('',)))
        self._process = Process(
            self.log, os.environ['CINDER_PROGRESS'], 'serve',
            '--config-file', conf, env=dict(os.environ, NO_COLOR='1'))
        lines = ['serving the own topic']
        if mode == 'sidecar':
            lines.append('serving beside cinder-volume')
        until('the daemon serves', lambda: self._says(lines))

    def _says(self, lines):
        assert self._process.child.poll() is None, self._process.said()
        return all(line in self._process.said() for line in lines)

    def stop(self):
        self._process.stop()


class CinderVolume(object):
    """The stand-in of tests/peers, on the queues of cinder-volume."""

    def __init__(self, folder, host):
        peers = REPOSITORY / 'tests' / 'peers'
        self._process = Process(
            folder / 'cinder-volume.log', latest(), '-u', '-W', 'ignore',
            peers / 'cinder_volume.py', '--url', broker(), '--host', host,
            '--backend', 'lvm', '--backend-only', stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=dict(os.environ, PYTHONPATH=str(peers)))
        self.lines = []
        reader = threading.Thread(target=self._read)
        reader.daemon = True
        reader.start()
        until('cinder-volume consumes', lambda: self.says(ready=True))

    def _read(self):
        for line in self._process.child.stdout:
            self.lines.append(json.loads(line))

    def says(self, **wanted):
        assert self._process.child.poll() is None, self._process.said()
        return any(wanted.items() <= line.items() for line in self.lines)

    def stop(self):
        self._process.stop()


class Copy(object):
    """A real dd as cinder runs it, with as much to read as it is fed."""

    def __init__(self, folder, volume_id):
        self.source = folder / ('volume-' + volume_id)
        self.destination = folder / ('volume-' + str(uuid.uuid4()))
        os.mkfifo(self.source)
        self.destination.touch()
        self.fed = 0
        self._dd = Process(folder / 'dd.log', 'dd', 'if=%s' % self.source,
                           'of=%s' % self.destination, 'bs=64K',
                           'conv=notrunc,sparse')
        self._pipe = open(self.source, 'wb', buffering=0)

    def feed(self, upto):
        """Lets it copy up to that byte, and waits until it has."""
        zeros = bytes(1 << 16)
        while self.fed < upto:
            self.fed += self._pipe.write(zeros[:upto - self.fed])
        # A pipe gives what it has: dd writes blocks of any length.
        until('dd has written', lambda: self.position() == upto)

    def position(self):
        """fdinfo's."""
        path = '/proc/%d/fdinfo/1' % self._dd.child.pid
        with open(path) as lines:
            return int(next(lines).split()[1])

    def stop(self):
        self._pipe.close()
        self._dd.stop()


def latest():
    return os.environ['CINDER_PROGRESS_TEST_PYTHON_CINDER_29']


def folder():
    return pathlib.Path(tempfile.mkdtemp(prefix='whole-way-'))
