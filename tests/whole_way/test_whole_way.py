"""From HTTP to the running dd: cinder-api, RabbitMQ, the daemon."""

import json
import os
import shutil
import subprocess
import unittest
import uuid

from tests.whole_way import parts

GIB = parts.GIB
OCATA = os.environ.get('CINDER_PROGRESS_TEST_PYTHON_CINDER_10')
TWO_FIFTHS = GIB * 2 // 5


class Case(unittest.TestCase):
    """One cinder-api for all tests of a class; a node for each of them."""

    python = ask = mode = None

    @classmethod
    def setUpClass(cls):
        cls.folder = parts.folder()
        cls.addClassCleanup(shutil.rmtree, cls.folder, True)
        parts.declare_exchange()
        cls.api = parts.CinderApi(cls.folder, cls.python, cls.ask)
        cls.addClassCleanup(cls.api.stop)

    def setUp(self):
        self.host = 'n' + uuid.uuid4().hex
        self.node = parts.folder()
        self.addCleanup(shutil.rmtree, self.node, True)

    def kept(self, part):
        self.addCleanup(part.stop)
        return part

    def daemon(self, host=None, *settings):
        host = host or self.host
        if self.mode == 'sidecar':
            self.cinder_volume = self.kept(
                parts.CinderVolume(self.node, host))
        return self.kept(parts.Daemon(self.node, host, self.mode, *settings))

    def copy(self, upto=TWO_FIFTHS, **values):
        """A volume, and the dd that copies it, stopped at that byte."""
        volume_id = self.api.volume(self.host + '@lvm#pool', **values)
        copy = self.kept(parts.Copy(self.node, volume_id))
        copy.feed(upto)
        return volume_id, copy


class WholeWay(object):
    """What holds in every release and mode."""

    def test_the_answer_is_what_fdinfo_says(self):
        self.daemon()
        volume_id, copy = self.copy()
        for percent in (40, 41, 77):
            copy.feed(GIB * percent // 100 + 4096)
            answer = self.api.progress(volume_id)
            self.assertEqual('%d%%' % (copy.position() * 100 // GIB),
                             answer['migration_progress'])
            self.assertEqual(volume_id, answer['volume_id'])
            self.assertEqual('migrating', answer['migration_status'])
            self.assertEqual(copy.position(), answer['bytes'])
            self.assertEqual('dd', answer['kind'])
            self.assertEqual(str(copy.source), answer['source'])
            self.assertEqual(str(copy.destination), answer['destination'])
            self.assertTrue(answer['since'].endswith('Z'), answer)

    def test_the_volumes_details_show_it(self):
        self.daemon()
        volume_id, _ = self.copy(TWO_FIFTHS + 4096)
        status, answer = self.api.request('volumes/' + volume_id)
        self.assertEqual(200, status)
        self.assertEqual('40', answer['volume']['migration_progress'])

    def test_a_copy_that_stands_still_is_told(self):
        self.daemon()
        volume_id, _ = self.copy()
        state = parts.until('the copy is stalled', lambda: (
            self.api.progress(volume_id)['state'] == 'stalled'))
        self.assertTrue(state)

    def test_two_volumes_at_once(self):
        self.daemon()
        first, _ = self.copy(GIB // 4 + 4096)
        second, _ = self.copy(GIB // 2 + 4096)
        self.assertEqual(
            ['25%', '50%'],
            [self.api.progress(volume_id)['migration_progress']
             for volume_id in (first, second)])

    def test_who_may_not_ask_and_what_is_not_there(self):
        volume_id = self.api.volume(self.host + '@lvm#pool')
        self.assertEqual(404, self.api.progress(str(uuid.uuid4())))
        self.assertEqual(404, self.api.progress('none'))
        self.assertEqual(
            403, self.api.progress(volume_id, roles='member,reader'))
        self.assertEqual(
            404, self.api.progress(volume_id, roles='member,reader',
                                   project=uuid.uuid4().hex))

    def test_a_daemon_that_is_stopped(self):
        daemon = self.daemon()
        volume_id, _ = self.copy()
        daemon.stop()
        answer = self.api.progress(volume_id)
        self.assertEqual('NA', answer['migration_progress'])
        status, answer = self.api.request('volumes/' + volume_id)
        self.assertEqual(200, status)
        self.assertNotIn('migration_progress', answer['volume'])

    def test_a_cluster_of_two_nodes(self):
        cluster = 'c%s@lvm' % uuid.uuid4().hex
        other = self.host + 'b'
        for host in (self.host, other):
            self.api.service(host + '@lvm', cluster_name=cluster)
        self.daemon()
        # That node sees no process.
        empty = self.node / 'proc'
        empty.mkdir()
        self.daemon(other, 'proc_root = %s' % empty)
        volume_id, _ = self.copy(TWO_FIFTHS + 4096,
                                 cluster_name=cluster + '#pool')
        self.assertEqual(
            '40%', self.api.progress(volume_id)['migration_progress'])


class Sidecar(WholeWay):
    """Besides, in front of cinder-volume."""

    ask = 'cinder-volume'
    mode = 'sidecar'

    def test_as_the_vendor_asks(self):
        self.daemon()
        # It does not ask unless all of them know of 3.11, as from Pike on.
        self.api.service(self.host + '@lvm')
        volume_id, _ = self.copy(TWO_FIFTHS + 4096)
        asked = subprocess.run(
            [self.python, '-W', 'ignore',
             str(parts.REPOSITORY / 'tests' / 'whole_way' / 'vendor.py'),
             str(self.api.conf), volume_id],
            stdout=subprocess.PIPE, env=self.api.environment, text=True,
            check=True, timeout=parts.PATIENCE)
        self.assertEqual('40', asked.stdout.strip())


@unittest.skipIf(os.environ.get('CINDER_PROGRESS_TEST_QUICK'), 'not quick')
class TodaySidecarTest(Sidecar, Case):
    python = parts.latest()


class TodayDirectTest(WholeWay, Case):
    python = parts.latest()
    ask = mode = 'direct'

    def openstack(self, *words):
        asked = subprocess.run(
            [self.python, '-W', 'ignore', '-c',
             'from openstackclient import shell; import sys; '
             'sys.exit(shell.main(sys.argv[1:]))',
             '--os-auth-type', 'none', '--os-endpoint',
             'http://127.0.0.1:%d/' % self.api.port] + list(words),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            timeout=parts.PATIENCE, env=dict(
                os.environ,
                PYTHONPATH=os.environ['CINDER_PROGRESS_TEST_PLUGIN']))
        self.assertEqual(0, asked.returncode, asked.stderr)
        return json.loads(asked.stdout)

    def test_the_clients_commands(self):
        self.daemon()
        volume_id, copy = self.copy(TWO_FIFTHS + 4096)
        shown = self.openstack('volume', 'migration', 'show', volume_id,
                               '-f', 'json')
        self.assertEqual('40%', shown['total_progress'])
        self.assertEqual(copy.position(), shown['bytes'])
        rows = self.openstack('volume', 'migration', 'list',
                              '--all-projects', '-f', 'json')
        row, = [row for row in rows if row['ID'] == volume_id]
        self.assertEqual('40%', row['Total Progress'])
        self.assertEqual(self.host + '@lvm#pool', row['Host'])


@unittest.skipUnless(OCATA, 'no Python 2.7')
class OcataDirectTest(WholeWay, Case):
    python = OCATA
    ask = mode = 'direct'


@unittest.skipUnless(OCATA, 'no Python 2.7')
class OcataSidecarTest(Sidecar, Case):
    python = OCATA


if __name__ == '__main__':
    unittest.main()
