"""What scripts/pictures draws, from a live run."""

import contextlib
import fcntl
import html
import os
import pathlib
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import uuid

import pyte

from tests.whole_way import parts

HOST = 'storage1'
VOLUME_HOST = HOST + '@lvm#pool'
COLUMNS, LINES = 80, 8

# The copy that the plot is made of: so many questions, at a speed that
# changes, as a storage's does.
QUESTIONS = 160
PAUSE = 0.1

# Of a character, in a font of 14 pixels; fonts differ by less than the gap.
CELL_WIDTH, CELL_HEIGHT = 8.43, 19
FONT = ('font-family="ui-monospace, DejaVu Sans Mono, Menlo, Consolas, '
        'monospace"')


class Terminal(object):
    """A command on a terminal of its own, and what is to be seen on it."""

    def __init__(self, *command):
        self._screen = pyte.Screen(COLUMNS, LINES)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ,
                    struct.pack('HHHH', LINES, COLUMNS, 0, 0))
        self._child = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave,
            env=dict(os.environ, TERM='xterm-256color'))
        os.close(slave)
        self._closing = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        while not self._closing:
            if not select.select([self._master], [], [], 0.1)[0]:
                continue
            try:
                output = os.read(self._master, 1 << 16)
            except OSError:
                return
            with self._lock:
                self._stream.feed(output)

    def lines(self):
        with self._lock:
            lines = [line.rstrip() for line in self._screen.display]
        return [line for line in lines if line]

    def stop(self):
        self._child.terminate()
        self._child.wait()
        self._closing = True
        self._reader.join()
        os.close(self._master)


class PacedCopy(object):
    """A real dd of a file, let on for a moment at a time."""

    def __init__(self, folder, gib):
        folder.mkdir()
        self.size = gib * parts.GIB
        source = folder / ('volume-' + str(uuid.uuid4()))
        destination = folder / ('volume-' + str(uuid.uuid4()))
        with open(source, 'wb') as file:
            file.truncate(self.size)
        destination.touch()
        self._process = parts.Process(
            folder / 'dd.log', 'dd', 'if=%s' % source, 'of=%s' % destination,
            'bs=64K', 'conv=notrunc,sparse')
        self._path = '/proc/%d/fdinfo/1' % self._process.child.pid
        self._send(signal.SIGSTOP)

    def _send(self, number):
        if self._process.child.poll() is None:
            self._process.child.send_signal(number)

    def position(self):
        with open(self._path) as lines:
            return int(next(lines).split()[1])

    def upto(self, position):
        """Lets it run until it is there, and holds it again."""
        self._send(signal.SIGCONT)
        parts.until('dd is there', lambda: self._is_over() or
                    self.position() >= position)
        self._send(signal.SIGSTOP)

    def to_its_end(self):
        self._send(signal.SIGCONT)
        parts.until('dd has ended', self._is_over)

    def _is_over(self):
        return self._process.child.poll() is not None

    def stop(self):
        self._send(signal.SIGCONT)
        self._process.stop()


def document(width, height, content):
    return ('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" '
            'viewBox="0 0 %d %d">\n%s\n</svg>\n'
            % (width, height, width, height, '\n'.join(content)))


def screen_picture(command, lines):
    """A terminal, as it was."""
    margin = 16
    width = round(COLUMNS * CELL_WIDTH) + 2 * margin
    height = (len(lines) + 1) * CELL_HEIGHT + 2 * margin
    content = ['<rect width="100%" height="100%" rx="8" fill="#1e2127"/>']
    for number, line in enumerate(['# ' + command] + lines):
        # Each character has its place, whatever font there is.
        length = round(len(line) * CELL_WIDTH, 1)
        content.append(
            '<text x="%d" y="%d" %s font-size="14" fill="%s" '
            'textLength="%s" xml:space="preserve">%s</text>'
            % (margin, margin + CELL_HEIGHT * number + 14, FONT,
               '#98c379' if number == 0 else '#dcdfe4', length,
               html.escape(line)))
    return document(width, height, content)


