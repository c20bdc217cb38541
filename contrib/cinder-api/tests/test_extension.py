"""The extension in a real cinder-api, with servers that play the daemon."""

import datetime
import logging
import threading
import unittest
import uuid

from oslo_config import cfg
import oslo_messaging as messaging

from cinder import context
from cinder import exception
from cinder import objects
from cinder import rpc

from cinder_progress_api import options
from cinder_progress_api import policy
from cinder_progress_api import rpcapi
from tests import real_cinder

ACTION = 'os-migrate_volume_progress'
DETAILS = {
    'percent': '42', 'bytes': 450971566, 'total_bytes': 1073741824,
    'bytes_per_second': 104857600, 'seconds_left': 6, 'state': 'copying',
    'since': '2026-11-29T10:00:00Z', 'kind': 'host', 'source': '/dev/sda',
    'destination': '/dev/sdb'}

# What the servers make of their own failures.
logging.getLogger('oslo_messaging').setLevel(logging.CRITICAL + 1)
CINDER = real_cinder.Cinder()


class Daemon(object):
    """A server of oslo.messaging with the methods that it is given."""

    def __init__(self, topic, server, **methods):
        self.asked = []
        self.answers = methods
        endpoint = type('Endpoint', (object,), {
            name: self._method(name) for name in methods})()
        endpoint.target = messaging.Target(version='3.11')
        self._server = messaging.get_rpc_server(
            rpc.TRANSPORT, messaging.Target(topic=topic, server=server),
            [endpoint], executor='threading')
        self._server.start()

    def _method(self, name):
        def method(endpoint, ctxt, volume):
            self.asked.append((name, volume))
            answer = self.answers[name]
            if callable(answer):
                return answer()
            if isinstance(answer, Exception):
                raise answer
            return answer
        return method

    def stop(self):
        # Its threads end a moment later, which nobody need wait for.
        self._server.stop()


class Log(logging.Handler):
    """Keeps the lines that the extension writes."""

    def __init__(self):
        super(Log, self).__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


