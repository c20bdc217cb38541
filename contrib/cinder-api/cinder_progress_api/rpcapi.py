"""The question to the daemons, over RPC."""

import re
import threading

from cinder import context as cinder_context
from cinder import objects
from cinder.objects import base as objects_base
from cinder import rpc
from oslo_log import log as logging
import oslo_messaging as messaging
from oslo_utils import timeutils

LOG = logging.getLogger(__name__)

# What each daemon serves, from its first release on. A client whose version
# is capped by an old row of the table of services could not ask for more.
VERSION = '3.0'

PERCENT = 'get_migrate_volume_progress'
DETAILS = 'get_migrate_volume_progress_details'

# What DETAILS may tell besides the percentage.
DETAIL_KEYS = ('bytes', 'total_bytes', 'bytes_per_second', 'seconds_left',
               'state', 'since', 'kind', 'source', 'destination')

# How many questions may be under way at once in this process. A broker that
# does not answer holds each of them for longer than its caller waits.
MAX_QUESTIONS = 64

# What a server says of a method that it does not have.
UNKNOWN_METHOD = ('NoSuchMethod', 'UnsupportedVersion')


class Answer(object):
    """What one daemon says: percent is a number, or None for not known."""

    def __init__(self, percent=None, details=None):
        self.percent = percent
        self.details = details or {}


class ProgressAPI(object):
    """Asks where a volume's copy runs how far it is; never raises."""

    def __init__(self, ask, timeout):
        self._direct = ask == 'direct'
        self._topic = 'cinder-progress' if self._direct else 'cinder-volume'
        self._timeout = timeout
        self._client = None
        self._places = threading.BoundedSemaphore(MAX_QUESTIONS)

    def ask(self, context, volume, details=False):
        """The Answer of the volume's node, waited for no longer than timeout.

        Of the members of a cluster, any of which may copy, the one that is
        furthest: the others know of no copy.
        """
        methods = (DETAILS, PERCENT) if details else (PERCENT,)
        watch = timeutils.StopWatch(duration=self._timeout).start()
        questions = []
        try:
            for host in _hosts(volume):
                question = _Question(self, context, volume, host, methods)
                questions.append(question)
                question.start_within(self._places)
        except Exception as error:
            LOG.warning('Cannot ask how far the migration of volume %(id)s '
                        'is: %(error)s', {'id': volume['id'], 'error': error})
        for question in questions:
            question.wait(watch)
        answers = [question.answer for question in questions
                   if question.answer]
        if not answers:
            for question in questions[:1]:
                LOG.warning('Nobody says how far the migration of volume '
                            '%(id)s is: %(topic)s.%(host)s: %(error)s',
                            {'id': volume['id'], 'topic': self._topic,
                             'host': question.host,
                             'error': question.error or 'no answer within '
                             '%s s' % self._timeout})
            return Answer()
        return max(answers, key=_furthest)

    def call(self, context, volume, host, methods):
        """Asks the daemon of one host for the first method that it has."""
        client = self._connected().prepare(
            topic='%s.%s' % (self._topic, host), server=host.split('@')[0],
            version=VERSION, timeout=self._timeout)
        # The daemon needs none of a volume's secrets. Where cinder-volume
        # may be the one that answers, it gets what it gets of every call.
        argument = _facts(volume) if self._direct else volume
        for method in methods:
            try:
                said = client.call(context, method, volume=argument)
            except Exception as error:
                # The server's exception is a RemoteError here, or itself.
                kind = getattr(error, 'exc_type', type(error).__name__)
                if kind not in UNKNOWN_METHOD or method == methods[-1]:
                    raise
            else:
                return _read(method, said)

    def _connected(self):
        # Late: cinder.rpc is initialized after the extensions' module is
        # read, in some releases.
        if self._client is None:
            self._client = rpc.get_client(
                messaging.Target(topic=self._topic, version=VERSION),
                serializer=objects_base.CinderObjectSerializer())
        return self._client


class _Question(threading.Thread):
    """One call on a thread of its own.

    The call's own timeout begins when the question is with the broker; a
    broker out of reach would hold the caller for longer.
    """

    def __init__(self, api, context, volume, host, methods):
        super(_Question, self).__init__(name='cinder-progress')
        self.daemon = True
        self.host = host
        self.answer = None
        self.error = None
        self._places = None
        self._call = (context, volume, host, methods)
        self._api = api

    def start_within(self, places):
        if not places.acquire(False):
            self.error = ('%s earlier questions have not come back yet'
                          % MAX_QUESTIONS)
            return
        self._places = places
        try:
            self.start()
        except Exception:
            places.release()
            self._places = None
            raise

    def run(self):
        try:
            self.answer = self._api.call(*self._call)
        except Exception as error:
            self.error = '%s: %s' % (type(error).__name__,
                                     _first_line(error))
        finally:
            self._places.release()

    def wait(self, watch):
        if self._places is not None:
            self.join(watch.leftover())


def _hosts(volume):
    """The services, as host@backend, on whose nodes the copy may run."""
    cluster = volume.get('cluster_name')
    if cluster:
        services = objects.ServiceList.get_all(
            cinder_context.get_admin_context(),
            {'binary': 'cinder-volume',
             'cluster_name': cluster.split('#')[0]})
        return [service.host for service in services if service.is_up]
    return [volume['host'].split('#')[0]] if volume['host'] else []


def _facts(volume):
    """What the daemon needs to know of a volume.

    With cluster_name a member that sees no copy does not say 0. The
    provider's fields tell which disk of an array is the volume's, and
    updated_at tells a copy of this migration from one of an earlier one.
    """
    facts = {key: volume[key] for key in (
        'id', '_name_id', 'size', 'host', 'cluster_name', 'status',
        'attach_status', 'migration_status', 'provider_location',
        'provider_id')}
    updated_at = volume['updated_at']
    # As a versioned object has it on the wire; the column is in UTC.
    facts['updated_at'] = updated_at and updated_at.strftime(
        '%Y-%m-%dT%H:%M:%SZ')
    return facts


def _read(method, said):
    if method == PERCENT:
        return Answer(_percent(said))
    if not isinstance(said, dict):
        return Answer()
    return Answer(_percent(said.get('percent')),
                  {key: said[key] for key in DETAIL_KEYS if key in said})


def _percent(said):
    """The number from 0 to 100, or None where it is something else."""
    text = u'%s' % (said,)
    if not re.match(u'[0-9]{1,3}$', text) or int(text) > 100:
        return None
    return int(text)


def _furthest(answer):
    return -1 if answer.percent is None else answer.percent


def _first_line(error):
    return (u'%s' % (error,)).partition(u'\n')[0]
