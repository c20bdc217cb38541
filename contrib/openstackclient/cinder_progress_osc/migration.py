"""openstack volume migration show, and list."""

from concurrent import futures

from openstack import exceptions as sdk_exceptions
from osc_lib.command import command
from osc_lib import exceptions

ACTION = 'os-migrate_volume_progress'
NO_ACTION = ('this cinder-api cannot tell: it has not loaded '
             'cinder_progress_api.MigrateVolumeProgress '
             '(osapi_volume_extension in cinder.conf)')

# What a volume's migration_status is while it migrates. That of the volume
# that is migrated to begins with "target:".
GOING_ON = ('starting', 'migrating', 'completing')

# The keys of the answer beside the three that are always there; a cinder-api
# that asks an older daemon leaves them out.
DETAILS = ('state', 'bytes', 'total_bytes', 'bytes_per_second',
           'seconds_left', 'since', 'kind', 'source', 'destination')

# Each of them may wait two seconds for a daemon that is down.
AT_ONCE = 8


class ShowVolumeMigration(command.ShowOne):
    """Show how far the migration of a volume is (admin only)"""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument(
            'volume', metavar='<volume>',
            help='Volume that migrates or has migrated (name or ID)')
        return parser

    def take_action(self, parsed_args):
        client = _client(self.app)
        # As an administrator: the volume may be of any project.
        volume = client.find_volume(
            parsed_args.volume, ignore_missing=False, all_projects=True)
        answer = _progress(client, volume.id)
        shown = [('volume_id', answer.get('volume_id')),
                 ('migration_status', answer.get('migration_status')),
                 ('total_progress', answer.get('migration_progress'))]
        shown += [(key, answer[key]) for key in DETAILS if key in answer]
        return tuple(zip(*shown))


class ListVolumeMigration(command.Lister):
    """List all volumes that migrate, and how far each is (admin only)"""

    COLUMNS = ('ID', 'Name', 'Host', 'Migration Status', 'Total Progress',
               'State', 'Bytes Per Second', 'Seconds Left')

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument(
            '--all-projects', action='store_true',
            help='Include the volumes of all projects')
        return parser

    def take_action(self, parsed_args):
        client = _client(self.app)
        volumes = list(_migrating(client, parsed_args.all_projects))
        with futures.ThreadPoolExecutor(AT_ONCE) as pool:
            answers = list(pool.map(
                lambda volume: _progress_or_none(client, volume['id']),
                volumes))
        return self.COLUMNS, [
            (volume['id'], volume.get('name'),
             volume.get('os-vol-host-attr:host'),
             answer.get('migration_status'),
             answer.get('migration_progress'), answer.get('state'),
             answer.get('bytes_per_second'), answer.get('seconds_left'))
            for volume, answer in zip(volumes, answers)
            if answer is not None]


def _client(app):
    # Not client_manager.volume: before release 8 that is cinderclient.
    return app.client_manager.sdk_connection.block_storage


def _progress(client, volume_id):
    response = client.post('/volumes/%s/action' % volume_id,
                           json={ACTION: {}})
    if response.status_code == 400 and ACTION in response.text:
        raise exceptions.CommandError(NO_ACTION)
    sdk_exceptions.raise_from_response(response)
    return response.json()['volume']


def _progress_or_none(client, volume_id):
    """None of a volume that has been deleted in the meantime."""
    try:
        return _progress(client, volume_id)
    except sdk_exceptions.NotFoundException:
        return None


def _migrating(client, all_projects):
    """Every volume that migrates, page by page, in the order of the API."""
    seen = set()
    for status in GOING_ON:
        query = {'migration_status': status}
        if all_projects:
            query['all_tenants'] = 'True'
        while True:
            response = client.get('/volumes/detail', params=query)
            sdk_exceptions.raise_from_response(response)
            page = response.json()['volumes']
            for volume in page:
                # A volume may be in two of the lists while it moves on; a
                # server that knows no such filter lists all volumes.
                if (volume['id'] not in seen and
                        volume.get('migration_status', status) in GOING_ON):
                    seen.add(volume['id'])
                    yield volume
            if not page or not _has_next(response.json()):
                break
            query['marker'] = page[-1]['id']


def _has_next(page):
    return any(link.get('rel') == 'next'
               for link in page.get('volumes_links', ()))
