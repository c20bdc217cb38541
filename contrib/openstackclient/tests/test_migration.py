"""The commands, with an API that this file plays."""

import argparse
import json
import types
import unittest

from openstack import exceptions as sdk_exceptions
from osc_lib import exceptions
import requests

from cinder_progress_osc import migration


def response(status_code, body):
    made = requests.Response()
    made.status_code = status_code
    made.headers['content-type'] = 'application/json'
    made._content = json.dumps(body).encode()
    made.request = requests.Request('POST', 'http://127.0.0.1/').prepare()
    return made


class Client(object):
    """The block storage proxy of openstacksdk, with these volumes."""

    def __init__(self, volumes=(), progress=None, page=100):
        self.volumes = list(volumes)
        self.progress = progress or {}
        self.page = page
        self.queries = []

    def find_volume(self, name_or_id, ignore_missing, all_projects):
        for volume in self.volumes:
            if name_or_id in (volume['id'], volume['name']):
                return types.SimpleNamespace(id=volume['id'])
        raise sdk_exceptions.NotFoundException()

    def get(self, path, params):
        assert path == '/volumes/detail'
        self.queries.append(dict(params))
        found = [volume for volume in self.volumes
                 if volume['migration_status'] == params['migration_status']]
        ids = [volume['id'] for volume in found]
        begin = ids.index(params['marker']) + 1 if 'marker' in params else 0
        page = {'volumes': found[begin:begin + self.page]}
        if len(found) > begin + self.page:
            page['volumes_links'] = [{'rel': 'next', 'href': 'there'}]
        return response(200, page)

    def post(self, path, **body):
        assert body['json'] == {'os-migrate_volume_progress': {}}
        said = self.progress[path.split('/')[2]]
        if isinstance(said, requests.Response):
            return said
        return response(200, {'volume': said})


def volume(number, migration_status='migrating'):
    return {'id': 'id-%s' % number, 'name': 'name-%s' % number,
            'os-vol-host-attr:host': 'node@lvm#pool',
            'migration_status': migration_status}


def answer(number, progress, **details):
    return dict(details, volume_id='id-%s' % number,
                migration_status='migrating', migration_progress=progress)


def run(command, client, *args):
    app = types.SimpleNamespace(client_manager=types.SimpleNamespace(
        sdk_connection=types.SimpleNamespace(block_storage=client)))
    command = command(app, argparse.Namespace())
    parsed = command.get_parser('openstack').parse_args(list(args))
    columns, rows = command.take_action(parsed)
    return tuple(columns), list(rows)


class ShowTest(unittest.TestCase):

    def test_by_name(self):
        client = Client([volume(1)], {'id-1': answer(1, '42%')})
        self.assertEqual(
            (('volume_id', 'migration_status', 'total_progress'),
             ['id-1', 'migrating', '42%']),
            run(migration.ShowVolumeMigration, client, 'name-1'))

    def test_with_details(self):
        client = Client([volume(1)], {'id-1': answer(
            1, '42%', state='copying', seconds_left=6, unheard_of=1)})
        columns, values = run(migration.ShowVolumeMigration, client, 'id-1')
        self.assertEqual(('state', 'seconds_left'), columns[3:])
        self.assertEqual(['copying', 6], values[3:])

    def test_an_unknown_volume(self):
        self.assertRaises(sdk_exceptions.NotFoundException, run,
                          migration.ShowVolumeMigration, Client(), 'nothing')

    def test_an_api_without_the_action(self):
        client = Client([volume(1)], {'id-1': response(400, {
            'badRequest': {'message': 'There is no such action: '
                           'os-migrate_volume_progress.'}})})
        with self.assertRaises(exceptions.CommandError) as raised:
            run(migration.ShowVolumeMigration, client, 'id-1')
        self.assertIn('osapi_volume_extension', str(raised.exception))

    def test_who_may_not_ask(self):
        client = Client([volume(1)], {'id-1': response(403, {
            'forbidden': {'message': 'Policy does not allow it.'}})})
        with self.assertRaises(sdk_exceptions.ForbiddenException) as raised:
            run(migration.ShowVolumeMigration, client, 'id-1')
        self.assertIn('Policy does not allow it.', str(raised.exception))


class ListTest(unittest.TestCase):

    def test_volumes_that_migrate(self):
        client = Client(
            [volume(1), volume(2, 'starting'), volume(3, 'completing'),
             volume(4, 'success'), volume(5, None), volume(6, 'target:id-1')],
            {'id-1': answer(1, '42%', state='copying', bytes_per_second=7,
                            seconds_left=6),
             'id-2': answer(2, '0%'), 'id-3': answer(3, '100%')})
        columns, rows = run(migration.ListVolumeMigration, client)
        self.assertEqual(migration.ListVolumeMigration.COLUMNS, columns)
        self.assertEqual(
            [('id-2', '0%'), ('id-1', '42%'), ('id-3', '100%')],
            [(row[0], row[4]) for row in rows])
        self.assertEqual(
            ('id-1', 'name-1', 'node@lvm#pool', 'migrating', '42%',
             'copying', 7, 6), rows[1])

    def test_all_projects(self):
        for args, expected in (([], None), (['--all-projects'], 'True')):
            client = Client()
            self.assertEqual(
                [], run(migration.ListVolumeMigration, client, *args)[1])
            self.assertEqual(3, len(client.queries))
            for query in client.queries:
                self.assertEqual(expected, query.get('all_tenants'))

    def test_page_by_page(self):
        client = Client([volume(number) for number in range(5)],
                        {'id-%s' % number: answer(number, '42%')
                         for number in range(5)}, page=2)
        _, rows = run(migration.ListVolumeMigration, client)
        self.assertEqual(['id-%s' % number for number in range(5)],
                         [row[0] for row in rows])

    def test_one_that_is_deleted_meanwhile(self):
        client = Client([volume(1), volume(2)], {
            'id-1': response(404, {'itemNotFound': {'message': 'gone'}}),
            'id-2': answer(2, '42%')})
        _, rows = run(migration.ListVolumeMigration, client)
        self.assertEqual(['id-2'], [row[0] for row in rows])


if __name__ == '__main__':
    unittest.main()
