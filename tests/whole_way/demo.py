"""What scripts/demo shows, in the folder that it is given."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time

from tests.whole_way import parts

SECONDS = 20
WIDTH = 50
HOST = 'demo'
VOLUME_HOST = HOST + '@lvm#pool'


def say(text):
    print('==> ' + text, file=sys.stderr, flush=True)


def show(answer, last):
    """A bar on a terminal, a line elsewhere."""
    progress = answer['migration_progress']
    rest = '  ' + answer.get('state', '')
    if not sys.stdout.isatty():
        print(progress + rest, flush=True)
        return
    number = progress.rstrip('%')
    filled = WIDTH * int(number) // 100 if number.isdigit() else 0
    print('\r[%s%s] %4s%-12s' % ('#' * filled, '-' * (WIDTH - filled),
                                 progress, rest),
          end='\n' if last else '', flush=True)


def operate(cinder_volume):
    """A volume operation on the queue that the daemon consumes as well."""
    caller = subprocess.run(
        [parts.latest(), '-W', 'ignore', '-c', '''
import sys
import oslo_messaging
from oslo_config import cfg
cfg.CONF([], project='demo', default_config_files=[])
transport = oslo_messaging.get_rpc_transport(cfg.CONF, url=sys.argv[1])
target = oslo_messaging.Target(topic='cinder-volume.demo@lvm', server='demo',
                               version='3.0')
client = oslo_messaging.get_rpc_client(transport, target, timeout=60)
client.cast({}, 'create_volume', number=1)
''', parts.broker()], check=True, timeout=parts.PATIENCE)
    assert caller.returncode == 0
    parts.until('cinder-volume has executed it',
                lambda: cinder_volume.says(executed=1))


def releases():
    """Who spoke."""
    said = subprocess.run(
        [parts.latest(), '-W', 'ignore', '-c',
         'from importlib.metadata import version as v; '
         'print("cinder %s, oslo.messaging %s" % '
         '(v("cinder"), v("oslo.messaging")))'],
        stdout=subprocess.PIPE, check=True, text=True).stdout.strip()
    daemon = subprocess.run([os.environ['CINDER_PROGRESS'],
                             '--version'], stdout=subprocess.PIPE,
                            check=True, text=True).stdout.strip()
    return '%s, %s' % (said, daemon)


def main():
    folder = pathlib.Path(sys.argv[1])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with contextlib.ExitStack() as running:
        def kept(part):
            running.callback(part.stop)
            return part

        say('a real cinder-api over HTTP; two lines of cinder.conf give it '
            'the action')
        api = kept(parts.CinderApi(folder, parts.latest(), 'cinder-volume'))
        say("an oslo.messaging server plays cinder-volume on its queues; "
            "cinder-progress serve, sidecar, beside it")
        cinder_volume = kept(parts.CinderVolume(folder, HOST))
        kept(parts.Daemon(folder, HOST, 'sidecar'))
        say('dd of a 1 GiB volume, fed for about %d s' % SECONDS)
        volume_id = api.volume(VOLUME_HOST)
        copy = kept(parts.Copy(folder, volume_id))
        say('POST /v3/…/volumes/%s/action {"os-migrate_volume_progress": {}}'
            % volume_id)
        begun = time.monotonic()
        for step in range(1, SECONDS + 1):
            copy.feed(parts.GIB * step // SECONDS)
            answer = api.progress(volume_id)
            show(answer, step == SECONDS)
            if step == SECONDS // 2:
                operate(cinder_volume)
                print(file=sys.stderr)
                say('half-way a volume operation, create_volume: '
                    'cinder-volume has executed it')
            time.sleep(max(0, begun + step - time.monotonic()))
        say('these spoke: ' + releases())
        return 0 if answer['migration_progress'] == '100%' else 1


if __name__ == '__main__':
    sys.exit(main())