class TestCase(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.api = CINDER.application()

    def setUp(self):
        # Each test has a node of its own, so that none hears another's.
        self.host = 'n%s' % uuid.uuid4().hex
        self.log = Log()
        logger = logging.getLogger('cinder_progress_api')
        logger.propagate = False
        logger.addHandler(self.log)
        self.addCleanup(logger.removeHandler, self.log)

    def volume(self, **values):
        return CINDER.volume(**dict({'host': self.host + '@lvm#pool'},
                                    **values))

    def daemon(self, host=None, topic='cinder-progress', **methods):
        host = host or self.host
        daemon = Daemon('%s.%s@lvm' % (topic, host), host, **methods)
        self.addCleanup(daemon.stop)
        return daemon

    def assert_progress(self, expected, volume_id, api=None, **keys):
        status, answer = (api or self.api).progress(volume_id)
        self.assertEqual(200, status, answer)
        row = objects.Volume.get_by_id(context.get_admin_context(), volume_id)
        self.assertEqual({'volume': dict(
            keys, volume_id=volume_id, migration_status=row.migration_status,
            migration_progress=expected)}, answer)


class ActionTest(TestCase):

    def test_it_is_listed_among_the_extensions(self):
        status, answer = self.api.request('extensions')
        self.assertEqual(200, status)
        aliases = [extension['alias'] for extension in answer['extensions']]
        self.assertIn('os-migrate-volume-progress', aliases)
        self.assertIn('os-migration-progress-in-details', aliases)

    def test_without_the_option_the_action_is_unknown(self):
        stock = CINDER.application(
            ['cinder.api.contrib.standard_extensions'])
        status, _ = stock.progress(self.volume())
        self.assertEqual(400, status)

    def test_only_a_migrating_volume_is_asked_for(self):
        daemon = self.daemon(get_migrate_volume_progress='42')
        for migration_status, expected in (
                (None, 'NA'), ('none', 'NA'), ('error', 'NA'),
                ('deleting', 'NA'), ('target:%s' % uuid.uuid4(), 'NA'),
                ('starting', '0%'), ('completing', '100%'),
                ('success', '100%')):
            self.assert_progress(
                expected, self.volume(migration_status=migration_status))
        self.assertEqual([], daemon.asked)

    def test_a_migrating_volume_is_told_in_percent(self):
        self.daemon(get_migrate_volume_progress='42')
        self.assert_progress('42%', self.volume())

    def test_the_ends_of_the_scale(self):
        daemon = self.daemon(get_migrate_volume_progress='0')
        self.assert_progress('0%', self.volume())
        daemon.answers['get_migrate_volume_progress'] = '100'
        self.assert_progress('100%', self.volume())

    def test_details_are_added_where_the_daemon_tells_them(self):
        self.daemon(get_migrate_volume_progress='41',
                    get_migrate_volume_progress_details=DETAILS)
        expected = {key: value for key, value in DETAILS.items()
                    if key != 'percent'}
        self.assert_progress('42%', self.volume(), **expected)

    def test_details_cannot_replace_the_three_keys(self):
        self.daemon(get_migrate_volume_progress_details=dict(
            percent='7', volume_id='x', migration_status='y', other='z'))
        self.assert_progress('7%', self.volume())

    def test_details_without_a_percentage(self):
        self.daemon(get_migrate_volume_progress_details=dict(
            percent='NA', state='unknown'))
        self.assert_progress('NA', self.volume(), state='unknown')

    def test_the_daemon_is_told_no_secret(self):
        daemon = self.daemon(get_migrate_volume_progress='42')
        volume_id = self.volume(provider_auth='CHAP user secret',
                                provider_location='10.0.0.1:3260,1 iqn.a:b 7')
        self.assert_progress('42%', volume_id)
        (_, volume), = daemon.asked
        self.assertEqual({
            'id': volume_id, '_name_id': None, 'size': 1,
            'host': self.host + '@lvm#pool', 'cluster_name': None,
            'status': 'available', 'attach_status': 'detached',
            'migration_status': 'migrating',
            'provider_location': '10.0.0.1:3260,1 iqn.a:b 7',
            'provider_id': None, 'updated_at': None,
        }, volume)

    def test_the_daemon_is_told_when_the_migration_began(self):
        daemon = self.daemon(get_migrate_volume_progress='42')
        volume_id = self.volume()
        CINDER.touch(volume_id, datetime.datetime(2026, 1, 2, 3, 4, 5))
        self.assert_progress('42%', volume_id)
        (_, volume), = daemon.asked
        self.assertEqual('2026-01-02T03:04:05Z', volume['updated_at'])

    def test_the_daemon_is_told_of_the_cluster(self):
        daemon = self.daemon(get_migrate_volume_progress='NA')
        cluster = 'c%s@lvm' % uuid.uuid4().hex
        CINDER.service(host=self.host + '@lvm', cluster_name=cluster)
        self.assert_progress('NA', self.volume(cluster_name=cluster + '#pool'))
        (_, volume), = daemon.asked
        self.assertEqual(cluster + '#pool', volume['cluster_name'])

    def test_any_microversion_will_do(self):
        self.daemon(get_migrate_volume_progress='42')
        volume_id = self.volume()
        for version in (None, '3.0', '3.27'):
            status, answer = self.api.progress(volume_id, version=version)
            self.assertEqual(200, status)
            self.assertEqual('42%', answer['volume']['migration_progress'])

    def test_two_volumes_at_once(self):
        both = threading.Event()
        first = threading.Event()

        def wait():
            if first.is_set():
                both.set()
            first.set()
            return '42' if both.wait(60) else 'alone'

        api = CINDER.application(timeout=60)
        self.daemon(get_migrate_volume_progress_details=None,
                    get_migrate_volume_progress=wait)
        self.daemon(host=self.host + 'b',
                    get_migrate_volume_progress_details=lambda: {
                        'percent': wait()})
        volumes = [CINDER.volume(host=self.host + 'b@lvm#pool')
                   for _ in range(2)]
        answers = []
        threads = [threading.Thread(
            target=lambda v=volume: answers.append(api.progress(v)))
            for volume in volumes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(['42%', '42%'], [
            answer['volume']['migration_progress'] for _, answer in answers])


class NobodyAnswersTest(TestCase):

    @classmethod
    def setUpClass(cls):
        cls.api = CINDER.application(timeout=1)

    def test_no_daemon(self):
        self.assert_progress('NA', self.volume())
        self.assertEqual(1, len(self.log.lines), self.log.lines)
        self.assertIn(self.host + '@lvm', self.log.lines[0])

    def test_a_daemon_that_hangs(self):
        release = threading.Event()
        self.daemon(get_migrate_volume_progress_details=release.wait)
        # The last to be added is the first to run.
        self.addCleanup(release.set)
        self.assert_progress('NA', self.volume())
        self.assertEqual(1, len(self.log.lines), self.log.lines)

    def test_a_broker_out_of_reach(self):
        release = threading.Event()
        self.addCleanup(release.set)
        transport = rpc.TRANSPORT
        original = type(transport)._send

        def hang(*args, **kwargs):
            release.wait()

        type(transport)._send = hang
        try:
            self.assert_progress('NA', self.volume())
            self.assertEqual(1, len(self.log.lines), self.log.lines)
            # However many are asked meanwhile, few wait for the broker.
            waiting = threading.active_count()
            places = rpcapi.MAX_QUESTIONS
            api = rpcapi.ProgressAPI('direct', 0.001)
            row = objects.Volume.get_by_id(
                context.get_admin_context(), self.volume())
            for _ in range(places + 10):
                self.assertIsNone(api.ask(
                    context.get_admin_context(), row).percent)
            self.assertEqual(waiting + places, threading.active_count())
            self.assertIn('earlier questions', self.log.lines[-1])
        finally:
            type(transport)._send = original

    def test_a_failure_is_one_line_of_the_log(self):
        self.daemon(get_migrate_volume_progress_details=(
            exception.InvalidVolume(reason='no size')))
        self.assert_progress('NA', self.volume())
        self.assertEqual(1, len(self.log.lines), self.log.lines)
        self.assertNotIn('\n', self.log.lines[0])

    def test_a_server_without_either_method(self):
        self.daemon(something='else')
        self.assert_progress('NA', self.volume())
        self.assertIn('NoSuchMethod', self.log.lines[0])

    def test_answers_that_are_no_number(self):
        volume_id = self.volume()
        daemon = self.daemon(get_migrate_volume_progress=None)
        for answer in (None, 'NA', '', '42%', '-1', '101', 'abc', 4.2, [42],
                       {'percent': '42'}, True, u'\u0664\u0662', '4\n2'):
            daemon.answers['get_migrate_volume_progress'] = answer
            self.assert_progress('NA', volume_id)

    def test_details_that_are_none(self):
        volume_id = self.volume()
        daemon = self.daemon(get_migrate_volume_progress_details=None)
        for answer in (None, 'NA', '42', [], {}, {'percent': None}):
            daemon.answers['get_migrate_volume_progress_details'] = answer
            self.assert_progress('NA', volume_id)

    def test_a_volume_without_host(self):
        self.assert_progress('NA', self.volume(host=None))


class BadInputTest(TestCase):

    def test_an_unknown_volume(self):
        for volume_id in (str(uuid.uuid4()), 'none', '0'):
            status, answer = self.api.progress(volume_id)
            self.assertEqual(404, status, answer)

    def test_a_volume_of_another_project(self):
        volume_id = self.volume(migration_status=None)
        status, _ = self.api.progress(volume_id, roles='member,reader',
                                      project=uuid.uuid4().hex)
        self.assertEqual(404, status)

    def test_a_second_key_beside_the_action(self):
        status, _ = self.api.progress(
            self.volume(), {ACTION: {}, 'other': {}})
        self.assertEqual(400, status)

    def test_what_stands_within_the_action_is_ignored(self):
        # As with cinder's own actions that take nothing.
        volume_id = self.volume(migration_status='success')
        for inside in (None, {'other': 1}, 'text', []):
            status, answer = self.api.progress(volume_id, {ACTION: inside})
            self.assertEqual(200, status, answer)


class PolicyTest(TestCase):

    def setUp(self):
        super(PolicyTest, self).setUp()
        self.addCleanup(CINDER.rules)

    def assert_status(self, expected, volume_id, roles):
        status, answer = self.api.progress(volume_id, roles=roles)
        self.assertEqual(expected, status, answer)

    def test_an_owner_may_not_ask(self):
        volume_id = self.volume(migration_status='success')
        self.assert_status(403, volume_id, 'member,reader')

    def test_who_may_migrate_may_ask(self):
        CINDER.rules(**{policy.DEFAULT: 'role:mover'})
        volume_id = self.volume(migration_status='success')
        self.assert_status(200, volume_id, 'mover,reader')
        self.assert_status(403, volume_id, 'member,reader')

    @unittest.skipUnless(hasattr(context.RequestContext, 'authorize'),
                         'the rule is known from Queens on')
    def test_the_own_rule_may_be_set(self):
        CINDER.rules(**{policy.RULE: 'role:watcher'})
        volume_id = self.volume(migration_status='success')
        self.assert_status(200, volume_id, 'watcher,reader')
        self.assert_status(403, volume_id, 'admin')


class CinderVolumeTest(TestCase):
    """ask = cinder-volume: a daemon in front of cinder-volume answers."""

    def test_the_topic_of_the_volumes_host_is_asked(self):
        api = CINDER.application(ask='cinder-volume')
        daemon = self.daemon(topic='cinder-volume',
                             get_migrate_volume_progress='42')
        volume_id = self.volume()
        self.assert_progress('42%', volume_id, api)
        (_, volume), = daemon.asked
        self.assertEqual(volume_id,
                         volume['versioned_object.data']['id'])


class ClusterTest(TestCase):

    def setUp(self):
        super(ClusterTest, self).setUp()
        self.cluster = 'c%s@lvm' % uuid.uuid4().hex

    def node(self, number, **values):
        host = '%s-%s' % (self.host, number)
        CINDER.service(host=host + '@lvm', cluster_name=self.cluster,
                       **values)
        return host

    def clustered(self):
        return self.volume(cluster_name=self.cluster + '#pool')

    def test_the_member_that_is_furthest_is_believed(self):
        for number, answer in enumerate(['0', '42', 'NA', None]):
            host = self.node(number)
            self.daemon(host=host, get_migrate_volume_progress=answer)
        self.assert_progress('42%', self.clustered())

    def test_all_members_are_asked_at_once(self):
        api = CINDER.application(timeout=60)
        second = threading.Event()
        slow = self.node(0)
        fast = self.node(1)
        self.daemon(host=slow, get_migrate_volume_progress_details=lambda: {
            'percent': '42' if second.wait(60) else 'alone'})
        self.daemon(host=fast, get_migrate_volume_progress_details=lambda: (
            second.set() or {'percent': '0'}))
        self.assert_progress('42%', self.clustered(), api)

    def test_a_member_that_is_down_is_not_asked(self):
        host = self.node(0)
        # Longer ago than service_down_time.
        down = self.node(1, at=datetime.datetime(2020, 1, 1))
        self.daemon(host=host, get_migrate_volume_progress='42')
        silent = self.daemon(host=down, get_migrate_volume_progress='43')
        self.assert_progress('42%', self.clustered())
        self.assertEqual([], silent.asked)

    def test_no_member_is_up(self):
        self.assert_progress('NA', self.clustered())

    def test_no_member_answers(self):
        api = CINDER.application(timeout=1)
        self.node(0)
        self.node(1)
        self.assert_progress('NA', self.clustered(), api)
        self.assertEqual(1, len(self.log.lines), self.log.lines)


class DetailsTest(TestCase):

    def shown(self, volume_id, api=None, **request):
        status, answer = (api or self.api).details(volume_id, **request)
        self.assertEqual(200, status, answer)
        return answer['volume']

    def test_a_migrating_volume_has_the_field(self):
        self.daemon(get_migrate_volume_progress='42')
        self.assertEqual('42',
                         self.shown(self.volume())['migration_progress'])

    def test_only_while_it_migrates(self):
        daemon = self.daemon(get_migrate_volume_progress='42')
        for status in (None, 'starting', 'completing', 'success', 'error'):
            self.assertNotIn(
                'migration_progress',
                self.shown(self.volume(migration_status=status)))
        self.assertEqual([], daemon.asked)

    def test_only_administrators_see_it(self):
        daemon = self.daemon(get_migrate_volume_progress='42')
        shown = self.shown(self.volume(), roles='member,reader')
        self.assertNotIn('migration_progress', shown)
        self.assertEqual([], daemon.asked)

    def test_without_an_answer_the_rest_is_shown(self):
        api = CINDER.application(timeout=1)
        self.assertNotIn('migration_progress',
                         self.shown(self.volume(), api))

    def test_an_answer_that_is_no_number_is_left_out(self):
        self.daemon(get_migrate_volume_progress='NA')
        self.assertNotIn('migration_progress', self.shown(self.volume()))


class OptionsTest(TestCase):

    def test_a_wrong_option_leaves_the_extension_out(self):
        conf = cfg.ConfigOpts()
        path = real_cinder.write(
            CINDER.folder + '/wrong.conf',
            u'[cinder_progress]\nask = somebody\n')
        conf(['--config-file', path], default_config_files=[])
        self.assertRaises(cfg.ConfigFileValueError, options.read, conf)

    def test_the_defaults(self):
        conf = cfg.ConfigOpts()
        conf([], default_config_files=[])
        self.assertEqual(('direct', 2), options.read(conf))


if __name__ == '__main__':
    unittest.main()