def plot(samples):
    """The answers over the true position, in percents: points on a line."""
    left, top, side = 56, 24, 360

    def x(percent):
        return round(left + side * percent / 100, 1)

    def y(percent):
        return round(top + side * (100 - percent) / 100, 1)

    def text(at_x, at_y, words, more=''):
        return ('<text x="%s" y="%s" font-family="sans-serif" font-size="12" '
                'fill="#333" %s>%s</text>' % (at_x, at_y, more, words))

    content = ['<rect width="100%" height="100%" fill="#fff"/>']
    for percent in range(0, 101, 20):
        content += [
            '<path d="M%s %sV%s M%s %sH%s" stroke="#ddd"/>'
            % (x(percent), y(0), y(100), x(0), y(percent), x(100)),
            text(x(percent), y(0) + 18, percent, 'text-anchor="middle"'),
            text(x(0) - 8, y(percent) + 4, percent, 'text-anchor="end"')]
    content.append('<path d="M%s %sL%s %s" stroke="#999"/>'
                   % (x(0), y(0), x(100), y(100)))
    content += ['<circle cx="%s" cy="%s" r="2.5" fill="#c0392b"/>'
                % (x(true), y(told)) for true, told in samples]
    content += [
        text(x(50), y(0) + 38, 'position of dd, % of the volume',
             'text-anchor="middle"'),
        text(0, 0, "cinder-api's answer, %",
             'text-anchor="middle" transform="translate(16 %s) rotate(-90)"'
             % y(50)),
        text(x(4), y(92), '%d answers over HTTP, furthest from the line: %.1f'
             % (len(samples),
                max(abs(told - true) for true, told in samples)))]
    return document(left + side + 24, top + side + 52, content)


def followed(api, folder):
    """One copy from its beginning to its end, asked about all the way."""
    volume_id = api.volume(VOLUME_HOST)
    samples = []
    with contextlib.ExitStack() as running:
        copy = parts.Copy(folder, volume_id)
        running.callback(copy.stop)
        for question in range(QUESTIONS + 1):
            # A quarter of the way at double the speed, a pause, the rest.
            share = question / QUESTIONS
            share = share * 2 if share < 0.25 else max(
                0.5, 0.5 + (share - 0.4) / 0.6 * 0.5)
            copy.feed(int(parts.GIB * share) if question else 1 << 20)
            told = api.progress(volume_id)['migration_progress']
            true = 100 * copy.position() / parts.GIB
            samples.append((true, int(told.rstrip('%'))))
            time.sleep(PAUSE)
    return samples


def watched(folder, state_file):
    """status --watch beside four copies: what is on the terminal."""
    command = 'cinder-progress status --watch'
    conf = folder / 'status.conf'
    conf.write_text('[progress]\nstate_file = %s\n' % state_file)
    with contextlib.ExitStack() as running:
        def kept(part):
            running.callback(part.stop)
            return part

        slow, quick, stuck, done = [
            kept(PacedCopy(folder / name, gib)) for name, gib in
            (('lvm1', 16), ('lvm2', 100), ('nfs', 8), ('lvm3', 2))]
        stuck.upto(stuck.size * 87 // 100)
        slow.upto(slow.size * 30 // 100)
        quick.upto(quick.size * 5 // 100)
        terminal = kept(Terminal(os.environ['CINDER_PROGRESS'], 'status',
                                 '--watch', '--config-file', str(conf)))
        parts.until('all copies are on the terminal',
                    lambda: len(terminal.lines()) == 6)
        done.to_its_end()
        begun = time.monotonic()

        def told():
            seconds = time.monotonic() - begun
            slow.upto(slow.size * 30 // 100 + int(seconds * (20 << 20)))
            quick.upto(quick.size * 5 // 100 + int(seconds * (180 << 20)))
            picture = '\n'.join(terminal.lines())
            return 'stalled' in picture and 'done' in picture

        parts.until('one copy is stalled and one is done', told)
        return screen_picture(command, terminal.lines())


def main():
    folder, pictures = map(pathlib.Path, sys.argv[1:3])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    pictures.mkdir(exist_ok=True)
    state_file = folder / 'copies.json'
    with contextlib.ExitStack() as running:
        def kept(part):
            running.callback(part.stop)
            return part

        api = kept(parts.CinderApi(folder, parts.latest(), 'cinder-volume'))
        kept(parts.CinderVolume(folder, HOST))
        kept(parts.Daemon(folder, HOST, 'sidecar',
                          'state_file = %s' % state_file))
        (pictures / 'told-over-true.svg').write_text(
            plot(followed(api, folder)))
        (pictures / 'status.svg').write_text(watched(folder, state_file))


if __name__ == '__main__':
    sys.exit(main())
