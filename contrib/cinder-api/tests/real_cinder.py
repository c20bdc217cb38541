"""The real WSGI application of cinder-api in this process.

Its database is an sqlite file, its transport oslo.messaging's own fake one.
As there is no keystone, the headers that keystonemiddleware would set come
from the tests.
"""

import datetime
import io
import json
import os
import tempfile
import uuid

from cinder import objects
# Declares the options of all services.
from cinder.common import config  # noqa: F401
from cinder import context
from cinder import policy
from cinder import rpc
from oslo_config import cfg
from paste import deploy
import sqlalchemy
import webob

try:
    from cinder.db import models
except ImportError:
    from cinder.db.sqlalchemy import models

from cinder_progress_api import options

PASTE = u"""
[composite:main]
use = call:cinder.api.middleware.auth:pipeline_factory
noauth = request_id faultwrap keystonecontext apiv3
[filter:request_id]
paste.filter_factory = %(request_id)s
[filter:faultwrap]
paste.filter_factory = cinder.api.middleware.fault:FaultWrapper.factory
[filter:keystonecontext]
paste.filter_factory = cinder.api.middleware.auth:CinderKeystoneContext.factory
[app:apiv3]
paste.app_factory = cinder.api.v3.router:APIRouter.factory
"""

PROJECT = uuid.uuid4().hex
TYPE = str(uuid.uuid4())
EXTENSIONS = ('cinder.api.contrib.standard_extensions',
              'cinder_progress_api.MigrateVolumeProgress',
              'cinder_progress_api.MigrationProgressInDetails')


def write(path, text):
    with io.open(path, 'w') as file:
        file.write(text)
    return path


class Cinder(object):
    """cinder-api, and what stands in its database."""

    def __init__(self):
        self.folder = tempfile.mkdtemp()
        self.policy = os.path.join(self.folder, 'policy.json')
        self._write_policy({})
        self.conf = write(os.path.join(self.folder, 'cinder.conf'), (
            u'[DEFAULT]\n'
            u'auth_strategy = noauth\n'
            u'transport_url = fake:/\n'
            u'api_paste_config = %(folder)s/api-paste.ini\n'
            u'[database]\n'
            u'connection = sqlite:///%(folder)s/cinder.sqlite\n'
            u'[oslo_policy]\n'
            u'policy_file = %(policy)s\n'
        ) % {'folder': self.folder, 'policy': self.policy})
        objects.register_all()
        cfg.CONF(['--config-file', self.conf], project='cinder',
                 default_config_files=[])
        rpc.init(cfg.CONF)
        models.BASE.metadata.create_all(_engine())
        self._execute('INSERT INTO volume_types (id, name, is_public, deleted)'
                      " VALUES (:id, '__DEFAULT__', 1, 0)", id=TYPE)

    def rules(self, **rules):
        """Sets these rules of the policy, and no others."""
        self._write_policy(rules)
        policy._ENFORCER = None
        policy.init()

    def _write_policy(self, rules):
        rules = dict(_packaged_policy(), **rules)
        write(self.policy, u'%s' % json.dumps(rules))

    def _execute(self, text, **values):
        with _engine().begin() as connection:
            connection.execute(sqlalchemy.text(text), values)

    def application(self, extensions=EXTENSIONS, **values):
        """The application with these extensions and [cinder_progress]."""
        cfg.CONF.register_opts(options.OPTIONS, group=options.SECTION)
        for name in ('ask', 'timeout'):
            cfg.CONF.clear_override(name, group=options.SECTION)
        for name, value in values.items():
            cfg.CONF.set_override(name, value, group=options.SECTION)
        cfg.CONF.set_override('osapi_volume_extension', list(extensions))
        paste = write(os.path.join(self.folder, 'api-paste.ini'),
                      PASTE % {'request_id': _request_id()})
        return Application(deploy.loadapp('config:' + paste))

    def volume(self, **values):
        """A row; the id of the volume."""
        values = dict({'project_id': PROJECT, 'user_id': 'user', 'size': 1,
                       'status': 'available', 'attach_status': 'detached',
                       'host': 'node@lvm#pool', 'display_name': 'a volume',
                       'migration_status': 'migrating',
                       'volume_type_id': TYPE}, **values)
        volume = objects.Volume(context.get_admin_context(), **values)
        volume.create()
        return volume.id

    def touch(self, volume_id, at):
        """Has the row changed at that time."""
        self._execute('UPDATE volumes SET updated_at = :at WHERE id = :id',
                      id=volume_id, at=at)

    def service(self, at=None, **values):
        """A row of the table of services; at: its last report, now."""
        values = dict({'binary': 'cinder-volume', 'topic': 'cinder-volume',
                       'report_count': 1}, **values)
        service = objects.Service(context.get_admin_context(), **values)
        service.create()
        self._execute('UPDATE services SET updated_at = :at '
                      'WHERE id = :id', id=service.id,
                      at=at or datetime.datetime.utcnow())
        return service


class Application(object):
    """Answers requests, without a network."""

    def __init__(self, application):
        self._application = application

    def request(self, path, body=None, roles='admin', project=PROJECT,
                version=None):
        """The status and the answer's JSON."""
        request = webob.Request.blank('/%s/%s' % (project, path))
        # The application is asked below its prefix.
        request.script_name = '/v3'
        request.headers.update({
            'X-User-Id': 'somebody', 'X-Project-Id': project,
            'X-Roles': roles})
        if version:
            request.headers['OpenStack-API-Version'] = 'volume ' + version
        if body is not None:
            request.method = 'POST'
            request.content_type = 'application/json'
            request.body = json.dumps(body).encode('utf-8')
        response = request.get_response(self._application)
        return response.status_int, response.json if response.body else None

    def progress(self, volume_id, body=None, **request):
        """POST of the action."""
        if body is None:
            body = {'os-migrate_volume_progress': {}}
        return self.request('volumes/%s/action' % volume_id, body, **request)

    def details(self, volume_id, **request):
        """GET of the volume."""
        return self.request('volumes/' + volume_id, **request)


def _engine():
    try:
        from cinder.db import api
        return api.get_engine()
    except AttributeError:
        from cinder.db.sqlalchemy import api
        return api.get_engine()


def _packaged_policy():
    """The rules of the release's policy.json; none from Queens on."""
    if hasattr(policy, 'authorize'):
        return {}
    # The wheel has no other copy.
    path = os.path.join(os.path.dirname(policy.__file__), 'tests', 'unit',
                        'policy.json')
    with io.open(path) as file:
        return json.load(file)


def _request_id():
    try:
        from cinder.api.middleware import request_id  # noqa: F401
        return 'cinder.api.middleware.request_id:RequestId.factory'
    except ImportError:
        return 'oslo_middleware.request_id:RequestId.factory'
