"""Serves one file over HTTP, by ranges, and tells what was asked of it.

    python range_server.py FILE

Prints its port. ``/scene.tif`` is the file, ``/asked`` a JSON list of [method, path, range, bytes sent] so far.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Ranges(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    content = b""
    asked: list = []  # noqa: RUF012 - one server a process

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        if self.path == "/asked":
            self.reply(200, json.dumps(self.asked).encode())
            return
        bounds = self.headers.get("Range")
        self.asked.append([self.command, self.path, bounds, 0])
        if self.path != "/scene.tif":
            self.reply(404, b"")
        elif bounds is None:
            self.asked[-1][3] = self.reply(200, self.content)
        else:
            start, _, stop = bounds.removeprefix("bytes=").partition("-")
            first, last = int(start), min(int(stop or len(self.content)), len(self.content) - 1)
            place = f"bytes {first}-{last}/{len(self.content)}"
            self.asked[-1][3] = self.reply(206, self.content[first : last + 1], place)

    def reply(self, status, body, place=None):
        self.send_response(status)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(body)))
        if place:
            self.send_header("Content-Range", place)
        self.end_headers()
        if self.command == "HEAD":
            return 0
        self.wfile.write(body)
        return len(body)

    def log_message(self, *arguments):
        pass


if __name__ == "__main__":
    Ranges.content = Path(sys.argv[1]).read_bytes()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Ranges)
    print(server.server_address[1], flush=True)
    server.serve_forever()
