"""What the three programs have in common: a web server that answers JSON and
finishes what it has begun before it stops, and a call to another deployment."""

import http.client
import http.server
import json
import os
import signal
import socket
import socketserver
import sys
import threading
import uuid
from urllib.parse import parse_qs, urlsplit

MAX_BODY = 1 << 20  # bytes


class Refusal(Exception):
    """An answer other than 200, with its reason."""

    def __init__(self, status, reason):
        super().__init__(reason)
        self.status = status


class Request:
    """One request, as a program sees it."""

    def __init__(self, query, body, request_id):
        self.query = query  # name -> list of values
        self.body = body  # what the JSON says, None without a body
        self.request_id = request_id

    def word(self, name):
        """Returns a parameter's first value, without space at its ends, or ""."""
        return self.query.get(name, [""])[0].strip()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True  # connections that only wait for a next request do not hold up the end
    request_queue_size = 128

    def __init__(self, port, routes):
        self.routes = routes  # (method, path) -> function of a Request
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
        self.dispatch()

    def do_POST(self):
        self.dispatch()

    def dispatch(self):
        request_id = self.headers.get("X-Request-Id") or str(uuid.uuid4())
        try:
            status, value = 200, self.call(request_id)
        except Refusal as refusal:
            status, value = refusal.status, {"error": str(refusal)}
        except Exception as error:  # a fault of this program: say so, and go on serving
            print(f"request {request_id}: {error!r}", file=sys.stderr, flush=True)
            status, value = 500, {"error": "internal error; see the replica's log"}
        self.answer(status, value, request_id)

    def call(self, request_id):
        url = urlsplit(self.path)
        body = self.read_body()
        routes = self.server.routes
        if (self.command, url.path) in routes:
            return routes[self.command, url.path](Request(parse_qs(url.query), body, request_id))
        if any(path == url.path for _, path in routes):
            raise Refusal(405, f"{self.command} is not for {url.path}")
        raise Refusal(404, f"there is nothing at {url.path}")

    def read_body(self):
        try:
            length = int(self.headers.get("Content-Length") or 0)
        except ValueError:
            length = -1
        if "Transfer-Encoding" in self.headers or not 0 <= length <= MAX_BODY:
            self.close_connection = True  # where the next request starts is not known
            raise Refusal(413, f"send a body of at most {MAX_BODY} bytes, with its Content-Length")
        if length == 0:
            return None
        try:
            return json.loads(self.rfile.read(length))
        except (ValueError, RecursionError):
            raise Refusal(400, "the body is not JSON") from None

    def answer(self, status, value, request_id):
        body = json.dumps(value, ensure_ascii=False).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Request-Id", request_id)
        if self.server.stopping or self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        pass  # the proxy sees each request; here only faults are worth a line


def healthy(_request):
    return {"status": "ok"}


def serve(routes):
    """Serves the routes, and /healthz, on $PORT."""
    try:
        port = int(os.environ["PORT"])
    except (KeyError, ValueError):
        sys.exit("set PORT to the port to listen on")
    Server(port, {("GET", "/healthz"): healthy, **routes}).run()


def whoami():
    return {"replica": os.environ.get("SERVE_REPLICA", ""), "version": os.environ.get("SERVE_VERSION", "")}


def beside(name):
    """Returns the JSON of a file that lies beside this one."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), name), encoding="utf-8") as file:
        return json.load(file)


def post(handle, path, value, request_id, timeout=10.0):
    """Calls a deployment through its handle, and returns the JSON that it
    answers. Whatever goes wrong becomes a Refusal that names the deployment."""
    variable = "SERVE_HANDLE_" + handle.upper().replace("-", "_")
    base = urlsplit(os.environ.get(variable, ""))
    if base.scheme != "http" or not base.hostname:
        raise Refusal(503, f"{variable} is not set to the URL of a handle")
    connection = http.client.HTTPConnection(base.hostname, base.port or 80, timeout=timeout)
    try:
        connection.request(
            "POST", base.path.rstrip("/") + path, json.dumps(value).encode(),
            {"Content-Type": "application/json", "X-Request-Id": request_id},
        )
        response = connection.getresponse()
        status, body = response.status, response.read()
    except socket.timeout:
        raise Refusal(503, f"{handle} did not answer within {timeout:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise Refusal(503, f"{handle} cannot be reached: {error}") from None
    finally:
        connection.close()
    if status == 503:
        raise Refusal(503, f"{handle} is not available: {reason(body)}")
    if status != 200:
        raise Refusal(502, f"{handle} answered {status}: {reason(body)}")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal(502, f"{handle} did not answer JSON") from None


def reason(body):
    """Returns what a refusal says, as far as one line goes."""
    try:
        return str(json.loads(body)["error"])[:200]
    except (ValueError, RecursionError, KeyError, TypeError):
        return " ".join(body.decode(errors="replace").split())[:200] or "no reason given"
