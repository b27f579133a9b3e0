"""A replica in one file: it greets, answers its health check, and finishes what
it has begun before it stops. It needs Python 3.9 and no packages."""

import http.server
import json
import os
import signal
import socketserver
import sys
import threading
import time
from urllib.parse import parse_qs, urlsplit

MAX_SLEEP = 60.0  # seconds


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True  # connections that only wait for a next request do not hold up the end
    request_queue_size = 128

    def __init__(self, port):
        self.ongoing = 0
        self.stopping = False
        self.changed = threading.Condition()
        super().__init__(("", port), Handler)

    def server_bind(self):
        # HTTPServer's own asks DNS for a name that nothing here needs.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "", self.server_address[1]

    def run(self):
        """Serves until SIGTERM or SIGINT, and then until the last answer is out."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: threading.Thread(target=self.stop).start())
        print(f"listening on port {self.server_port}", flush=True)
        self.serve_forever(poll_interval=0.1)
        self.server_close()
        with self.changed:
            self.changed.wait_for(lambda: self.ongoing == 0)
        print("stopped", flush=True)

    def stop(self):
        self.stopping = True
        self.shutdown()

    def count(self, difference):
        with self.changed:
            self.ongoing += difference
            self.changed.notify_all()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body leave in one piece
    timeout = 75  # seconds that a connection may be silent
    counted = False

    def parse_request(self):
        # Called when a request has begun to arrive.
        self.counted = True
        self.server.count(+1)
        return super().parse_request()

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True  # the client is gone
        finally:
            if self.counted:
                self.counted = False
                self.server.count(-1)

    def do_GET(self):
        url = urlsplit(self.path)
        if url.path == "/healthz":
            return self.answer(200, {"status": "ok", "ongoing": self.server.ongoing})  # itself included
        if url.path != "/":
            return self.answer(404, {"error": f"there is nothing at {url.path}; try /"})
        try:
            pause = float(parse_qs(url.query).get("sleep", ["0"])[0])
        except ValueError:
            pause = -1.0
        if not 0 <= pause <= MAX_SLEEP:
            return self.answer(400, {"error": f"sleep is a number of seconds from 0 to {MAX_SLEEP:g}"})
        time.sleep(pause)
        self.answer(200, {
            "message": "hello " + os.environ.get("GREET", "world"),
            "replica": os.environ.get("SERVE_REPLICA", ""),
            "version": os.environ.get("SERVE_VERSION", ""),
        })

    def answer(self, status, value):
        body = json.dumps(value).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.server.stopping:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        pass  # one line for each request would be the most that this program does


if __name__ == "__main__":
    try:
        port = int(os.environ["PORT"])
    except (KeyError, ValueError):
        sys.exit("set PORT to the port to listen on")
    Server(port).run()
