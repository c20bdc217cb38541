"""What cinder-api loads: an action of volumes, and one field more of each."""

from cinder.api import extensions
from cinder.api.openstack import wsgi
from cinder import volume
from oslo_config import cfg
from oslo_log import log as logging

from cinder_progress_api import options
from cinder_progress_api import policy
from cinder_progress_api import rpcapi

LOG = logging.getLogger(__name__)

NOT_KNOWN = 'NA'


class MigrateVolumeProgressController(wsgi.Controller):
    """Adds an action to the controller of volumes."""

    def __init__(self, progress_api):
        super(MigrateVolumeProgressController, self).__init__()
        self.volume_api = volume.API()
        self.progress_api = progress_api

    @wsgi.action('os-migrate_volume_progress')
    def _migrate_volume_progress(self, req, id, body):
        """Tell how far the volume's migration is."""
        context = req.environ['cinder.context']
        # Not found exception will be handled at the wsgi level
        vol = self.volume_api.get(context, id)
        policy.authorize(context, vol)
        progress, details = self._progress(context, vol)
        # Who asks for the three keys must find them as they are.
        return {'volume': dict(details,
                               volume_id=vol['id'],
                               migration_status=vol['migration_status'],
                               migration_progress=progress)}

    def _progress(self, context, vol):
        status = vol['migration_status']
        if status == 'starting':
            return '0%', {}
        if status in ('completing', 'success'):
            return '100%', {}
        if status != 'migrating':
            return NOT_KNOWN, {}
        answer = self.progress_api.ask(context, vol, details=True)
        if answer.percent is None:
            return NOT_KNOWN, answer.details
        return '%d%%' % answer.percent, answer.details


class MigrationProgressInDetailsController(wsgi.Controller):
    """Adds a field to GET /volumes/{id}."""

    def __init__(self, progress_api):
        super(MigrationProgressInDetailsController, self).__init__()
        self.progress_api = progress_api

    @wsgi.extends
    def show(self, req, resp_obj, id):
        context = req.environ['cinder.context']
        if not context.is_admin:
            return
        try:
            shown = resp_obj.obj['volume']
            vol = req.get_db_volume(shown['id'])
            if vol['migration_status'] != 'migrating':
                return
            percent = self.progress_api.ask(context, vol).percent
        except Exception as error:
            # The details must not fail because of one more field.
            LOG.warning('No migration_progress of volume %(id)s: %(error)s',
                        {'id': id, 'error': error})
            return
        if percent is not None:
            shown['migration_progress'] = '%d' % percent


class _Extension(extensions.ExtensionDescriptor):
    """Reads the options, and adds a controller to that of volumes."""

    controller = None

    def __init__(self, ext_mgr):
        # Before it is registered: a wrong option leaves it out, and
        # cinder-api's log says why.
        ask, timeout = options.read(cfg.CONF)
        self._progress_api = rpcapi.ProgressAPI(ask, timeout)
        super(_Extension, self).__init__(ext_mgr)

    def get_controller_extensions(self):
        return [extensions.ControllerExtension(
            self, 'volumes', self.controller(self._progress_api))]


class MigrateVolumeProgress(_Extension):
    """Tell how far a volume's migration is."""

    name = 'MigrateVolumeProgress'
    alias = 'os-migrate-volume-progress'
    updated = '2026-11-29T00:00:00+00:00'
    controller = MigrateVolumeProgressController


class MigrationProgressInDetails(_Extension):
    """Show migration_progress among a migrating volume's details."""

    name = 'MigrationProgressInDetails'
    alias = 'os-migration-progress-in-details'
    updated = '2026-11-29T00:00:00+00:00'
    controller = MigrationProgressInDetailsController
