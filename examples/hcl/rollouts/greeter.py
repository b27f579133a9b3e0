"""A replica that takes another user_config while it runs, and of which a share of
the answers can be made to fail, to see a rollout that is undone. It needs
hello.py beside it."""

import json
import os
import sys
import threading

import hello

MAX_CONFIG = 48 << 10  # bytes


class Greeter(hello.Server):
    def __init__(self, port, config, errors):
        self.config = config
        self.errors = errors
        self.asked = 0
        self.lock = threading.Lock()
        super().__init__(port)
        self.RequestHandlerClass = Handler

    def fails(self):
        """Says whether the next answer is to fail: evenly spread, not by chance."""
        with self.lock:
            self.asked += 1
            return int(self.asked * self.errors) > int((self.asked - 1) * self.errors)


class Handler(hello.Handler):
    def do_GET(self):
        if self.path.partition("?")[0] != "/":
            return super().do_GET()
        if self.server.fails():
            return self.answer(500, {"error": "this release fails now and then"})
        self.answer(200, {
            "message": self.server.config["greeting"],
            "release": os.environ.get("RELEASE", ""),
            "replica": os.environ.get("SERVE_REPLICA", ""),
            "version": os.environ.get("SERVE_VERSION", ""),
        })

    def do_POST(self):
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit() and int(length) <= MAX_CONFIG):
            self.close_connection = True  # what follows is not read
            return self.answer(400, {"error": f"a body of up to {MAX_CONFIG} bytes is needed, and its Content-Length"})
        body = self.rfile.read(int(length))
        # Only the leader says it: proxies take it off what clients send.
        if self.path != "/reconfigure" or "Serve-Config-Hash" not in self.headers:
            return self.answer(404, {"error": f"there is nothing at {self.path}; try /reconfigure"})
        try:
            self.server.config = parse(body)
        except ValueError as fault:
            return self.answer(400, {"error": str(fault)})
        self.answer(200, {"status": "ok"})


def parse(text):
    """Reads a user_config. What it does not know is refused rather than ignored."""
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise ValueError(f"user_config is no JSON: {fault}") from None
    if not isinstance(config, dict) or set(config) != {"greeting"}:
        raise ValueError("user_config is an object with one setting, greeting")
    if not isinstance(config["greeting"], str) or not config["greeting"]:
        raise ValueError("greeting is a text that is not empty")
    return config


if __name__ == "__main__":
    try:
        port, errors = int(os.environ["PORT"]), float(os.environ.get("ERRORS", "0"))
    except (KeyError, ValueError):
        sys.exit("set PORT to the port to listen on, and ERRORS to a number from 0 to 1")
    if not 0 <= errors <= 1:
        sys.exit("ERRORS is the share of the answers that fail, from 0 to 1")
    try:
        with open(os.environ["SERVE_USER_CONFIG"], "rb") as file:
            config = parse(file.read())
    except (KeyError, OSError, ValueError) as fault:
        sys.exit(f"SERVE_USER_CONFIG: {fault}")
    Greeter(port, config, errors).run()
