#!/usr/bin/env python3
"""cast.py record FILE COLUMNS ROWS COMMAND...   runs COMMAND on a terminal and writes what it shows (asciicast v2)
cast.py gif CAST GIF                             draws a cast (needs pyte, pillow and DejaVu Sans Mono)"""
import fcntl, json, os, pty, select, struct, sys, termios, time


def record(path, columns, rows, command):
    pid, fd = pty.fork()
    if pid == 0:
        os.environ['TERM'] = 'xterm-256color'
        os.execvp(command[0], command)
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))
    start = time.monotonic()
    with open(path, 'w') as out:
        head = {'version': 2, 'width': columns, 'height': rows, 'title': 'An unbreakable session'}
        out.write(json.dumps(head) + '\n')
        rest = b''
        while True:
            select.select([fd], [], [])
            try:
                data = os.read(fd, 65536)
            except OSError:
                break
            if not data:
                break
            data, rest = rest + data, b''
            # A character may come in two reads.
            for keep in range(4):
                try:
                    text = data[:len(data) - keep].decode()
                    rest = data[len(data) - keep:]
                    break
                except UnicodeDecodeError:
                    continue
            else:
                text = data.decode(errors='replace')
            out.write(json.dumps([round(time.monotonic() - start, 3), 'o', text]) + '\n')
    os.waitpid(pid, 0)


COLOURS = {'black': '#1c1c1c', 'red': '#d75f5f', 'green': '#87af5f', 'brown': '#d7af5f', 'blue': '#5f87d7',
           'magenta': '#af87d7', 'cyan': '#5fafaf', 'white': '#d0d0d0'}
BACK, FRONT = '#1c1c1c', '#d0d0d0'


def gif(cast, path):
    import pyte
    from PIL import Image, ImageDraw, ImageFont
    lines = [json.loads(l) for l in open(cast)]
    head, events = lines[0], lines[1:]
    columns, rows = head['width'], head['height']
    fonts = '/usr/share/fonts/truetype/dejavu/DejaVuSansMono'
    font, bold = (ImageFont.truetype(f'{fonts}{s}.ttf', 13) for s in ('', '-Bold'))
    w, h = 8, 16

    def colour(name, default):
        if name == 'default':
            return default
        return COLOURS.get(name, '#' + name if len(name) == 6 else default)

    screen = pyte.Screen(columns, rows)
    stream = pyte.Stream(screen)

    def draw():
        picture = Image.new('RGB', (columns * w + 8, rows * h + 8), BACK)
        d = ImageDraw.Draw(picture)
        for y in range(rows):
            for x in range(columns):
                c = screen.buffer[y][x]
                front, back = colour(c.fg, FRONT), colour(c.bg, BACK)
                if c.reverse:
                    front, back = back, front
                if (x, y) == (screen.cursor.x, screen.cursor.y) and not screen.cursor.hidden:
                    front, back = BACK, '#d7af5f'
                box = (4 + x * w, 4 + y * h)
                if back != BACK:
                    d.rectangle((*box, box[0] + w - 1, box[1] + h - 1), fill=back)
                if c.data.strip():
                    d.text(box, c.data, font=bold if c.bold else font, fill=front)
        return picture.quantize(32)

    frames, times, last = [], [], 0.0
    # What happens within a tenth of a second is one picture.
    for at, _, text in events:
        if at - last >= 0.1:
            frames.append(draw())
            times.append(at - last)
            last = at
        stream.feed(text)
    frames.append(draw())
    times.append(3.0)
    ms = [max(20, int(t * 1000)) for t in times]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=ms, loop=0, optimize=True)


if sys.argv[1] == 'record':
    record(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:])
else:
    gif(sys.argv[2], sys.argv[3])
